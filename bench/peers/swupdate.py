"""SWUpdate: `swupdate -i` and `swupdate -d`, a raw image that is streamed into the slot, signed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.devices import digest_of
from bench.floor import LEVEL
from bench.peers.base import Bench, Job, UnableError, Work, debian_version, prepare

_DESCRIPTION: Final = """software =
{{
	version = "2";
	bench = {{
		hardware-compatibility = [ "1.0" ];
		images: (
			{{
				filename = "rootfs.img.zst";
				type = "raw";
				device = "{device}";
				compressed = "zstd";
				installed-directly = true;
				sha256 = "{digest}";
			}}
		);
	}};
}}
"""
_SUBJECT: Final = "/O=bench/CN=bench"
_ORDER: Final = ("sw-description", "sw-description.sig", "rootfs.img.zst")  # SWUpdate reads them in this order


class Swupdate:
    """The raw handler; the artifact's hash is compared while it is written, nothing is read back."""

    name = "swupdate"

    def __init__(self, bench: Bench) -> None:
        self._bench, self._home = bench, bench.home("swupdate")

    def version(self) -> str:
        """Debian's."""
        return debian_version("swupdate")

    def job(self, work: Work) -> Job:
        """An install of an .swu."""
        if not work.is_full:
            raise UnableError("its delta handler asks a chunk store through a zchunk header; not set up here")
        archive = self._archive(self._bench.pair(work).new)
        way = ["-i", str(archive)] if work.is_local else ["-d", f"-u {self._bench.server.url(archive.name)}"]
        config = self._home / "swupdate.cfg"
        key = ["-k", str(self._home / "cert.pem")]
        return Job(
            ["swupdate", "-f", str(config), "-H", "bench:1.0", "-M", "-m", "-p", "/bin/true", *key, *way],
            env={"TMPDIR": str(self._home)},
            local=(archive,) if work.is_local else (),
            published=(archive,),
            note="hash compared while writing; reads nothing back",
        )

    def close(self) -> None:
        """Nothing runs."""

    def _archive(self, image: Path) -> Path:
        archive = self._bench.public / "new.swu"
        if archive.exists():
            return archive
        home = self._home
        (home / "swupdate.cfg").write_text("globals :\n{\n};\n")
        key, cert = home / "key.pem", home / "cert.pem"
        words: list[str | Path] = [
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            key,
            "-out",
            cert,
            "-days",
            "3650",
            "-subj",
            _SUBJECT,
        ]
        prepare("openssl", "req", "-x509", *words, "-addext", "extendedKeyUsage=emailProtection")
        prepare("zstd", "-q", "-f", f"-{LEVEL}", image, "-o", home / _ORDER[2])
        device, digest = self._bench.slot_b.path, digest_of(home / _ORDER[2])
        (home / _ORDER[0]).write_text(_DESCRIPTION.format(device=device, digest=digest))
        words = ["-in", home / _ORDER[0], "-out", home / _ORDER[1], "-signer", cert, "-inkey", key, "-outform", "DER"]
        prepare("openssl", "cms", "-sign", *words, "-nosmimecap", "-binary")
        names = "\\n".join(_ORDER)
        prepare("/bin/sh", "-c", f"printf '{names}\\n' | cpio -o -H crc -O {archive} --quiet", cwd=home)
        return archive
