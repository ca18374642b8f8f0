"""docs/guide-walk.md, word for word: from a requirement over a release to a simulated device, and back."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_device import CONFIG, HostDevice, HostUpdater
from release_bench import ReleaseBench

from twinslot.cli.host import Host
from twinslot.cli.main import main
from twinslot.config.options import load
from twinslot.core.model import SlotName
from twinslot.engine.facts import look
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.storage.running_slot import RunningSlot
from twinslot.trust.device_key import make_device_key

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("mkfs.erofs"), reason="needs erofs-utils")]

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BUSLESS = ("install", "commit")  # verbs that ask the service, which is not there: the same process does it


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    yield from BLOCK.findall((DOCS / page).read_text())


def run(place: Path, script: str) -> str:
    """A block of commands of the office, with the tools of this checkout."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    tool = f'twinslot-image() {{ {shlex.quote(sys.executable)} -m twinslot_image "$@"; }}\n'
    environment = os.environ | {"PATH": path}
    done = subprocess.run(["bash", "-euc", tool + script], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def device_in(place: Path) -> HostDevice:
    """As the factory left it: with the root of this release team, and a key of its own."""
    directory = place / "device"
    (directory / "etc/twinslot").mkdir(parents=True)
    bench = ReleaseBench(place)
    device = HostDevice(directory, bench)
    (directory / "etc/twinslot/config.toml").write_text(CONFIG.format(directory=directory, root=bench.root))
    device.config = load(directory)
    make_device_key(DeviceKeyFiles(directory / "data", ""))
    return device


def on_device(device: HostDevice, place: Path, script: str, capsys: pytest.CaptureFixture[str]) -> str:
    """A block of commands of the device; what they print, but for what goes to a file."""
    told = ""
    updater = HostUpdater(device, device.origin)
    host = Host(is_root=lambda: True, local=lambda _: updater)
    for line in script.strip().splitlines():
        words, _, target = line.removeprefix("sudo twinslot ").partition(" > ")
        argv = shlex.split(words)
        capsys.readouterr()
        way = ["--no-service"] if argv[0] in BUSLESS else []
        assert main([*way, *argv, "--config-root", str(device.directory)], host) == 0, line
        printed = capsys.readouterr().out
        if target:
            (place / target).write_text(printed)
        else:
            told += printed
    return told


def restart(device: HostDevice) -> None:
    """Into the other slot, with the verbs of the units that start it."""
    device.running, device.boots = SlotName.B, device.boots + 1
    device.engine().boot()
    device.engine().check()


def test_one_requirement_is_followed_to_the_row_of_a_device_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = RunningSlot(SlotName.B, frozenset(), ("said by the test",))
    monkeypatch.setattr("twinslot.queries.attest.look", lambda config: look(config, lambda *_: where))
    monkeypatch.chdir(tmp_path)
    for language, name, text in blocks("guide-matrix.md"):
        if language != "sh":
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        elif name == "run":
            run(tmp_path, text)
    told: dict[str, str] = {}
    device: HostDevice | None = None
    for language, name, text in blocks("guide-walk.md"):
        if language == "toml":
            (tmp_path / name).write_text(text)
        elif name == "install":
            device = device_in(tmp_path)
            told[name] = on_device(device, tmp_path, text, capsys)
            restart(device)
        elif name == "device":
            assert device is not None
            told[name] = on_device(device, tmp_path, text, capsys)
        elif language == "sh":
            told[name] = run(tmp_path, text)
        else:
            told["shown"] = text
    row = next(line for line in told["requirement"].splitlines() if line.startswith("PUMP-1,"))
    assert all(words in row for words in ("RISK-1", "app.py", "test_an_occlusion_stops_the_motor", "passed"))
    subject, digest = (
        told["requirement"].split()[-1],
        re.findall(r"^image .* ([0-9a-f]{64})$", told["back"], re.MULTILINE),
    )
    assert f'"client": "{subject}"' in told["back"]
    assert subject in told["back"].split()[-2:]
    assert len(digest) == 1
    assert f"{digest[0]}  pump-2026.11/image/manifest.json" in told["back"]
    for line in told["shown"].replace("DIGEST", digest[0]).splitlines():
        assert line in told["back"].splitlines()
    assert not re.search("^(stale|forged|not passed)", told["back"], re.MULTILINE)
    assert "the update is complete" in told["device"]
