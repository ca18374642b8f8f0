"""The command line `twinslot`."""
