"""Boards, real and emulated, and the pytest fixtures that drive them."""
