"""A board in memory that behaves: it boots, counts tries, tears writes and loses what was not flushed."""
