"""The engine: the only place where the table meets the world."""
