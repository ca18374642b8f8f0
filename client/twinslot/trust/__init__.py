"""Whose word counts: keys, roles, thresholds, and the answer of the trust process."""
