"""Crash states: every disk that a power cut could have left behind, checked without booting (docs/safety.md)."""
