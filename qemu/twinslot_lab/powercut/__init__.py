"""Real power cuts: QEMU killed at drawn moments of an update, and the guest asked afterwards what it is."""
