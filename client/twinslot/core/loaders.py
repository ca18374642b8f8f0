"""Which boot loaders there are: a table of names, each with how it is reached. A new one is a hook and a row here.

A boot loader beside U-Boot is always an executable (bootloader_hooks/README.md): the deadline, which needs no Python,
must reach it as well.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class Reach(enum.Enum):
    """How the client reaches a boot loader."""

    TOOLS = enum.auto()  # U-Boot's own
    CONFIGURED = enum.auto()  # a hook of the product's, which 'boot.hook' names
    PACKAGED = enum.auto()  # a hook of ours, known by its name; 'boot.hook' names another place for it


BACKENDS: Final[Mapping[str, Reach]] = {  # by the word of 'boot.backend'
    "uboot": Reach.TOOLS,
    "hook": Reach.CONFIGURED,
    "two-files": Reach.PACKAGED,
    "grub-once": Reach.PACKAGED,
}
