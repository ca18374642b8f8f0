"""The record: what happened, on the data partition."""
