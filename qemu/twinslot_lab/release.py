"""A release team for tests: keys, systems with small differences, signed images of them.

Everything is made by the project's own tools (`debian/build.sh`, `twinslot-image`) and cached by what it is made of.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from twinslot.core.model import SlotName
from twinslot_image.cli import main as image_tool
from twinslot_image.factory.board import FactoryBoard
from twinslot_image.factory.device import make_device
from twinslot_image.factory.layout import ROOT_PAYLOAD
from twinslot_lab import rootfs, uboot
from twinslot_lab.build import BoardFiles, make_slot, vars_of
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.command import BUILD, ROOT, cause, run, run_logged, scratch
from twinslot_lab.description import BoardDescription, load
from twinslot_lab.errors import BuildError, as_build_error
from twinslot_lab.progress import part, step
from twinslot_lab.rootfs import Overlay

PRODUCT = ROOT / "qemu" / "product"
_EPOCH = 1700000000  # seconds; nothing in a factory image is of the build's moment
_DEADLINE = 600  # seconds; as in qemu/product
ROLES = ("engineering", "clinical")
_DESCRIPTION = """
product = "Twinslot demonstration pump"
release = "{name}"
sequence = {sequence}
epoch = {epoch}
type = "feature"
compatible = ["{compatible}"]
checks = {checks}
architecture = "{architecture}"
trust = "{keys}"
[payloads.rootfs]
file = "slot.img"
{kind}
[attachments."release-notes.md"]
file = "notes.md"
"""

Change = Callable[[Path], None]


@dataclass(frozen=True)
class LabRelease:
    """One release of the emulated product.

    Attributes:
        name: For people, for example `2.0`.
        sequence: Orders releases.
        motor: What the motor controller answers; anything but `ready` fails the health check.
        epoch: Security epoch.
        change: Further changes to the root file system.
        marker: Names `change` for the cache; needed with it.
    """

    name: str
    sequence: int
    motor: str = "ready"
    epoch: int = 0
    change: Change | None = None
    marker: str = ""

    def apply(self, tree: Path) -> None:
        """Make the tree this release."""
        (tree / "usr/lib/product").mkdir(parents=True)
        (tree / "usr/lib/product/motor").write_text(self.motor + "\n")
        (tree / "usr/lib/product/release").write_text(f"{self.name}\n")
        if self.change is not None:
            self.change(tree)


@dataclass(frozen=True, slots=True)
class Image:
    """A signed image and what it holds."""

    release: LabRelease
    path: Path
    slot: Path

    @property
    def digest(self) -> str:
        """SHA-256 of the slot image, 64 hex digits."""
        return hashlib.sha256(self.slot.read_bytes()).hexdigest()

    def content(self, payload: str) -> Path:
        """What was packed as a payload; the slot image is the root file system."""
        return self.slot if payload == ROOT_PAYLOAD else self.path.with_name(f"{payload}.img")


class ReleaseTeam:
    """Builds releases for one board.

    Args:
        board: Name of the board.
    """

    def __init__(self, board: str = "virt-arm64") -> None:
        self.board: BoardDescription = load(board)
        self.roles: tuple[str, ...] = ROLES
        self.compatible = f"twinslot,{self.board.name}"
        self.checks: tuple[str, ...] = ("10-pump-motor",)

    @property
    def deb(self) -> Path:
        """The client's Debian package, built from this checkout."""
        return _package()

    @functools.cached_property
    def keys(self) -> Path:
        """Keys of the team: one for each role; made once, for this machine only."""

        def make(work: Path) -> None:
            _tool("keys", "init", str(work / "keys"), "--roles", ",".join(self.roles))

        return cached("lab-keys", fingerprint(*self.roles), make) / "keys"

    def factory(self, release: LabRelease) -> BoardFiles:
        """A board that leaves the factory with this release in slot a, its record and its environment set."""
        image = self.image(release)
        firmware = uboot.build(self.board)

        def make(work: Path) -> None:
            built = datetime.fromtimestamp(_EPOCH, UTC)
            shutil.copy(image.slot, work / "slot.img")
            shutil.copy(firmware, work / self.board.firmware.image)
            layout, root = self.board.layout, (self.keys / "1.root.json").read_bytes()
            board = FactoryBoard(layout, firmware if layout.firmware_at is not None else None, None)
            with as_build_error(), tempfile.TemporaryDirectory(dir=work) as folder:
                make_device(image.path, board, root, work / "disk.img", work / "card.img", Path(folder), built)

        return BoardFiles(
            self.board, cached("factory", fingerprint(str(firmware), str(image.path), vars_of(self.board), 3), make)
        )

    def image(self, release: LabRelease) -> Image:
        """A signed image of the release; from the cache or built (half a minute)."""

        def make(work: Path) -> None:
            with part(f"release {release.name}: root file system"):
                self._slot(release, work)
            (work / "notes.md").write_text(f"# Release {release.name}\n\nThe motor says '{release.motor}'.\n")
            self._pack(release, work)

        folder = cached("release", self._key(release), make)
        return Image(release, folder / "image.twin", folder / "slot.img")

    def raw_image(self, release: LabRelease, content: bytes) -> Image:
        """A signed image of any bytes, which nothing can start; its release's changes do not matter."""

        def make(work: Path) -> None:
            (work / "slot.img").write_bytes(content)
            (work / "notes.md").write_text("# Not a system\n")
            self._pack(release, work, 'check = "none"')

        digest = hashlib.sha256(content).hexdigest()
        folder = cached("release", fingerprint(self._key(release), digest), make)
        return Image(release, folder / "image.twin", folder / "slot.img")

    def with_payload(self, release: LabRelease, name: str, content: bytes) -> Image:
        """A signed image of the release with a second payload of any bytes beside its root file system."""
        slot = self.image(release).slot

        def make(work: Path) -> None:
            (work / "slot.img").hardlink_to(slot)
            (work / f"{name}.img").write_bytes(content)
            (work / "notes.md").write_text(f"# Release {release.name}, with {name}\n")
            self._pack(release, work, f'[payloads.{name}]\nfile = "{name}.img"\ncheck = "none"')

        digest = hashlib.sha256(content).hexdigest()
        folder = cached("release", fingerprint(self._key(release), name, digest), make)
        return Image(release, folder / "image.twin", folder / "slot.img")

    def _pack(self, release: LabRelease, work: Path, kind: str = "") -> None:
        """Build and sign `image.twin` of what is in the folder."""
        description = _DESCRIPTION.format(
            name=release.name,
            sequence=release.sequence,
            epoch=release.epoch,
            compatible=self.compatible,
            checks=json.dumps(self.checks),
            architecture=self.board.system.architecture,
            keys=self.keys,
            kind=kind,
        )
        (work / "image.toml").write_text(description)
        _tool("build", str(work / "image.toml"), "-o", str(work / "image.twin"))
        for role in self.roles:
            (key,) = (self.keys / "private").glob(f"{role}.*.pem")
            _tool("sign", str(work / "image.twin"), "--role", role, "--key", str(key))

    def _slot(self, release: LabRelease, work: Path) -> Path:
        with scratch(work) as place:
            tree = place / "tree"
            run("cp", "-a", "--reflink=auto", self._product_tree(), tree)
            for overlay in self._layers(release):
                rootfs.apply_overlay(overlay, tree)
            return make_slot(self.board, tree, work / "slot.img")

    def _layers(self, release: LabRelease) -> tuple[Overlay, ...]:
        """What comes over the system with the client's package, in this order."""
        return PRODUCT, self._install_root, release.apply

    def _product_tree(self) -> Path:
        """The system with the client's package installed, as dpkg does it; shared by all releases."""

        def make(work: Path) -> None:
            settings = functools.partial(_configure_product, self.board)
            rootfs.build_rootfs(self.board, work / "tree", debs=[self.deb], overlays=[settings])

        return cached(f"product-{self.board.name}", self._system_key(), make) / "tree"

    def _system_key(self) -> str:
        deb = hashlib.sha256(self.deb.read_bytes()).hexdigest()
        return fingerprint(str(rootfs.system_tree(self.board)), deb, Path(rootfs.__file__), *settings_of(self.board))

    def _install_root(self, tree: Path) -> None:
        shutil.copyfile(self.keys / "1.root.json", tree / "usr/lib/twinslot/root.json")
        drop_ins = tree / "usr/lib/twinslot/config.d"
        drop_ins.mkdir(exist_ok=True)
        built = datetime.fromtimestamp(_EPOCH, UTC).isoformat()
        (drop_ins / "10-build.toml").write_text(f"[trust]\nbuild_time = {built}\n")

    def _key(self, release: LabRelease) -> str:
        if (release.change is None) != (not release.marker):
            raise BuildError(f"release '{release.name}' needs a marker for its change")
        what = [release.name, release.sequence, release.motor, release.epoch, release.marker]
        return fingerprint(what, self._system_key(), self.keys / "1.root.json", PRODUCT, Path(__file__))


@functools.cache
def _package() -> Path:
    out = BUILD / "deb"
    with step("build the client's package"):
        run_logged(BUILD / "log" / "deb.log", ROOT / "debian" / "build.sh", out)
    packages = sorted(out.glob("twinslot_*.deb"), key=lambda path: path.stat().st_mtime)
    if not packages:
        raise BuildError("debian/build.sh made no package")
    return packages[-1]


def settings_of(board: BoardDescription) -> tuple[str, str]:
    """What the board's description says of the product: configuration (docs/config.md) and deadline unit.

    Where the board is no slower than others, the product's own words about deadlines stand.
    """
    lines = ["[device]", f'compatible = "twinslot,{board.name}"']
    for slot in SlotName:
        lines += [f"[slots.{slot.value}]", f'rootfs = "{board.disk.device(f"slot_{slot.value}")}"']
    if board.quirks.timeout_factor == 1:
        return "\n".join(lines) + "\n", ""
    seconds = _DEADLINE * board.quirks.timeout_factor
    lines += ["[trial]", f"deadline = {seconds}"]
    return "\n".join(lines) + "\n", f"TWINSLOT_DEADLINE={seconds}\n"


def _configure_product(board: BoardDescription, tree: Path) -> None:
    """Into /etc, which counts before what the product ships in /usr/lib."""
    etc = tree / "etc" / "twinslot"
    (etc / "config.d").mkdir(parents=True, exist_ok=True)
    configuration, deadline = settings_of(board)
    (etc / "config.d" / "20-board.toml").write_text(configuration)
    if deadline:
        (etc / "deadline.env").write_text(deadline)


def _tool(*arguments: str) -> None:
    said = io.StringIO()
    with part("image and signatures"), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = image_tool(["--quiet", *arguments])
    if status:
        what = f"'twinslot-image {arguments[0]}' ended with status {status}"
        raise BuildError(f"{what}: {cause(said.getvalue())}", output=said.getvalue())
