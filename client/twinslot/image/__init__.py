"""The update image and the files beside it: bytes in, checked objects out."""
