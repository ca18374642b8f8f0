"""The service's half of the bus."""
