"""RAUC: `rauc install` with its service on a private bus, bundles of the formats `plain` and `verity`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from bench.floor import LEVEL
from bench.peers.base import Bench, UnableError, UpdateJob, Work, debian_version, prepare

_BUS: Final = """<busconfig>
<type>custom</type>
<listen>unix:path={home}/bus</listen>
<auth>EXTERNAL</auth>
<policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy>
</busconfig>
"""
_SYSTEM: Final = """[system]
compatible=bench
bootloader=noop
statusfile={home}/status
mountprefix={home}/mount
max-bundle-download-size=17179869184
[keyring]
path={home}/ca.pem
[slot.rootfs.0]
device={a}
type=raw
bootname=A
[slot.rootfs.1]
device={b}
type=raw
bootname=B
"""
_MANIFEST: Final = """[update]
compatible=bench
version=2
[bundle]
format={format}
[image.rootfs]
filename=rootfs.img
"""
# A device's bus starts the service when it is asked for; the private bus here does not, so this does.
_INSTALL: Final = (
    'rauc --conf="$1" --override-boot-slot=A service & service=$!; '
    "gdbus wait --system --timeout 20 de.pengutronix.rauc; "
    'rauc install "$2"; status=$?; kill $service; wait $service; exit $status'
)
_SUBJECT: Final = "/O=bench/CN=bench"


class Rauc:
    """A RAUC with its service; each round starts the service, as bus activation does.

    Args:
        format: Of the bundle, `plain` or `verity`; the latter needs the kernel's device mapper.
        stream: Let it read the bundle from the server while it installs, which needs the kernel's nbd.
    """

    def __init__(self, bench: Bench, *, format: str = "plain", stream: bool = False) -> None:  # noqa: A002 - RAUC's word
        self.name = "rauc" if format == "plain" else f"rauc {format}{' streaming' if stream else ''}"
        self._bench, self._format, self._stream = bench, format, stream
        self._home = bench.home("rauc")
        self._bus: subprocess.Popen[bytes] | None = None

    def version(self) -> str:
        """Debian's."""
        return debian_version("rauc")

    def job(self, work: Work) -> UpdateJob:
        """An install of a bundle."""
        if not work.is_full:
            raise UnableError("its adaptive updates need bundles of the format 'verity' (the kernel's device mapper)")
        raucb = self._make_raucb(self._bench.pair(work).new)
        where = str(raucb) if work.is_local else self._bench.server.url(raucb.name)
        self._start_bus()
        env = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self._home}/bus"}
        note = "service started with it; reads nothing back" + (
            "; downloads the bundle to a file first" if not work.is_local and not self._stream else ""
        )
        return UpdateJob(
            ["/bin/sh", "-c", _INSTALL, "sh", str(self._home / "system.conf"), where],
            env=env,
            before=self._reset,
            local=(raucb,) if work.is_local else (),
            published=(raucb,),
            note=note,
        )

    def close(self) -> None:
        """End the bus."""
        if self._bus is not None:
            self._bus.terminate()
            self._bus.wait()
            self._bus = None

    def _reset(self) -> None:
        (self._home / "status").unlink(missing_ok=True)
        (self._home / "mount").mkdir(exist_ok=True)

    def _start_bus(self) -> None:
        if self._bus is not None:
            return
        config = self._home / "bus.conf"
        config.write_text(_BUS.format(home=self._home))
        (self._home / "bus").unlink(missing_ok=True)
        words = ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address"]
        self._bus = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._bus.stdout is not None
        self._bus.stdout.readline()  # it listens

    def _make_raucb(self, image: Path) -> Path:
        raucb = self._bench.public / f"{self._format}.raucb"
        if raucb.exists():
            return raucb
        home, key, cert = self._home, self._home / "key.pem", self._home / "ca.pem"
        if not key.exists():
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
            prepare("openssl", "req", "-x509", *words)
        slots = {"a": self._bench.slot_a.path, "b": self._bench.slot_b.path}
        (home / "system.conf").write_text(_SYSTEM.format(home=home, **slots))
        content = home / f"content-{self._format}"
        shutil.rmtree(content, ignore_errors=True)
        content.mkdir()
        (content / "manifest.raucm").write_text(_MANIFEST.format(format=self._format))
        prepare("cp", "--reflink=auto", image, content / "rootfs.img")
        codec = f"--mksquashfs-args=-comp zstd -Xcompression-level {LEVEL}"
        prepare("rauc", f"--cert={cert}", f"--key={key}", codec, "bundle", content, raucb)
        shutil.rmtree(content)
        return raucb
