"""Making the device's own key: the one change of a device that no update needs and no update waits for."""

from __future__ import annotations

from typing import Any

from twinslot.config.options import Config
from twinslot.core.events import AuditEvent
from twinslot.core.origin import Origin
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.system.caller import this_process
from twinslot.system.journal import write_line
from twinslot.trust.device_key import DeviceKey, make_device_key, open_device_key


def this_device_key(config: Config) -> DeviceKey:
    """The key of this device, for a process that parses nothing from outside (S22).

    Raises:
        DeviceError: `device.device-key-missing`, `device.device-key`, `device.device-key-rights`.
    """
    return open_device_key(DeviceKeyFiles(config.record.directory, config.device.key))


def made_device_key(config: Config, origin: Origin | None) -> dict[str, Any]:
    """The public part of the key, which is made now if there is none; JSON-ready, with whether it was `made`.

    Raises:
        DeviceError: `device.device-key`, `device.device-key-rights`.
    """
    key, made = make_device_key(DeviceKeyFiles(config.record.directory, config.device.key))
    if made:
        asked = origin or this_process()
        fingerprint = key.public.fingerprint
        write_line(AuditEvent.DEVICE_KEY_MADE, {"fingerprint": fingerprint, "origin": asked.as_dict()})
    return key.public.as_dict() | {"made": made}
