"""Making the device's own key: the one change of a device that no update needs and no update waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twinslot.config.options import Config
from twinslot.core.errors import DeviceError
from twinslot.core.events import AuditEvent
from twinslot.core.origin import Origin
from twinslot.core.pkcs11_uri import is_pkcs11
from twinslot.engine.facts import open_record
from twinslot.engine.recover import out_of_service
from twinslot.engine.retire import RetirePlan
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.system.caller import this_process
from twinslot.system.journal import write_line
from twinslot.trust.device_key import DeviceKey, make_device_key, open_device_key


def retire_plan(config: Config) -> RetirePlan:
    """What goes when the device is taken out of service."""
    named = [config.http.client_key, config.decryption.key, config.device.key]
    files = [Path(key) for key in named if key and not is_pkcs11(key)]
    own = None if config.device.key else DeviceKeyFiles(config.record.directory, config.device.key).key
    tokens = [key for key in named if is_pkcs11(key)]
    return RetirePlan(config.record.directory, own, files, tokens, [Path(path) for path in config.retire.erase])


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
        RefusedError: `refused.retired`: the device was taken out of service, and its key is gone on purpose.
    """
    files = DeviceKeyFiles(config.record.directory, config.device.key)
    if not files.in_token and files.private() is None and _is_retired(config):
        raise out_of_service()
    key, made = make_device_key(files)
    if made:
        asked = origin or this_process()
        fingerprint = key.public.fingerprint
        write_line(AuditEvent.DEVICE_KEY_MADE, {"fingerprint": fingerprint, "origin": asked.as_dict()})
    return key.public.as_dict() | {"made": made}


def _is_retired(config: Config) -> bool:
    """The record alone is asked: this process reaches no boot environment. A device without a record makes its key."""
    try:
        record = open_record(config)
    except DeviceError:
        return False
    try:
        return record.is_retired()
    finally:
        record.close()
