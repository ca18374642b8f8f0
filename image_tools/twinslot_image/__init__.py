"""Build-host tools: make, sign, inspect and verify update images."""
