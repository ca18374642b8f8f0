"""Which boot loader backend the configuration asks for."""

from __future__ import annotations

from twinslot.bootloader.base import Bootloader
from twinslot.bootloader.hook import Hook
from twinslot.bootloader.uboot.backend import UBoot
from twinslot.config.options import Boot
from twinslot.core.errors import DeviceError


def open_bootloader(config: Boot) -> Bootloader:
    """The configured backend; nothing is touched until it is asked.

    Raises:
        DeviceError: `device.config-missing`: the hook backend without a hook.
    """
    if config.backend == "uboot":
        return UBoot(
            config.fw_env_config, fw_setenv=config.fw_setenv, default_env=config.default_env, timeout=config.timeout
        )
    if config.hook is None:
        raise DeviceError("'boot.backend' is 'hook' but 'boot.hook' names no executable", code="config-missing")
    return Hook(config.hook, default_env=config.default_env, timeout=config.timeout)
