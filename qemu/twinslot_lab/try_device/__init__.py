"""`make try`: a device on this machine, made of loop devices and name spaces, that updates itself and comes back."""
