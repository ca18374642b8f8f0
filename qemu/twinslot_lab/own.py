"""The reader's own device on one of the lab's machines: their root file system, our firmware, disk and keys.

    name = "pump"
    kind = "emulated"
    like = "virt-arm64"         # whose machine, firmware and place of the environment
    root = "rootfs"             # the root file system: a directory or a tar file
    overlays = ["test-files"]   # optional: directories copied over it
    slot_mib = 512              # optional: size of a slot, MiB
    data_mib = 256              # optional: size of the data partition, MiB

Paths are relative to the file.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twinslot.config.options import Config
from twinslot.config.options import load as load_configuration
from twinslot.core.errors import TwinslotError
from twinslot_image.factory.layout import DiskLayout
from twinslot_lab import kernel, rootfs
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.command import run
from twinslot_lab.description import BoardDescription, load
from twinslot_lab.errors import BuildError, LabError
from twinslot_lab.release import LabRelease, ReleaseTeam
from twinslot_lab.rootfs import ROOTFS, Overlay
from twinslot_lab.uboot import initial_environment

_NEEDED = {"name", "kind", "like", "root"}
_OPTIONAL: dict[str, object] = {"overlays": [], "slot_mib": 0, "data_mib": 0}
_AGENT = "twinslot-lab-agent.service"
_CONFIGURED = ("usr/lib/twinslot", "etc/twinslot")  # what the device ships with, and what counts before it


@dataclass(frozen=True, slots=True)
class OwnDevice:
    """The file, read. `board` is the machine that it is like, with the disk that it asks for."""

    name: str
    board: BoardDescription
    root: Path
    overlays: tuple[Path, ...]


def parse(data: dict[str, Any], folder: Path) -> OwnDevice:
    """Check and convert the TOML data of a file in this folder.

    Raises:
        LabError: A key is missing or unknown, or a path leads nowhere.
    """
    odd = (_NEEDED - set(data)) | (set(data) - _NEEDED - set(_OPTIONAL))
    if odd:
        raise LabError(f"the board has unknown or missing keys: {', '.join(sorted(odd))}")
    values: dict[str, Any] = _OPTIONAL | data
    board = load(values["like"])
    disk = board.disk
    sizes = DiskLayout(int(values["slot_mib"]) or disk.slot_mib, int(values["data_mib"]) or disk.data_mib)
    paths = [folder / values["root"], *(folder / overlay for overlay in values["overlays"])]
    for path in paths:
        if not path.exists():
            raise LabError(f"there is no '{path}'", hint="paths in a board's file are relative to it")
    return OwnDevice(str(values["name"]), replace(board, disk=sizes), paths[0], tuple(paths[1:]))


class OwnTeam(ReleaseTeam):
    """Builds and signs releases of the reader's device, with keys that this lab made.

    The images are those of the reader's tree but for: our keys instead of theirs, the lab's agent, where the
    environment stands on this machine, and a kernel if the tree has none.

    Args:
        device: Whose.
    """

    def __init__(self, device: OwnDevice) -> None:
        super().__init__(device.board.name)
        self.board = device.board
        self._device = device
        self.checks = ()
        config = self._config()
        self.compatible = config.device.compatible[0]
        self.roles = config.trust.roles

    def _config(self) -> Config:
        """The product's configuration, as the client reads it: what it is, and who signs for it."""
        with tempfile.TemporaryDirectory(prefix="config-") as place:
            for source in (self._plain(), *self._device.overlays):
                for folder in _CONFIGURED:
                    _copy_configuration(source / folder, Path(place) / folder)
            try:
                return load_configuration(place)
            except TwinslotError as e:
                raise BuildError(f"'{self._device.root}': {e}", hint="docs/guide-device.md tells what goes in") from e

    @functools.cache  # noqa: B019 - one team for each session
    def _plain(self) -> Path:
        """The root file system as a directory."""
        root = self._device.root
        if root.is_dir():
            return root.resolve()

        def make(work: Path) -> None:
            (work / "tree").mkdir()
            run("tar", "-C", work / "tree", "-xf", root)

        return cached(f"own-root-{self._device.name}", fingerprint(root), make) / "tree"

    def _product_tree(self) -> Path:
        def make(work: Path) -> None:
            tree = work / "tree"
            run("cp", "-a", "--reflink=auto", self._plain(), tree)
            overlays: tuple[Overlay, ...] = (*self._device.overlays, rootfs.install_agent, self._fit)
            for overlay in overlays:
                rootfs.apply_overlay(overlay, tree)
            for file in tree.rglob("*.pyc"):
                rootfs.make_bytecode_independent(file)

        return cached(f"own-{self._device.name}", self._system_key(), make) / "tree"

    @functools.cache  # noqa: B019
    def _system_key(self) -> str:
        disk = self.board.disk
        code = [Path(__file__), Path(rootfs.__file__), ROOTFS / "lab", self.board.hooks]
        return fingerprint(self.board.name, disk.slot_mib, disk.data_mib, self._plain(), *self._device.overlays, *code)

    def _layers(self, release: LabRelease) -> tuple[Overlay, ...]:
        return self._install_root, lambda tree: _apply(release, tree)

    def _fit(self, tree: Path) -> None:
        """What belongs to this machine, and the kernel if there is none."""
        wants = tree / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / _AGENT).unlink(missing_ok=True)
        (wants / _AGENT).symlink_to(f"/etc/systemd/system/{_AGENT}")
        (tree / "etc/fw_env.config").write_text(self.board.environment.fw_env_config)
        (tree / "etc/u-boot-initial-env").write_text(initial_environment(self.board))
        if not (tree / "boot/vmlinuz").exists():
            scratch = tree.parent / "kernel"
            scratch.mkdir()
            kernel.install(self.board, tree, scratch)
            shutil.rmtree(scratch)


def _copy_configuration(source: Path, out: Path) -> None:
    for file in [source / "config.toml", *source.glob("config.d/*.toml")]:
        if file.is_file():
            (out / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, out / file.relative_to(source))


def _apply(release: LabRelease, tree: Path) -> None:
    if release.change is not None:
        release.change(tree)
    place = tree / "usr/lib/twinslot/release"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"{release.name}\n")
