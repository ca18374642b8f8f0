"""File systems read out of their images, held to the trees that mke2fs and mkfs.erofs were given."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from twinslot.core.errors import ImageError, TwinslotError
from twinslot_image import fs_erofs, fs_ext4
from twinslot_image.fs_tree import FileSystemImage, Tree

# name in the image: (kind, permissions, digest of the content or the link's target)
Content = dict[bytes, tuple[int, int, str]]
# 240: mkfs.erofs 1.5 cannot print longer ones
NAMES = (b"plain", b"caf\xe9", b"new\nline", b"quo\"te'", b"-rf", b"\x1b[31m", b"l" * 240, "\u00fcber".encode(), b" ")


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory on a disk: Debian 12's mkfs.erofs cannot write chunks to a file system in memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of file that a tree may hold, as far as this user may make it."""
    top = tmp_path_factory.mktemp("source")
    noise = random.Random(1)
    for number, name in enumerate(NAMES):
        (top / os.fsdecode(name)).write_bytes(noise.randbytes(number * 700))
    (top / "empty").touch()
    (top / "many").mkdir()
    for number in range(400):
        (top / f"many/{number:03}-{'n' * 40}").write_bytes(b"%d" % number)
    (top / "d/e/e/p").mkdir(parents=True)
    (top / "large").write_bytes(noise.randbytes(700_000))
    with (top / "sparse").open("wb") as file:
        for at in (0, 300_000, 5_000_000):
            file.seek(at)
            file.write(noise.randbytes(5000))
    (top / "short").symlink_to("plain")
    (top / "long").symlink_to("x" * 200)
    (top / "loop").symlink_to("loop")
    (top / "absolute").symlink_to("/many")
    os.link(top / "plain", top / "hard")
    os.mkfifo(top / "fifo")
    with socket.socket(socket.AF_UNIX) as listener, suppress(OSError):
        listener.bind(str(top / "socket"))
    if os.geteuid() == 0:
        os.mknod(top / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(top / "disk", 0o600 | stat.S_IFBLK, os.makedev(7, 3))
    (top / "closed").mkdir(mode=0)
    (top / "setuid").write_bytes(b"#!/bin/sh\n")
    (top / "setuid").chmod(0o4711)
    (top / "unreadable").write_bytes(b"secret")
    (top / "unreadable").chmod(0)
    return top


def of_source(top: Path) -> Content:
    found: Content = {}
    for path in Path(top).rglob("*"):
        mode = path.lstat().st_mode
        text = ""
        if stat.S_ISLNK(mode):
            text = str(path.readlink())
        elif stat.S_ISREG(mode):
            text = hashlib.sha256(path.read_bytes()).hexdigest()
        found[os.fsencode(path.relative_to(top))] = stat.S_IFMT(mode), stat.S_IMODE(mode), text
    return found


def open_tree(path: Path, file: object) -> Tree:
    image = FileSystemImage(file, str(path))  # type: ignore[arg-type]
    ext4 = image.read(fs_ext4.MAGIC_AT, 2) == fs_ext4.MAGIC
    return Tree(image, fs_ext4.Ext4(image) if ext4 else fs_erofs.Erofs(image))


def of_image(path: Path) -> Content:
    content: Content = {}
    with path.open("rb") as file:
        tree = open_tree(path, file)
        for found in tree.walk():
            mode, text = found.node.mode, ""
            if stat.S_ISLNK(mode):
                text = os.fsdecode(tree.target(found.node))
            elif stat.S_ISREG(mode):
                text = hashlib.sha256(tree.open(found.node).read()).hexdigest()
            content[found.path] = stat.S_IFMT(mode), stat.S_IMODE(mode), text
    content.pop(b"lost+found", None)
    return content


def make(path: Path, source: Path, *command: str) -> Path:
    where = [path, source] if command[0] == "mkfs.erofs" else ["-d", source, path, "24M"]
    subprocess.run([*command, *where], check=True, capture_output=True)
    return path


def makes_revision_0(path: Path) -> bool:
    """Debian 13's mke2fs does not."""
    return (
        subprocess.run(["mke2fs", "-q", "-F", "-r", "0", path, "1M"], check=False, capture_output=True).returncode == 0
    )


EXT4 = [
    "ext4",
    "ext4 -b 1024",
    "ext4 -b 4096 -I 1024 -O inline_data",
    "ext4 -b 1024 -I 256 -O inline_data",
    "ext4 -O ^has_journal,^64bit",
    "ext4 -O ^metadata_csum,^dir_index",
    "ext4 -O ^flex_bg -g 1024 -b 1024",
    "ext4 -O ^extents,^64bit -b 1024",
    "ext2",
    "ext2 -r 0 -b 1024",
    "ext3 -b 1024",
    "ext4 -O casefold,ea_inode,large_dir,mmp",
    "ext4 -O bigalloc -b 1024 -C 4096 -N 1000",  # its superblock stands in block 1, its first block is 0
    "ext4 -O bigalloc,^64bit -b 4096 -C 8192 -N 1000",
]
EROFS = ["", "-E force-inode-extended", "-E force-inode-compact", "-E noinline_data", "--chunksize=4096"]


@pytest.mark.root
@pytest.mark.parametrize("options", EXT4)
def test_everything_in_an_ext4_comes_out(tmp_path: Path, source: Path, options: str) -> None:
    if "-r 0" in options and not makes_revision_0(tmp_path / "trial"):
        pytest.skip("this mke2fs makes no file system of revision 0")
    image = make(tmp_path / "image", source, "mke2fs", "-q", "-F", "-t", *options.split())
    assert of_image(image) == of_source(source)


@pytest.mark.root
@pytest.mark.skipif(shutil.which("mkfs.erofs") is None, reason="erofs-utils is not installed")
@pytest.mark.parametrize("options", EROFS)
def test_everything_in_an_erofs_comes_out(disk: Path, source: Path, options: str) -> None:
    image = make(disk / "image", source, "mkfs.erofs", *options.split())
    assert of_image(image) == of_source(source)


@pytest.mark.root
def test_what_a_running_kernel_wrote_comes_out(tmp_path: Path, source: Path) -> None:
    """Uninitialised extents, holes in the middle, a deep tree of extents, entries that were removed."""
    image, mount = (
        make(tmp_path / "image", source, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024"),
        tmp_path / "mount",
    )
    mount.mkdir()
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    try:
        with (mount / "holes").open("wb") as file:
            for index in range(1500):
                file.seek(index * 2048)
                file.write(b"%d" % index)
            file.truncate(4_000_000)
        subprocess.run(["fallocate", "-l", "100k", mount / "reserved"], check=True)
        for path in list((mount / "many").iterdir())[::3]:
            path.unlink()
        shutil.rmtree(mount / "lost+found")
        expected = of_source(mount)
    finally:
        subprocess.run(["umount", mount], check=True)
    assert of_image(image) == expected


@pytest.mark.parametrize(
    ("spoil", "code", "found"),
    [
        ("feature needs_recovery", "image.rootfs-feature", "journal"),
        ("feature encrypt", "image.rootfs-feature", "encrypt"),
        ("feature meta_bg", "image.rootfs-feature", "meta_bg"),
        ("ssv state 2", "image.rootfs-damaged", "not unmounted"),
        ("ssv state 0", "image.rootfs-damaged", "not unmounted"),
        ("link many d/again", "image.rootfs-damaged", "twice"),
        ("clri plain", "image.rootfs-damaged", "without an inode"),
        ("sif many block[0] 0", "image.rootfs-damaged", "extents"),
    ],
)
def test_what_cannot_be_read_whole_is_an_error_with_its_cause(
    tmp_path: Path, spoil: str, code: str, found: str
) -> None:
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "many").mkdir()
    (top / "plain").touch()
    image = tmp_path / "image"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", top, image, "4M"], check=True, capture_output=True)
    subprocess.run(["debugfs", "-w", "-R", spoil, image], check=True, capture_output=True)
    with pytest.raises(ImageError) as caught:
        of_image(image)
    assert caught.value.code == code
    assert found in str(caught.value.found)


def flipped(data: bytes, seed: int) -> Iterator[bytes]:
    noise = random.Random(seed)
    for _ in range(60):
        spoiled = bytearray(data)
        for _ in range(noise.choice([1, 4, 40])):
            spoiled[noise.randrange(1024, min(len(data), 200_000))] = noise.randrange(256)
        yield bytes(spoiled)
    for length in (1025, 1500, 3000, 9000, 100_000):
        yield data[:length]


@pytest.mark.parametrize("kind", ["mke2fs", "mkfs.erofs"])
def test_damage_is_an_error_or_harmless_and_never_a_traceback_or_without_end(tmp_path: Path, kind: str) -> None:
    if shutil.which(kind) is None:
        pytest.skip(f"{kind} is not installed")
    top, image = tmp_path / "top", tmp_path / "image"
    (top / "a/b").mkdir(parents=True)
    for number in range(40):
        (top / f"a/{number}").write_bytes(b"x" * number * 100)
        (top / f"a/b/link{number}").symlink_to("y" * (number + 1) * 3)
    options = ["-q", "-t", "ext4", "-b", "1024", "-d", top, image, "2M"] if kind == "mke2fs" else [image, top]
    subprocess.run([kind, *options], check=True, capture_output=True)
    whole = image.read_bytes()
    image.write_bytes(whole[:-1])
    with pytest.raises(ImageError, match="cannot be read whole"):
        names(image)
    for spoiled in flipped(whole, 7):
        image.write_bytes(spoiled)
        with suppress(TwinslotError):
            names(image)


def names(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [found.path for found in open_tree(path, file).walk()]


def test_a_path_is_looked_up_as_the_device_would(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "usr/lib/systemd").mkdir(parents=True)
    (top / "lib").symlink_to("usr/lib")
    (top / "abs").symlink_to("/usr")
    (top / "up").symlink_to("../../usr/./lib/..")
    (top / "usr/lib/file").write_bytes(b"content")
    (top / "loop").symlink_to("pool")
    (top / "pool").symlink_to("loop")
    image = tmp_path / "image"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", top, image, "2M"], check=True, capture_output=True)
    with image.open("rb") as file:
        tree = open_tree(image, file)
        for path in ("usr/lib/file", "/lib/file", "abs/lib/file", "up/lib/file", "usr/../usr/lib//./file"):
            node = tree.look_up(path)
            assert node is not None, path
            assert tree.open(node).read() == b"content"
        for path in ("loop", "loop/x", "usr/lib/file/x", "absent", "lib/absent/x"):
            assert tree.look_up(path) is None, path
        node = tree.look_up("lib", follow=False)
        assert node is not None
        assert tree.target(node) == b"usr/lib"
        assert tree.names_in("lib") == (b"file", b"systemd") or set(tree.names_in("lib")) == {b"file", b"systemd"}
