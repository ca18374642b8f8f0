"""Which client a checkout has: the digest that every result of the lab is bound to, and that the matrix has, too."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from twinslot_lab.command import ROOT
from twinslot_lab.matrix.reach import digest_of

TESTED: Final = ("bootloader_hooks", "client/twinslot", "systemd")  # as `twinslot_subject` in pyproject.toml says


def client_subject(root: Path = ROOT) -> str:
    """SHA-256 of what a device gets; empty where the lab works without a checkout."""
    parts = [root / each for each in TESTED]
    return digest_of(root, parts) if all(part.exists() for part in parts) else ""
