"""SWUpdate: `swupdate -i` and `swupdate -d`, a raw image that is streamed into the slot, signed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.devices import digest_of
from bench.floor import LEVEL
from bench.peers.base import Bench, UnableError, UpdateJob, Work, debian_version, make_once, prepare

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
_DELTA: Final = """software =
{{
	version = "2";
	bench = {{
		hardware-compatibility = [ "1.0" ];
		images: (
			{{
				filename = "{header}";
				type = "delta";
				device = "{device}";
				sha256 = "{digest}";
				properties: {{
					url = "{url}";
					chain = "raw";
					source = "{source}";
					zckloglevel = "error";
				}};
			}}
		);
	}};
}}
"""
_HEADER_SIZE: Final = re.compile(r"Header size:\s*(\d+)")
_SUBJECT: Final = "/O=bench/CN=bench"


class Swupdate:
    """The raw handler; the artifact's hash is compared while it is written, nothing is read back."""

    name = "swupdate"

    def __init__(self, bench: Bench) -> None:
        self._bench, self._home = bench, bench.home("swupdate")

    def version(self) -> str:
        """Debian's."""
        return debian_version("swupdate")

    def job(self, work: Work) -> UpdateJob:
        """An install of an .swu."""
        if not work.is_full:
            return self._delta_job(work)
        archive = self._archive(self._bench.pair(work).new)
        way = ["-i", str(archive)] if work.is_local else ["-d", f"-u {self._bench.server.url(archive.name)}"]
        local = (archive,) if work.is_local else ()
        return self._job(way, local, (archive,), "hash compared while writing; reads nothing back")

    def _delta_job(self, work: Work) -> UpdateJob:
        """An .swu with the header of a zchunk file; the handler takes chunks from slot a and from the server."""
        pair, home = self._bench.pair(work), self._home
        whole = self._bench.public / f"{work}-swupdate.zck"
        made = make_once(whole, "zck", "-u", "-h", "sha256", "-o", whole, pair.new)
        found = _HEADER_SIZE.search(prepare("zck_read_header", "-v", whole))
        if found is None:
            raise UnableError("zck_read_header says no header size")
        header = home / f"{work}.header"
        with whole.open("rb") as source:
            header.write_bytes(source.read(int(found[1])))
        url, device = self._bench.server.url(whole.name), self._bench.slot_b.path
        facts = {"url": url, "source": self._bench.slot_a.path, "device": device, "header": header.name}
        archive = self._bench.public / f"{work}-delta.swu"
        self._pack(archive, header, _DELTA.format(digest=digest_of(header), **facts))
        note = "delta handler: the header of a zchunk file in the .swu, chunks by HTTP; reads nothing back"
        job = self._job(["-d", f"-u {self._bench.server.url(archive.name)}"], (), (whole,), note)
        return replace(job, made=made)

    def _job(self, way: list[str], local: tuple[Path, ...], published: tuple[Path, ...], note: str) -> UpdateJob:
        config, cert = self._home / "swupdate.cfg", self._home / "cert.pem"
        words = ["-f", str(config), "-H", "bench:1.0", "-M", "-m", "-p", "/bin/true", "-k", str(cert)]
        env = {"TMPDIR": str(self._home)}
        return UpdateJob(["swupdate", *words, *way], env=env, local=local, published=published, note=note)

    def close(self) -> None:
        """Nothing runs."""

    def _archive(self, image: Path) -> Path:
        archive = self._bench.public / "new.swu"
        if not archive.exists():
            payload = self._home / "rootfs.img.zst"
            prepare("zstd", "-q", "-f", f"-{LEVEL}", image, "-o", payload)
            facts = {"device": self._bench.slot_b.path, "digest": digest_of(payload)}
            self._pack(archive, payload, _DESCRIPTION.format(**facts))
        return archive

    def _pack(self, archive: Path, payload: Path, description: str) -> None:
        """A signed archive, in the order in which SWUpdate reads it."""
        home, key, cert = self._home, self._home / "key.pem", self._home / "cert.pem"
        if not key.exists():
            (home / "swupdate.cfg").write_text("globals :\n{\n};\n")
            words: list[str | Path] = ["-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "3650"]
            prepare("openssl", "req", "-x509", *words, "-subj", _SUBJECT, "-addext", "extendedKeyUsage=emailProtection")
        plain, signature = home / "sw-description", home / "sw-description.sig"
        plain.write_text(description)
        signed: list[str | Path] = ["-in", plain, "-out", signature, "-signer", cert, "-inkey", key, "-outform", "DER"]
        prepare("openssl", "cms", "-sign", *signed, "-nosmimecap", "-binary")
        names = f"{plain.name}\\n{signature.name}\\n{payload.name}"
        prepare("/bin/sh", "-c", f"printf '{names}\\n' | cpio -o -H crc -O {archive} --quiet", cwd=home)
