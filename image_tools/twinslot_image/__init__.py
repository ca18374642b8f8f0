"""Build-host tools: make, sign, inspect and verify update images."""

from typing import Final

PROGRAM: Final = "twinslot-image"
PASSPHRASE: Final = "TWINSLOT_KEY_PASSPHRASE"  # noqa: S105 - the variable's name
INSTALL: Final = "install 'twinslot[image-tools]', for example with 'pip install'"  # when a library is missing
