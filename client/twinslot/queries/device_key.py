"""What others may know of the device's own key, for any user (`device-key show`); and whether it works (`doctor`)."""

from __future__ import annotations

from typing import Any, Final

from twinslot.config.options import Config
from twinslot.core.errors import DeviceError
from twinslot.queries.diagnosis import Looked, Scene, Severity
from twinslot.queries.doctor_boot import NOT_READABLE
from twinslot.storage.device_key import DeviceKeyFiles

_PROBE: Final = ("application/vnd.twinslot.doctor", b"")  # a signature that says nothing
_NONE: Final = "this device has no key of its own, or no public part of it"
RETIRED: Final = "this device was taken out of service, and its keys were destroyed"
_INIT: Final = "'twinslot device-key init' makes it, or writes its public part anew"


def device_key(config: Config) -> dict[str, Any]:
    """The public part, JSON-ready.

    Raises:
        DeviceError: `device.device-key-missing`: none was made yet; `device.device-key`: it is damaged.
    """
    files = DeviceKeyFiles(config.record.directory, config.device.key)
    public = files.public()
    if public is None:
        hint = "as root, 'twinslot device-key init' makes it, or shows the one that is there"
        raise DeviceError(f"'{files.public_path}' is not there", code="device-key-missing", hint=hint)
    return public.as_dict() | {"made": False}


def device_key_works(scene: Scene) -> Looked:
    """Whether the key signs, and what stands beside it is its public part."""
    from twinslot.trust.device_key import open_device_key, verifies

    if scene.view.retired:
        yield Severity.WARNING, RETIRED, "it takes no update any more; make it anew, as in the factory"
        return
    files = DeviceKeyFiles(scene.config.record.directory, scene.config.device.key)
    try:
        public = files.public()
        if public is None:
            kind = "the public part of the device's key in its token is not written yet" if files.in_token else _NONE
            yield Severity.WARNING, kind, _INIT
        elif not scene.is_root:
            yield Severity.UNKNOWN, f"the device key is {NOT_READABLE}", ""
        elif verifies(public, *_PROBE, open_device_key(files).sign(*_PROBE)):
            yield Severity.FINE, f"the device key signs; its fingerprint is {public.fingerprint}", ""
        else:
            yield Severity.FAULT, f"'{files.public_path}' is the public part of another key", _INIT
    except DeviceError as e:
        yield Severity.FAULT, str(e).partition(" (hint: ")[0], e.hint or ""
