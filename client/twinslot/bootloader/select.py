"""Which boot loaders there are: a table of names, each with how it is reached. A new one is a hook and a row here.

A boot loader beside U-Boot is always an executable (bootloader_hooks/README.md): the deadline, which needs no Python,
must reach it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from twinslot.core.errors import DeviceError

if TYPE_CHECKING:
    from twinslot.bootloader.base import ConfiguredBootloader

HOOKS: Final = Path("/usr/lib/twinslot/hooks")  # where the packaged ones are installed (client/install.mk)


class Settings(Protocol):
    """Of the configuration: `[boot]`."""

    @property
    def backend(self) -> str: ...  # noqa: D102
    @property
    def fw_env_config(self) -> Path: ...  # noqa: D102
    @property
    def default_env(self) -> Path | None: ...  # noqa: D102
    @property
    def fw_setenv(self) -> str: ...  # noqa: D102
    @property
    def hook(self) -> Path | None: ...  # noqa: D102
    @property
    def timeout(self) -> float: ...  # noqa: D102


def _packaged(name: str) -> Callable[[Settings], Path | None]:
    """A hook of ours, known by its name; `boot.hook` names another place for it."""
    return lambda settings: settings.hook or HOOKS / name


# `boot.backend` -> the executable that reaches the boot loader; none: U-Boot's own tools.
BACKENDS: Final[Mapping[str, Callable[[Settings], Path | None]]] = {
    "uboot": lambda _: None,
    "hook": lambda settings: settings.hook,
    "two-files": _packaged("two-files"),
    "grub-once": _packaged("grub-once"),
}


def hook_of(settings: Settings) -> Path | None:
    """The executable that reaches the configured boot loader; None: U-Boot's own tools.

    Raises:
        DeviceError: `device.config-missing`: the hook backend without a hook.
    """
    hook = BACKENDS[settings.backend](settings)
    if hook is None and settings.backend == "hook":
        raise DeviceError("'boot.backend' is 'hook' but 'boot.hook' names no executable", code="config-missing")
    return hook


def open_bootloader(settings: Settings) -> ConfiguredBootloader:
    """The configured backend; nothing is touched until it is asked.

    Raises:
        DeviceError: As for `hook_of`.
    """
    hook = hook_of(settings)
    if hook is None:
        from twinslot.bootloader.uboot.backend import UBoot

        config, program = settings.fw_env_config, settings.fw_setenv
        return UBoot(config, fw_setenv=program, default_env=settings.default_env, timeout=settings.timeout)
    from twinslot.bootloader.hook import Hook

    return Hook(hook, default_env=settings.default_env, timeout=settings.timeout)
