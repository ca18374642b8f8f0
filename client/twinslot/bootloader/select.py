"""From the configuration to the boot loader that it names (`core.loaders.BACKENDS`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from twinslot.bootloader.base import ConfiguredBootloader


class Settings(Protocol):
    """Of the configuration: `[boot]`."""

    @property
    def fw_env_config(self) -> Path: ...  # noqa: D102
    @property
    def default_env(self) -> Path | None: ...  # noqa: D102
    @property
    def fw_setenv(self) -> str: ...  # noqa: D102
    @property
    def executable(self) -> Path | None: ...  # noqa: D102
    @property
    def timeout(self) -> float: ...  # noqa: D102


def open_bootloader(settings: Settings) -> ConfiguredBootloader:
    """The configured backend; nothing is touched until it is asked.

    Raises:
        DeviceError: As for `BootConfig.executable`.
    """
    hook = settings.executable
    if hook is None:
        from twinslot.bootloader.uboot.backend import UBoot

        config, program = settings.fw_env_config, settings.fw_setenv
        return UBoot(config, fw_setenv=program, default_env=settings.default_env, timeout=settings.timeout)
    from twinslot.bootloader.hook import Hook

    return Hook(hook, default_env=settings.default_env, timeout=settings.timeout)
