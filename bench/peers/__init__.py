"""The programs that are measured, one module each; see `base` for what each says of itself."""
