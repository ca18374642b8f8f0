"""Refreshing what a repository says: which release there is for this device."""

STATE_FILE = "repository.json"  # beside the record, once a repository was asked; see state.py
