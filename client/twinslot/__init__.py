"""Twinslot: signed A/B updates for embedded Linux devices that must not break."""

__version__ = "0.1.0"
