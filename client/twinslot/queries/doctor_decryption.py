"""What `doctor` looks at of encrypted images: the key that opens them. See `doctor`."""

from __future__ import annotations

import os
from typing import Final

from twinslot.core.errors import DeviceError
from twinslot.crypto.keys import KeyFormError, load_private
from twinslot.queries.diagnosis import Looked, Scene, Severity
from twinslot.queries.doctor_boot import NOT_READABLE
from twinslot.worker.unlock import KEY_MAX, open_private

_SHOWN: Final = 16  # digits of a key id, as the image tool shows them


def decryption_key(scene: Scene) -> Looked:
    """Whether an image that is encrypted for this device could be opened."""
    path = scene.config.decryption.key
    if path is None:
        yield Severity.FINE, "'decryption.key' is not set: encrypted images are refused", ""
        return
    if not scene.is_root:
        yield Severity.UNKNOWN, NOT_READABLE, ""
        return
    try:
        descriptor = open_private(path)
    except DeviceError as e:
        yield Severity.FAULT, str(e).partition(" (hint: ")[0], e.hint or ""
        return
    try:
        key = load_private(os.read(descriptor, KEY_MAX))
    except (KeyFormError, OSError):
        hint = "make one with 'twinslot-image recipients new'"
        yield Severity.FAULT, f"the decryption key '{path}' is no X25519 or P-256 key in PEM without a passphrase", hint
        return
    finally:
        os.close(descriptor)
    yield Severity.FINE, f"images that are encrypted for key {key.public_key.key_id.hex()[:_SHOWN]} can be opened", ""
