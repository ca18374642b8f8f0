"""Debian packages of two dates: what a fleet runs, and the same with the updates of an archive that has newer ones.

apt's whole state is private and of a foreign architecture; mirrors are the host's own (see `twinslot_lab.apt`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from twinslot_lab.apt import KEYRING, mirrors
from twinslot_lab.command import run
from twinslot_lab.errors import BuildError
from twinslot_lab.progress import say

SUITE: Final = "bookworm"
ARCHITECTURE: Final = "arm64"
ARCHITECTURES: Final = (ARCHITECTURE, "armhf", "amd64")
TRIES: Final = 3  # of fetching the package lists
_PAUSE: Final = 20  # seconds between two tries: a mirror may be in the middle of its own update
_FRESH: Final = 86_400  # seconds for which fetched package lists are good enough
# 'URI' FILE SIZE SHA256:HEX, apt-get(8) --print-uris
_URI: Final = re.compile(r"'([^']+)' (\S+) (\d+) SHA256:([0-9a-f]{64})")

# A device with a screen: init, network, interpreter, toolkit, media; Debian 12 main.
_FULL: Final = """
systemd systemd-sysv udev dbus network-manager wpasupplicant openssh-server openssl ca-certificates curl wget
python3 python3-cryptography python3-dbus python3-gi python3-yaml python3-requests sqlite3 nftables iproute2
iputils-ping bluez alsa-utils chrony e2fsprogs parted rsync sudo vim-tiny less procps kmod cryptsetup-bin
libgtk-3-0 libqt5widgets5 libqt5qml5 libqt5network5 libqt5svg5 gstreamer1.0-plugins-base
poppler-utils libxml2-utils avahi-daemon modemmanager fonts-dejavu-core gnupg tzdata libpam-systemd
"""
FULL: Final = _FULL.split()
QUICK: Final = ["openssl", "curl", "python3-minimal", "openssh-client", "libsystemd0", "libexpat1", "tzdata"]
# In no image: a compiler for graphics, where a device has a driver of its own; icons; names of countries.
LEFT_OUT: Final = re.compile(r"libllvm\d+|libz3-4|libgl1-mesa-dri|mesa-libgallium|adwaita-icon-theme|iso-codes")
# Since Debian 13 programs of 32 bits have times of 64 bits, and a library that shows one has another name.
_T64: Final = {name: f"{name}t64" for name in ("libgtk-3-0", "libqt5widgets5", "libqt5network5")}


@dataclass(frozen=True)
class Updates:
    """Where each side of a pair has its packages from.

    Attributes:
        old: Suites of the older side.
        new: Suites of the newer side.
        earlier: One of `old` whose version is taken even where another has a newer one.
        renamed: Names of packages in these suites, where they are not those of Debian 12.
        more: Packages that both sides have besides.
    """

    old: tuple[str, ...]
    new: tuple[str, ...]
    earlier: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()


_LATER: Final = f"{SUITE}-updates"  # holds what could not wait for a point release; keeps it when the release has newer
UPDATE: Final = "security"
UPDATES_HELP: Final = (
    "the two sides: 'security', the release and all its updates; 'suite', the release and its own updates; "
    "'point', what that archive held before the point release, and the point release; 'unstable', testing and unstable"
)
UPDATES: Final = {
    "security": Updates((SUITE,), (SUITE, _LATER, f"{SUITE}-security")),  # both archives' updates
    "suite": Updates((SUITE,), (SUITE, _LATER)),  # those of the suite alone
    "point": Updates((SUITE, _LATER), (SUITE,), earlier=_LATER, more=("samba", "smbclient")),
    "unstable": Updates(("testing",), ("unstable",), renamed=_T64),
}


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package, as apt would fetch it.

    Attributes:
        name: Of the package.
        version: Debian version.
        file: Name in apt's cache.
        size: Bytes of the archive.
        sha256: Of the archive, in hex; apt checks it.
    """

    name: str
    version: str
    file: str
    size: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


def parse_uris(text: str) -> tuple[Package, ...]:
    """What `apt-get --print-uris` says would be fetched, sorted by name."""
    found = []
    for match in _URI.finditer(text):
        _, file, size, sha256 = match.groups()
        name, version, _ = file.removesuffix(".deb").split("_")
        found.append(Package(name, version.replace("%3a", ":"), file, int(size), sha256))
    return tuple(sorted(found, key=lambda package: package.name))


def prefer(suite: str) -> str:
    """apt_preferences(5): what this suite has is taken, even where another has a newer version (above 1000)."""
    return f"Package: *\nPin: release n={suite}\nPin-Priority: 1001\n"


class Archive:
    """The Debian archive at one of two dates.

    Args:
        home: apt's state; made if needed. The cache of packages is beside it, shared by both dates.
        suites: Whose packages; of two versions the newer one.
        architecture: Debian's name.
        earlier: One of the suites, whose version is taken even where another has a newer one.

    Raises:
        BuildError: The package lists could not be fetched, or do not fit what is signed.
    """

    def __init__(
        self, home: Path, suites: Sequence[str] = (SUITE,), architecture: str = ARCHITECTURE, *, earlier: str = ""
    ) -> None:
        self._cache = home.parent / "debs"
        for folder in (home / "lists/partial", self._cache / "archives/partial"):
            folder.mkdir(parents=True, exist_ok=True)
        (home / "status").touch()
        (home / "sources.list").write_text(_sources(suites))
        (home / "preferences").write_text(prefer(earlier) if earlier else "")
        settings = {
            "Dir::State": home,
            "Dir::State::status": home / "status",
            "Dir::State::lists": home / "lists",
            "Dir::Cache": self._cache,
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "Dir::Etc::sourcelist": home / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": home / "preferences",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Sandbox::User": "root",
            "APT::Architecture": architecture,
            "APT::Architectures::": architecture,
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            "Acquire::ForceHash": "sha256",
        }
        self._options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        stamp = home / "updated"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > _FRESH:
            update_lists(self._options)
            stamp.touch()

    def closure(self, names: list[str]) -> tuple[Package, ...]:
        """The packages and all that they need, as if nothing were installed."""
        essential = ["base-files", "base-passwd", "bash", "coreutils", "dash", "libc6", "login", "mount", "util-linux"]
        words = [*names, *essential]
        # With nothing in the cache apt prints all of them.
        options = [*self._options, "-o", f"Dir::Cache::archives={self._cache / 'none'}"]
        (self._cache / "none/partial").mkdir(parents=True, exist_ok=True)
        found = parse_uris(run("apt-get", *options, "-y", "-q", "install", "--print-uris", *words))
        return tuple(package for package in found if not LEFT_OUT.fullmatch(package.name))

    def fetch(self, packages: tuple[Package, ...]) -> list[Path]:
        """The archives, verified by apt; what is already there is not fetched again."""
        words = [f"{package.name}={package.version}" for package in packages]
        archives = self._cache / "archives"
        run("apt-get", *self._options, "-q", "download", *words, cwd=archives)
        return [archives / package.file for package in packages]


def update_lists(options: Sequence[str], pause: float = _PAUSE) -> None:
    """Fetch apt's package lists, `TRIES` times at most.

    Args:
        options: For apt-get(8): where its state is.
        pause: Seconds between two tries.

    Raises:
        BuildError: The mirror did not answer, or its lists do not fit its signed Release file. Nothing unverified is
            taken in their place.
    """
    for left in reversed(range(TRIES)):
        try:
            run("apt-get", *options, "-q", "update")
        except BuildError as e:
            reason = next((line for line in e.output.splitlines() if line.startswith("E: ")), str(e)).removeprefix(
                "E: "
            )
            if not left:
                hint = "try later; with --updates point or unstable the pair needs no security archive"
                raise BuildError(f"no package lists after {TRIES} tries: {reason}", hint=hint, output=e.output) from e
            say(f"package lists: {reason}; {left} more tries")
            time.sleep(pause)
        else:
            return


def _sources(suites: Sequence[str]) -> str:
    main, security = mirrors()
    lines = (f"{security if suite.endswith('-security') else main} {suite}" for suite in suites)
    return "".join(f"deb [signed-by={KEYRING}] {line} main\n" for line in lines)
