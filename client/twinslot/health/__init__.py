"""Is the new system well?"""
