"""Debian packages for the board, through a private apt state: the host's own packages stay untouched.

The mirrors are the ones that the host already uses; no host name stands in any file of the project.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twinslot_lab.command import run
from twinslot_lab.errors import BuildError
from twinslot_lab.progress import say

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")  # package debian-archive-keyring
_ORIGIN = "Debian"
_OUT_OF_STEP = (
    "Mirror sync in progress",
    "Hash Sum mismatch",
)  # what apt says of an index that its Release does not fit


def mirrors() -> tuple[str, str]:
    """The host's mirror of the main archive, and that of the security archive.

    Raises:
        BuildError: The host's apt knows no Debian mirror.
    """
    lines = run("apt-get", "indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)", "Created-By: Packages")
    main = security = ""
    for line in lines.splitlines():
        origin, codename, uri = line.split("|", 2)
        if origin == _ORIGIN and codename.endswith("-security"):
            security = security or uri
        elif origin == _ORIGIN and "-" not in codename:
            main = main or uri
    if not main:
        raise BuildError("the host's apt knows no Debian mirror", hint="run apt-get update")
    return main, security or main.rstrip("/") + "-security"


def sources(suite: str, *, kind: str = "deb", security: bool = True) -> str:
    """The text of a sources list for a suite, with its security updates unless told otherwise."""
    main, updates = mirrors()
    signed = f"[signed-by={KEYRING}]"
    line = f"{kind} {signed} {main} {suite} main\n"
    return line + f"{kind} {signed} {updates} {suite}-security main\n" if security else line


class PrivateApt:
    """An apt whose whole state is in one directory.

    A mirror whose security archive is out of step with its own signed index is used without that archive, and this is
    said: an emulated board needs no security updates, and nothing unverified comes in its place.

    Args:
        home: The directory; made if needed.
        suite: Debian suite.
        architecture: Whose packages; empty for sources only.
        security: The suite has a security archive.
    """

    def __init__(self, home: Path, suite: str, architecture: str = "", *, security: bool = True) -> None:
        for folder in ("lists/partial", "cache/archives/partial"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        (home / "status").touch()
        self._archives = home / "cache" / "archives"
        self.sources = home / "sources.list"
        settings = {
            "Dir::State": home,
            "Dir::State::status": home / "status",
            "Dir::State::lists": home / "lists",
            "Dir::Cache": home / "cache",
            "Dir::Etc::sourcelist": self.sources,
            "Dir::Etc::sourceparts": "/dev/null",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        if architecture:
            settings |= {"APT::Architecture": architecture, "APT::Architectures::": architecture}
        self._options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        kind = "deb" if architecture else "deb-src"
        self.sources.write_text(sources(suite, kind=kind, security=security))
        try:
            run("apt-get", *self._options, "-q", "update")
        except BuildError as e:
            if not any(sign in e.output for sign in _OUT_OF_STEP):
                raise
            say(f"the mirror of {suite}-security {architecture} is out of step: left out")
            self.sources.write_text(sources(suite, kind=kind, security=False))
            run("apt-get", *self._options, "-q", "update")

    def dependency_of(self, package: str) -> str:
        """The first package that a meta package depends on, such as the kernel of today."""
        shown = run("apt-cache", *self._options, "show", "--no-all-versions", package)
        for line in shown.splitlines():
            if line.startswith("Depends:"):
                return line.split()[1].rstrip(",")
        raise BuildError(f"package '{package}' depends on nothing")

    def versions(self, packages: Sequence[str]) -> dict[str, str]:
        """The newest version of each package that the suite has; what it has not is left out."""
        lines = (line.split("|") for line in run("apt-cache", *self._options, "madison", *packages).splitlines())
        found: dict[str, str] = {}
        for package, version, *_ in lines:
            found.setdefault(package.strip(), version.strip())
        return found

    def fetch(self, packages: Sequence[str], out: Path) -> list[Path]:
        """Download packages and what they depend on into a directory, verified by apt; nothing counts as installed.

        Args:
            packages: Names, or patterns (apt-patterns(7)).
            out: Made; holds the packages and nothing else.
        """
        out.mkdir()
        options = ("-o", f"Dir::Cache::archives={self._archives}", "-o", "APT::Install-Recommends=false")
        run("apt-get", *self._options, *options, "-q", "--yes", "--download-only", "install", *packages)
        return sorted(deb.rename(out / deb.name) for deb in self._archives.glob("*.deb"))

    def unpack(self, packages: list[str], out: Path) -> None:
        """Download packages, verified by apt, and unpack their files below `out`."""
        debs = out.with_name(out.name + ".debs")
        debs.mkdir()
        run("apt-get", *self._options, "-q", "download", *packages, cwd=debs)
        for deb in sorted(debs.glob("*.deb")):
            run("dpkg-deb", "-x", deb, out)

    def unpack_source(self, package: str, out: Path) -> None:
        """Download a source package, verified by apt, and unpack it with Debian's patches at `out`."""
        downloads = out.with_name(out.name + ".dsc")
        downloads.mkdir()
        run("apt-get", *self._options, "-q", "source", "--download-only", package, cwd=downloads)
        (dsc,) = downloads.glob("*.dsc")
        run("dpkg-source", "-q", "-x", dsc, out)
