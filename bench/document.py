"""Placeholder."""

from pathlib import Path
from typing import Any


def write(told: dict[str, Any], directory: Path) -> None:
    """x."""
