"""One module for each kind of verb."""
