"""Boards, real and emulated, and the pytest fixtures that drive them."""

__version__ = "0.1.0"
