"""Debian's kernel for a slot: the image, a subset of its modules, and a small initrd of our own."""

from __future__ import annotations

import lzma
import os
import shutil
from pathlib import Path

from twinslot_lab.apt import PrivateApt
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.command import ROOT, run
from twinslot_lab.description import BoardDescription
from twinslot_lab.errors import BuildError

INIT = ROOT / "qemu" / "rootfs" / "initrd" / "init"
_APPLETS = ("cat", "dd", "echo", "grep", "modprobe", "mount", "od", "readlink", "sh", "switch_root", "umount", "usleep")


def packages(board: BoardDescription) -> Path:
    """Kernel and static busybox, unpacked; the newest that the suite has when this is first built."""
    system = board.system

    def make(work: Path) -> None:
        apt = PrivateApt(work / "apt", system.suite, system.architecture)
        tree = work / "tree"
        apt.unpack([apt.dependency_of(system.kernel), "busybox-static"], tree)
        shutil.rmtree(work / "tree.debs")
        if not (tree / "lib").exists():
            (tree / "lib").symlink_to("usr/lib")
        run("depmod", "-b", tree, _version(tree))

    key = fingerprint(system.suite, system.architecture, system.kernel, 1)
    return cached(f"kernel-{system.architecture}", key, make) / "tree"


def _version(tree: Path) -> str:
    (folder,) = (tree / "usr" / "lib" / "modules").iterdir()
    return folder.name


def _closure(tree: Path, modules: list[str]) -> list[Path]:
    """The modules and what they need, in load order without repeats; built-in ones are left out."""
    files: dict[Path, None] = {}
    for module in modules:
        for line in run("modprobe", "-d", tree, "-S", _version(tree), "-D", module).splitlines():
            word = line.split()
            if word and word[0] == "insmod":
                files[Path(word[1])] = None
    return list(files)


def _install_modules(tree: Path, modules: list[str], out: Path, *, plain: bool) -> None:
    """Copy a module subset below `out`; `plain` unpacks them for loaders that know no compression."""
    version = _version(tree)
    for file in _closure(tree, modules):
        relative = Path("usr/lib/modules") / version / file.relative_to(tree / "lib" / "modules" / version)
        target = out / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        if plain and file.suffix == ".xz":
            target.with_suffix("").write_bytes(lzma.decompress(file.read_bytes()))
        else:
            shutil.copyfile(file, target)
    folder = out / "usr" / "lib" / "modules" / version
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copyfile(tree / "usr" / "lib" / "modules" / version / name, folder / name)
    run("depmod", "-b", out, version)


def install(board: BoardDescription, out: Path, work: Path) -> None:
    """Put /boot/vmlinuz, /boot/initrd, /boot/dtb if the board needs one, and the modules into a root file system tree.

    Args:
        board: Names the kernel and the modules.
        out: The tree.
        work: A directory for scratch files; the caller removes it.
    """
    tree = packages(board)
    system = board.system
    (out / "boot").mkdir(exist_ok=True)
    shutil.copyfile(tree / "boot" / f"vmlinuz-{_version(tree)}", out / "boot" / "vmlinuz")
    if system.dtb:
        shutil.copyfile(_device_tree(tree, system.dtb), out / "boot" / "dtb")
    _install_modules(tree, [*system.modules, *system.initrd_modules], out, plain=False)
    (out / "boot" / "initrd").write_bytes(_initrd(board, tree, work / "initrd"))


def _device_tree(tree: Path, name: str) -> Path:
    found = sorted((tree / "usr" / "lib" / f"linux-image-{_version(tree)}").rglob(name))
    if not found:
        raise BuildError(f"the kernel package has no device tree '{name}'")
    return found[0]


def _initrd(board: BoardDescription, tree: Path, work: Path) -> bytes:
    """A cpio archive in the kernel's newc format (Documentation/driver-api/early-userspace/buffer-format.rst).

    Not compressed: it is small, and a patch between two releases finds what did not change.
    """
    for folder in ("bin", "dev", "proc", "sys", "mnt", "root"):
        (work / folder).mkdir(parents=True)
    shutil.copyfile(tree / "usr" / "bin" / "busybox", work / "bin" / "busybox")
    shutil.copyfile(INIT, work / "init")
    modules = board.system.initrd_modules
    (work / "modules").write_text("\n".join(modules) + "\n")
    (work / "board.env").write_text(f"DATA={board.disk.partition('data')}\nWATCHDOG={board.machine.watchdog}\n")
    for name in _APPLETS:
        (work / "bin" / name).symlink_to("busybox")
    (work / "lib").symlink_to("usr/lib")
    _install_modules(tree, modules, work, plain=True)
    for path in sorted(work.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
            os.utime(path, (0, 0))
        else:
            os.utime(path, (0, 0), follow_symlinks=False)
    names = "\n".join(sorted(str(path.relative_to(work)) for path in work.rglob("*")))
    archive = work.with_suffix(".cpio")
    run(
        "cpio",
        "--quiet",
        "--reproducible",
        "-o",
        "-H",
        "newc",
        "-R",
        "0:0",
        "-O",
        archive,
        cwd=work,
        stdin=names.encode() + b"\n",
    )
    return archive.read_bytes()
