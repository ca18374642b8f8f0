"""The binary parts of a patch, declared once (docs/patch-format.md sections 2 and 3)."""

from __future__ import annotations
