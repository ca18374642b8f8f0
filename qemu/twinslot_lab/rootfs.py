"""The board's root file system: Debian as a base, kernel, board, lab, and the product's packages on top.

Two layers are cached: the base as a tar file and the complete system without the product.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from twinslot_lab import console_server, framing, kernel, native
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.command import BUILD, ROOT, run
from twinslot_lab.description import BoardDescription
from twinslot_lab.uboot import initial_environment

ROOTFS = ROOT / "qemu" / "rootfs"
_BY_TIME, _UNCHECKED_HASH = 0, 1  # flags of a .pyc file (PEP 552)
_DATA_WAIT = 60  # seconds until the data partition counts as missing; a busy host makes udev slow
_START_TIMEOUT = 90  # seconds; systemd's own default
_UNITS = {  # unit -> target that wants it; what a package's postinst would do
    "board-machine-id.service": "sysinit.target",
    "systemd-networkd.service": "multi-user.target",
    "tmp.mount": "local-fs.target",
    "twinslot-lab-agent.service": "multi-user.target",
}

_SHARED = (framing.__file__, console_server.__file__)  # modules that the agent in the guest imports

Overlay = Path | Callable[[Path], None]


def base_tar(board: BoardDescription) -> Path:
    """Debian with the board's packages as a tar file, from the cache or made (half a minute, native.py)."""
    system = board.system
    name = f"base-{system.base}-{system.architecture}"

    def make(work: Path) -> None:
        packages = sorted(set(system.packages))
        native.base(system.suite, system.architecture, packages, work / "base.tar", BUILD / "log" / f"{name}.log")

    key = fingerprint(system.suite, system.architecture, sorted(system.packages), *native.CODE)
    return cached(name, key, make) / "base.tar"


def system_tree(board: BoardDescription) -> Path:
    """The complete system without the product, as a directory owned by the cache: copy it, never change it."""

    def make(work: Path) -> None:
        tree = work / "tree"
        tree.mkdir()
        run("tar", "-C", tree, "-xf", base_tar(board))
        _leave_out(tree, board.system.left_out)
        kernel.install(board, tree, work)
        shutil.rmtree(work / "initrd")
        (work / "initrd.cpio").unlink()
        apply_overlay(ROOTFS / "board", tree)
        install_agent(tree)
        _configure(board, tree)

    parts = [
        ROOTFS,
        board.hooks,
        board.hooks.parent / "common.env",
        board.system.masked_units,
        board.system.masked_generators,
        board.system.left_out,
        board.system.modules,
        board.system.dtb,
        [
            board.disk.device("data"),
            board.environment.fw_env_config,
            board.machine.watchdog,
            board.quirks.timeout_factor,
        ],
    ]
    parts += [board.system.initrd_modules, base_tar(board).parent.name, kernel.packages(board).parent.name]
    parts += [Path(__file__), Path(kernel.__file__), *map(Path, _SHARED)]
    return cached(f"system-{board.name}", fingerprint(*parts), make) / "tree"


def _leave_out(tree: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for path in tree.glob(pattern):
            _remove(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def apply_overlay(overlay: Overlay, tree: Path) -> None:
    """Copy a directory's files over the tree, owned by root, or let a function change the tree."""
    if callable(overlay):
        overlay(tree)
    else:
        run("cp", "-dR", "--preserve=mode,links", "--no-preserve=ownership,timestamps", f"{overlay}/.", tree)


def install_agent(tree: Path) -> None:
    """The lab's layer: agent and a shell on the console. Never part of a product."""
    apply_overlay(ROOTFS / "lab", tree)
    package = tree / "usr/lib/twinslot-lab/twinslot_lab"
    package.mkdir(exist_ok=True)
    for module in _SHARED:
        shutil.copyfile(module, package / Path(module).name)


def _configure(board: BoardDescription, tree: Path) -> None:
    """Generated files and links: the description's, units masked and wanted, an empty root password for the lab."""
    etc = tree / "etc"
    (etc / "fw_env.config").write_text(board.environment.fw_env_config)
    timeout_factor = board.quirks.timeout_factor
    (etc / "board.env").write_text(f"DATA={board.disk.device('data')}\nDATA_WAIT={_DATA_WAIT * timeout_factor}\n")
    timeout = f"[Manager]\nDefaultTimeoutStartSec={_START_TIMEOUT * timeout_factor}s\n"
    (etc / "systemd/system.conf.d/timeouts.conf").write_text(timeout)
    (etc / "u-boot-initial-env").write_text(initial_environment(board))
    units = etc / "systemd" / "system"
    _mask(units, board.system.masked_units)
    _mask(etc / "systemd" / "system-generators", board.system.masked_generators)
    for name, target in _UNITS.items():
        wants = units / f"{target}.wants"
        wants.mkdir(exist_ok=True)
        (wants / name).unlink(missing_ok=True)
        where = "/etc" if (units / name).exists() else "/usr/lib"
        (wants / name).symlink_to(f"{where}/systemd/system/{name}")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
    shadow = etc / "shadow"
    lines = [line if not line.startswith("root:") else "root::" + line.split(":", 2)[2] for line in _lines(shadow)]
    shadow.write_text("\n".join(lines) + "\n")


def _mask(folder: Path, names: Iterable[str]) -> None:
    """What systemd finds by these names further down its search path does not run."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/null")


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def build_rootfs(
    board: BoardDescription, out: Path, *, debs: Sequence[Path] = (), overlays: Iterable[Overlay] = ()
) -> Path:
    """A root file system tree, ready to become a slot image (see `build.make_slot`).

    Args:
        board: What it is for.
        out: The tree; must not exist.
        debs: The product's packages, installed by dpkg in this order; their dependencies must be in the base.
        overlays: Directories copied over the tree, or functions that change it, in this order.

    Raises:
        BuildError: A package did not install; its last output is in the message.
    """
    source = system_tree(board)
    out.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "-a", "--reflink=auto", source, out)
    if debs:
        system = board.system
        native.install(system.suite, system.architecture, debs, out, BUILD / "log" / f"debs-{board.name}.log")
    for overlay in overlays:
        apply_overlay(overlay, out)
    _finish(out)
    return out


def _finish(tree: Path) -> None:
    """What must be so in every slot: nothing of the build's moment, and a /var that starts empty elsewhere."""
    for folder in ("var/cache", "var/log", "var/lib/apt", "var/tmp", "tmp", "run"):
        for path in (tree / folder).iterdir():
            _remove(path)
    database = tree / "var" / "lib" / "dpkg"
    for path in database.glob("*-old"):
        path.unlink()
    factory = tree / "usr" / "share" / "factory" / "var" / "lib"
    factory.mkdir(parents=True, exist_ok=True)
    shutil.move(database, factory / "dpkg")
    database.symlink_to("/usr/share/factory/var/lib/dpkg")
    for file in tree.rglob("*.pyc"):
        make_bytecode_independent(file)


def make_bytecode_independent(file: Path) -> None:
    """Make compiled Python independent of file times, which an image does not keep (PEP 552, unchecked hash).

    With a time in it, every import on the board would find it stale and compile again; with a hash to be checked (which
    is what packages get when SOURCE_DATE_EPOCH is set), every import would read and hash the source.
    """
    raw = file.read_bytes()
    if len(raw) < 16:
        return
    flags = int.from_bytes(raw[4:8], "little")  # magic, flags, then time and size, or hash
    if flags == _BY_TIME:
        source = file.parent.parent / (file.name.split(".", 1)[0] + ".py")
        text = source.read_bytes() if source.is_file() else b""
        proof = hashlib.sha256(text).digest()[:8]
    else:
        proof = raw[8:16]
    file.write_bytes(raw[:4] + _UNCHECKED_HASH.to_bytes(4, "little") + proof + raw[16:])
