"""A caller's half of the bus."""
