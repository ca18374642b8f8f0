"""Refreshing what a repository says: which release there is for this device."""
