"""U-Boot's redundant environment."""
