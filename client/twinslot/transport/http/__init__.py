"""Bytes over HTTP(S), whatever the network does."""
