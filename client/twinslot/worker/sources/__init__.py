"""Groups that need not be fetched: made of what the device runs and of a file beside the image."""
