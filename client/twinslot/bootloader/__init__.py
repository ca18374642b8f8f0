"""The boot environment, behind one protocol."""
