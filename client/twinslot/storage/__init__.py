"""Block devices, the writer and the record."""
