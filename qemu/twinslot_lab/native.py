"""Debian packages into a tree of a foreign architecture, almost without emulation.

Maintainer scripts start thousands of small programs. So, while packages are configured, the programs of the tree are
covered by those of the host's architecture from the same suite, the "tools", each mounted over its twin (native.sh).
Byte code comes from that suite's own Python, which is the same for every architecture. What stays emulated: dpkg, which
has to know whose packages these are, and ldconfig, which reads foreign libraries.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twinslot_lab import apt, progress
from twinslot_lab.cache import alone, cached, fingerprint
from twinslot_lab.command import BUILD, run, run_logged
from twinslot_lab.errors import BuildError

CODE = (Path(__file__), Path(__file__).with_name("native.sh"))  # what a base is made by, beside packages
EPOCH = "1700000000"  # seconds; the latest time that any file in a tree has
_SCRIPT = CODE[1]
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_EMULATORS = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}
_MINIMAL = ("?essential", "?priority(required)")  # what Debian calls a minimal base (aptitude's search patterns)
_PROGRAMS = ("systemd", "udev", "python3-minimal", "openssl")  # whose programs scripts of the boards' packages run
_PLACES = ("debs", "dev", "etc", "target", "tmp", "var", "view")  # of native.sh
_LEFT_EMULATED = ("dpkg", "ldconfig")  # how names begin; see above
_INTERPRETER = re.compile(rb"/lib[a-z0-9]*/ld-[a-zA-Z0-9._-]+")
NOT_UNPACKED = (
    "--path-exclude=/usr/share/man/*",
    "--path-exclude=/usr/share/locale/*",
    "--path-exclude=/usr/share/doc/*",
    "--path-include=/usr/share/doc/*/copyright",
)


def enable_foreign_programs(architecture: str) -> None:
    """Let this host run the board's programs: mount binfmt_misc and register qemu-user (needs root)."""
    if architecture == run("dpkg", "--print-architecture").strip():
        return
    name = _EMULATORS[architecture]
    with alone(BUILD / "binfmt.lock"):  # boards are built side by side, and the second mount would fail
        if not (_BINFMT / "status").exists():
            run("mount", "-t", "binfmt_misc", "binfmt_misc", _BINFMT)
        if not (_BINFMT / name).exists():
            run("update-binfmts", "--enable", name)


def tools(suite: str) -> Path:
    """A tree of the host's architecture with the programs that maintainer scripts run, unpacked only, never changed."""
    host = run("dpkg", "--print-architecture").strip()

    def make(work: Path) -> None:
        home = apt.PrivateApt(work / "apt", suite, host)
        debs, tree = home.fetch([*_MINIMAL, *_PROGRAMS], work / "debs"), work / "tree"
        for folder in (
            "usr/bin",
            "usr/sbin",
            "usr/lib",
            "usr/lib64",
            *("etc", "var", "dev", "tmp", "debs", "target", "view"),
        ):
            (tree / folder).mkdir(parents=True)
        for folder in ("bin", "sbin", "lib", "lib64"):
            (tree / folder).symlink_to(f"usr/{folder}")
        for deb in debs:
            run("sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -C "$2" -x --keep-directory-symlink', "sh", deb, tree)
        shutil.rmtree(tree / "usr/share/doc")
        (tree / "interpreter").write_text(_interpreter(tree / "usr/bin/dash") + "\n")
        (tree / "libraries").write_text(f"usr/lib/{_triplet(tree)}\n")
        (tree / "programs").write_text("".join(f"{program}\n" for program in _programs(tree)))
        for folder in ("apt", "debs"):
            shutil.rmtree(work / folder)

    return cached(f"native-{suite}-{host}", fingerprint(suite, host, _PROGRAMS, _PLACES, 1), make) / "tree"


def _programs(tree: Path) -> list[str]:
    paths = sorted(path for folder in ("usr/bin", "usr/sbin") for path in (tree / folder).iterdir())
    plain = (path for path in paths if not path.is_symlink() and not path.name.startswith(_LEFT_EMULATED))
    return [str(path.relative_to(tree)) for path in plain if _head(path).startswith(b"\x7fELF")]


def _interpreter(program: Path) -> str:
    """The dynamic loader that a program names (PT_INTERP, which linkers put into its first page)."""
    match = _INTERPRETER.search(_head(program))
    if match is None:
        raise BuildError(f"'{program}' names no dynamic loader")
    return match[0].decode()


def _triplet(tree: Path) -> str:
    (libc,) = (tree / "usr/lib").glob("*-linux-gnu*/libc.so.6")
    return libc.parent.name


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def base(suite: str, architecture: str, packages: Sequence[str], out: Path, log: Path) -> None:
    """A minimal Debian with these packages, configured, as the tar file `out`.

    Raises:
        BuildError: A package did not install; the end of the log is in the message.
    """
    enable_foreign_programs(architecture)
    with tempfile.TemporaryDirectory(dir=out.parent) as place:
        home = apt.PrivateApt(Path(place) / "apt", suite, architecture)
        with progress.part("download packages"):
            debs = home.fetch([*_MINIMAL, *packages], Path(place) / "debs")
        _run(suite, "base", debs[0].parent, log, str(out), *NOT_UNPACKED, count=len(debs))


def install(suite: str, architecture: str, debs: Sequence[Path], tree: Path, log: Path) -> None:
    """Install packages by dpkg in a tree that has what they depend on.

    Raises:
        BuildError: One is missing, or did not install; the end of the log is in the message.
    """
    enable_foreign_programs(architecture)
    with tempfile.TemporaryDirectory(dir=tree.parent) as place:
        for deb in debs:
            if not deb.is_file():
                raise BuildError(f"there is no package '{deb}'")
            shutil.copyfile(deb, Path(place) / deb.name)
        _run(suite, "install", Path(place), log, str(tree), count=len(debs))


def _run(suite: str, verb: str, debs: Path, log: Path, *words: str, count: int) -> None:
    said = log.with_suffix(".progress")
    said.unlink(missing_ok=True)
    native = tools(suite)
    with progress.part("packages", _counter(said, count)):
        env = {"SOURCE_DATE_EPOCH": EPOCH}
        run_logged(log, "unshare", "--mount", _SCRIPT, verb, native, debs, said, *words, env=env)


def _counter(said: Path, total: int) -> progress.Count:
    """How far dpkg is, by what it has said of its work (dpkg(1), --status-fd)."""

    def count() -> tuple[str, int, int]:
        text = said.read_text() if said.exists() else ""
        configured, unpacked = text.count("processing: configure:"), text.count("processing: install:")
        return ("configure", configured, total) if configured else ("unpack", unpacked, total)

    return count
