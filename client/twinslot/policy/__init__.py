"""What stands against a step of an update beside the update itself, looked up on this device."""
