"""A payload that is the content of one partition of the target slot."""
