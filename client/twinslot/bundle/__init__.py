"""The update image: bytes in, checked objects out."""
