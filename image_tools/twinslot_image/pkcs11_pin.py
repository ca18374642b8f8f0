"""Where the PIN of a token comes from: a file, the environment, or whoever sits at the terminal. Never an argument."""

from __future__ import annotations

import getpass
import sys
from dataclasses import dataclass, field
from pathlib import Path

from twinslot.core.errors import DeviceError
from twinslot.core.pkcs11_uri import Pkcs11Uri
from twinslot_image import PIN
from twinslot_image.named_file import read_small


@dataclass(frozen=True, slots=True)
class Pins:
    """Where a PIN comes from when the URI names no file.

    Attributes:
        given: What stood in the variable.
        asked: What the user said before, by token: nobody is asked twice, and no wrong PIN is tried twice.
    """

    given: bytes | None = field(default=None, repr=False)
    asked: dict[str, str] = field(default_factory=dict, repr=False)

    def of(self, uri: Pkcs11Uri) -> str:
        """The PIN for this token.

        Raises:
            DeviceError: `device.pkcs11-pin`: there is none, and no terminal to ask at.
        """
        if uri.pin_file is not None:
            return read_small(Path(uri.pin_file)).decode(errors="replace").rstrip("\r\n")
        if self.given is not None:
            return self.given.decode(errors="replace")
        name = uri.token_name
        if name not in self.asked:
            self.asked[name] = _ask(name)
        return self.asked[name]


def _ask(token: str) -> str:
    if not sys.stdin.isatty():
        hint = f"set {PIN}, or add '?pin-source=file:/...' to the URI"
        raise DeviceError(f"the PIN of the token with {token} is not known", code="pkcs11-pin", hint=hint)
    return getpass.getpass(f"PIN of the token with {token}: ")
