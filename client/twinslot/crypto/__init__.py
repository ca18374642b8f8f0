"""What encrypted images need of cryptography: recipients' keys, the wrapped content key, and units."""
