"""What must be there, and how it must stand, before an image is built or signed: the table `[policy]` of image.toml."""
