"""The configuration of a device: its keys, the files they come from, its manual."""
