"""The releases of the device: small trees with the real client in them, as signed images with patches beside them.

All of it is made by `twinslot-image`, with keys that are made for the occasion and go away with it.
"""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import io
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

import twinslot
from twinslot_image.cli import main as image_tool
from twinslot_lab.command import run
from twinslot_lab.crash.bootmodel import DEFAULT
from twinslot_lab.errors import BuildError
from twinslot_lab.try_device.media import CARD_SIZE, DATA_SIZE, SLOT_SIZE, Media

TREE: Final = Path(__file__).with_name("tree")
ROLES: Final = ("engineering", "clinical")
CHECK: Final = "10-pump-motor"
_DIRECTORIES: Final = (
    *("dev", "proc", "sys", "run", "tmp", "root", "usr", "etc/alternatives"),
    *("opt/venv", "opt/product/phrases", "var/lib/twinslot"),
)
_PHRASES: Final = 24  # files of spoken words, as a product has them: what does not compress and seldom changes
_PHRASE_SIZE: Final = 512 << 10  # bytes
_EPOCH: Final = "1700000000"  # seconds; fixed, so that releases differ in their content only
_UUID: Final = "00000000-0000-4000-8000-000000000001"
_IMAGE: Final = """
product = "Twinslot pump on a PC"
release = "{name}"
sequence = {sequence}
compatible = ["twinslot,try"]
checks = ["{check}"]
trust = "keys"
[payloads.rootfs]
file = "{name}.img"
check = "none"
"""


@dataclass(frozen=True, slots=True)
class TryRelease:
    """One release.

    Attributes:
        name: For people.
        sequence: Orders releases.
        phrases: The numbers of the files of spoken words that are new in it.
        motor: What the motor controller answers; anything but `ready` fails the health check.
        patch_from: The release for whose devices a patch is made; empty: none.
    """

    name: str
    sequence: int
    phrases: tuple[int, ...] = ()
    motor: str = "ready"
    patch_from: str = ""

    @property
    def new_bytes(self) -> int:
        """Bytes of the phrases that are new in it."""
        return len(self.phrases) * _PHRASE_SIZE


FACTORY: Final = TryRelease("1.0", 10)
GOOD: Final = TryRelease("2.0", 20, phrases=(3,), patch_from="1.0")
BAD: Final = TryRelease("3.0", 30, motor="stuck", patch_from="2.0")
LARGE: Final = TryRelease("4.0", 40, phrases=tuple(range(8, 24)))
NEXT: Final = TryRelease("5.0", 50, phrases=(5, 6), patch_from="4.0")
NEXT_BAD: Final = TryRelease("6.0", 60, phrases=(7,), motor="stuck", patch_from="5.0")
NEXT_LARGE: Final = TryRelease("7.0", 70, phrases=tuple(range(24)))
STORY: Final = (FACTORY, GOOD, BAD, LARGE)
PLAY: Final = (NEXT, NEXT_BAD, NEXT_LARGE)  # for the shell, on a device that runs LARGE


class TryTeam:
    """Makes releases, in their order, in a folder that it fills.

    Args:
        folder: Of its own; `served` in it is what a web server shows.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._tree = folder, folder / "tree"
        self.served = folder / "served"
        self.served.mkdir(parents=True)
        with _quiet():
            _tool("keys", "init", str(folder / "keys"), "--roles", ",".join(ROLES))
        self._plant()

    def make(self, release: TryRelease) -> Path:
        """Build and sign one, and the patch that it has; returns the image.

        Raises:
            BuildError: A tool refused.
        """
        (self._tree / "opt/product/release").write_text(f"{release.name}\n")
        (self._tree / "opt/product/motor").write_text(f"{release.motor}\n")
        for number in release.phrases:
            self._speak(number, release.name)
        make_ext4(self.slot(release), SLOT_SIZE, self._tree, "^has_journal")
        description = self._folder / f"{release.name}.toml"
        description.write_text(_IMAGE.format(name=release.name, sequence=release.sequence, check=CHECK))
        image = self.served / f"{release.name}.twin"
        with _quiet():
            _tool("build", str(description), "-o", str(image))
            for role in ROLES:
                (key,) = (self._folder / "keys/private").glob(f"{role}.*.pem")
                _tool("sign", str(image), "--role", role, "--key", str(key))
            if release.patch_from:
                _tool("patch", str(self._folder / f"{release.patch_from}.img"), str(image), "-o", f"{self.served}/")
        return image

    def digest(self, release: TryRelease) -> str:
        """SHA-256 of what the release's slot holds, as it was signed."""
        return hashlib.sha256(self.slot(release).read_bytes()).hexdigest()

    def slot(self, release: TryRelease) -> Path:
        """The file system of a release."""
        return self._folder / f"{release.name}.img"

    def forge(self, release: TryRelease) -> None:
        """Serve `forged.twin`: the image of a release, which says another name than was signed."""
        image = (self.served / f"{release.name}.twin").read_bytes()
        said, forged = f'"{release.name}"'.encode(), f'"{release.name[:-1]}9"'.encode()
        (self.served / "forged.twin").write_bytes(image.replace(said, forged, 1))

    def manufacture(self, media: Media, release: TryRelease) -> None:
        """What a factory does: the release in slot a, its record and its environment; slot b is empty."""
        media.folder.mkdir()
        shutil.copyfile(self.slot(release), media.file("slot_a"))
        for name, size in (("slot_b", SLOT_SIZE), ("card", CARD_SIZE)):
            with media.file(name).open("wb") as file:
                file.truncate(size)
        first = self._folder / "data"
        first.mkdir()
        image, config = self.served / f"{release.name}.twin", TREE / "etc/fw_env.config"
        with _quiet():
            arguments = ("--environment", str(media.file("card")), "--fw-env-config", str(config))
            _tool("provision", str(image), "--record", str(first / "record.sqlite"), *arguments)
        make_ext4(media.file("data"), DATA_SIZE, first, "has_journal")

    def _plant(self) -> None:
        """The tree that all releases share: the device's own files, the product's, and the client of this checkout."""
        shutil.copytree(TREE, self._tree, symlinks=True)
        for directory in _DIRECTORIES:
            (self._tree / directory).mkdir(parents=True, exist_ok=True)
        for name in ("bin", "sbin", "lib", "lib64"):  # the rest of the system is this machine's, below /usr
            (self._tree / name).symlink_to(f"usr/{name}")
        client = self._tree / "opt/twinslot/twinslot"
        shutil.copytree(Path(twinslot.__file__).parent, client, ignore=shutil.ignore_patterns("__pycache__"))
        unchecked = PycInvalidationMode.UNCHECKED_HASH  # a read-only root never repairs what looks stale
        compileall.compile_dir(client, quiet=1, stripdir=self._tree, invalidation_mode=unchecked)
        for number in range(_PHRASES):
            self._speak(number, "1.0")
        shutil.copyfile(self._folder / "keys/1.root.json", self._tree / "etc/twinslot/root.json")
        built = datetime.now(UTC).isoformat(timespec="seconds")
        drop_ins = self._tree / "etc/twinslot/config.d"
        drop_ins.mkdir()
        (drop_ins / "10-build.toml").write_text(f"[trust]\nbuild_time = {built}\n")
        default = "".join(f"{name}={value}\n" for name, value in DEFAULT.items())
        (self._tree / "etc/u-boot-initial-env").write_text(default)

    def _speak(self, number: int, release: str) -> None:
        content = random.Random(f"{number} of {release}").randbytes(_PHRASE_SIZE)
        (self._tree / f"opt/product/phrases/{number:02}.pcm").write_bytes(content)


def make_ext4(file: Path, size: int, content: Path, features: str) -> None:
    """A file system of `size` bytes with this content, root's; the same content gives nearly the same bytes."""
    file.unlink(missing_ok=True)
    extended = f"root_owner=0:0,hash_seed={_UUID},lazy_itable_init=0,lazy_journal_init=0"
    argv = ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-U", _UUID, "-O", features, "-E", extended]
    run(*argv, "-d", content, file, f"{size >> 10}k", env={"E2FSPROGS_FAKE_TIME": _EPOCH})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the tool says is not the story; a failure's words come with the error."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield
    except BuildError as e:
        raise BuildError(f"{e}: {said.getvalue().strip()[-1000:]}") from e


def _tool(*arguments: str) -> None:
    status = image_tool(list(arguments))
    if status:
        raise BuildError(f"twinslot-image {arguments[0]} ended with status {status}")
