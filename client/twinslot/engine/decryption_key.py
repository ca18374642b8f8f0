"""Making the key that opens encrypted images: on the device, so that nobody else ever has it."""

from __future__ import annotations

from pathlib import Path

from twinslot.config.options import Config
from twinslot.core.errors import DeviceError
from twinslot.core.pkcs11_uri import is_pkcs11
from twinslot.crypto.keys import KINDS, make_private
from twinslot.storage.key_file import forget_fresh, place


def make_decryption_key(config: Config) -> bool:
    """Make an X25519 key at `decryption.key` where there is no file; whether it was made. A token's is made elsewhere.

    Raises:
        DeviceError: `device.decryption-key`: it is not configured, or cannot be written.
    """
    where = config.decryption.key
    if not where:
        what, hint = "it is not said where the decryption key goes", "set '[decryption] key'"
        raise DeviceError(what, code="decryption-key", hint=hint)
    if is_pkcs11(where):
        return False
    try:
        if Path(where).exists():
            return False
        made = place(Path(where), make_private(KINDS["x25519"]).pem())
        forget_fresh(Path(where))
    except OSError as e:
        what, hint = f"the decryption key '{where}' cannot be written", "is its partition mounted and writable?"
        raise DeviceError(what, code="decryption-key", found=e.strerror or e, hint=hint) from e
    return made
