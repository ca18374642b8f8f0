"""Build-host tools: make, sign, inspect and verify update images."""

from typing import Final

__version__ = "0.1.0"

PROGRAM: Final = "twinslot-image"
PASSPHRASE: Final = "TWINSLOT_KEY_PASSPHRASE"  # noqa: S105 - the variable's name
PIN: Final = "TWINSLOT_KEY_PIN"
# When a library is missing.
INSTALL: Final = "install 'twinslot-image' with all that it depends on, for example with 'pip install'"
