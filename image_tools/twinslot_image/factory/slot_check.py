"""Holds a slot image to the board that it goes on: its own configuration must find what manufacture writes.

A device whose fw_env.config points beside its environment, or that trusts another root than the release team's, starts
once and takes no update for ever. Here it costs a message.
"""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from twinslot.bootloader.uboot.rawenv import parse_config
from twinslot.config.options import Config
from twinslot.config.options import load as load_config
from twinslot.core.errors import Refusal, TwinslotError
from twinslot.core.manifest import Manifest
from twinslot.core.model import SlotName
from twinslot_image.factory.layout import DeviceLayout
from twinslot_image.fs_tree import Tree

_CONFIGURED: Final = ("usr/lib/twinslot", "etc/twinslot")  # what a device ships with, and what counts before it
_SMALL: Final = 1 << 20  # bytes of a configuration file or a document


def read_config(tree: Tree) -> Config:
    """The configuration of the client in a root file system, as the client itself reads it.

    Raises:
        DeviceError: `device.config-*`: there is none, or it is wrong.
        ImageError: The file system is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="twinslot-") as place:
        for folder in _CONFIGURED:
            for name in ["config.toml", *(f"config.d/{each}" for each in _drop_ins(tree, folder))]:
                content = read_file(tree, f"{folder}/{name}")
                if content is not None:
                    (Path(place) / folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (Path(place) / folder / name).write_bytes(content)
        return load_config(place)


def _drop_ins(tree: Tree, folder: str) -> list[str]:
    names = (name.decode("utf-8", "replace") for name in tree.names_in(f"{folder}/config.d"))
    return sorted(name for name in names if name.endswith(".toml"))


def read_file(tree: Tree, path: str) -> bytes | None:
    """The first MiB of a file; None where there is none."""
    node = tree.look_up(path)
    return tree.open(node).read(_SMALL) if node is not None and stat.S_ISREG(node.mode) else None


def disagreements(
    tree: Tree, config: Config, layout: DeviceLayout, root: bytes, manifest: Manifest
) -> Iterator[Refusal]:
    """Every reason why this system would not find what it needs on this board.

    Args:
        tree: The root file system.
        config: Its configuration (`read_config`).
        layout: The board.
        root: The root document of the release team.
        manifest: Of the image that is to go on it.
    """
    hint = "correct the configuration in the root file system, or the description of the board"
    if read_file(tree, str(config.trust.root)) != root:
        what = "the system trusts another root document than the one that was given"
        yield Refusal("factory-root", what, "the same bytes", f"'{config.trust.root}' in the image", hint)
    if not set(config.device.compatible) & set(manifest.compatible):
        what = "the system is no device that the image is for"
        yield Refusal("factory-config", what, ", ".join(manifest.compatible), ", ".join(config.device.compatible), hint)
    for slot in SlotName:
        devices = {payload: str(device) for payload, device in config.slots.of(slot).items()}
        wanted = {payload: layout.disk.device(name) for payload, name in layout.disk.names_of(slot).items()}
        if devices != wanted and not _by_another_name(devices, wanted):
            what = f"'[slots]' of the system has other partitions for slot {slot} than the board"
            yield Refusal("factory-config", what, _shown(wanted), _shown(devices), hint)
    yield from _environment(tree, config, layout, hint)


def _environment(tree: Tree, config: Config, layout: DeviceLayout, hint: str) -> Iterator[Refusal]:
    path = config.boot.fw_env_config
    text = read_file(tree, str(path))
    try:
        found = parse_config((text or b"").decode(errors="replace"), str(path))
    except TwinslotError as e:
        yield Refusal("factory-config", f"'{path}' of the system: {e.message}", None, str(e.found or ""), hint)
        return
    if sorted((place.offset, place.size) for place in found) != sorted(
        (place.offset, place.size) for place in layout.environment.places
    ):
        what = f"'{path}' of the system has the environment elsewhere"
        yield Refusal("factory-config", what, _places(layout.environment.places), _places(found), hint)


def _places(places: tuple[object, ...]) -> str:
    return " and ".join(map(str, places))


def _by_another_name(devices: dict[str, str], wanted: dict[str, str]) -> bool:
    """The same payloads on devices that only a running system can compare, such as /dev/mmcblk0p1."""
    same = devices.keys() == wanted.keys()
    return same and not any(device.startswith("/dev/disk/by-part") for device in devices.values())


def _shown(devices: dict[str, str]) -> str:
    return ", ".join(f"{payload} = {device}" for payload, device in sorted(devices.items()))
