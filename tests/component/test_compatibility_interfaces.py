"""What people, hooks and programs wrote or read with an earlier version goes on: see test_compatibility.py."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from test_compatibility import VERSIONS

from data import hook_calls, json_lines
from data.make_samples import absent_keys
from twinslot.bootloader.env_lines import make_script
from twinslot.bootloader.hook import Hook
from twinslot.config.options import load
from twinslot.core.manifest import SequenceRange
from twinslot.core.model import UBOOT, LoaderTraits
from twinslot_image.cli import main as twinslot_image
from twinslot_image.description import read_description

WRITTEN = Path(__file__).parents[1] / "data/written"
TRAITS = {"two-files": UBOOT, "grub-once": LoaderTraits(counts=False, tells_reason=False)}


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def version(request: pytest.FixtureRequest) -> Path:
    """What one version wrote."""
    path: Path = request.param
    return path


def test_a_configuration_of_an_earlier_version_says_what_it_said(version: Path, tmp_path: Path) -> None:
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    shutil.copy(version / "config.toml", tmp_path / "etc/twinslot")
    config = load(tmp_path)
    assert not list(differences(tomllib.loads((version / "config.toml").read_text()), config))


def test_the_configuration_that_a_version_leaves_behind_has_every_key(tmp_path: Path) -> None:
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    shutil.copy(WRITTEN / "config.toml", tmp_path / "etc/twinslot")
    assert list(absent_keys(tomllib.loads((WRITTEN / "config.toml").read_text()), load(tmp_path))) == []


def differences(written: Any, now: Any, where: str = "") -> Any:
    """Where a configuration is not what the file says."""
    if isinstance(written, Mapping):
        for name, value in written.items():
            found = now[name] if isinstance(now, Mapping) else getattr(now, name)
            yield from differences(value, found, f"{where}.{name}")
    elif isinstance(written, list) and dataclasses.is_dataclass(now[0]):
        for one, other in zip(written, now, strict=True):
            yield from differences(one, other, where)
    else:
        plain = [str(each) for each in now] if isinstance(now, tuple) else str(now) if isinstance(now, Path) else now
        if plain != written:
            yield f"{where}: {written!r} is {now!r}"


def test_a_description_and_a_key_directory_of_an_earlier_version_still_make_an_image(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(version / "image.toml", tmp_path)
    shutil.copytree(version / "keys", tmp_path / "keys")
    for name in ("rootfs.raw", "firmware.raw"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    (tmp_path / "notes.md").write_text("# Alarm is louder\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795910400")  # 2026-11-29, when the keys were made
    described = read_description(tmp_path / "image.toml")
    assert (described.architecture, described.level, described.group_size) == ("arm64", 3, 8192)
    assert described.payloads[1].foreign == ("usr/share/coprocessor/*",)
    assert twinslot_image(["build", "image.toml", "-o", "pump.twin"]) == 0
    capsys.readouterr()
    assert twinslot_image(["inspect", "pump.twin", "--json"]) == 0
    image = json.loads(capsys.readouterr().out)["image"]
    assert (image["release"], image["sequence"], image["epoch"]) == ("2026.11", 42, 1)
    assert (image["compatible"], image["hardware"]) == (["acme,pump-3", "acme,pump-4"], ["rev-c"])
    assert (image["variants"], image["checks"]) == (["icu"], ["pump-motor"])
    assert (image["from"], described.taken_from) == ({"lowest": 40, "highest": 41}, SequenceRange(40, 41))
    assert datetime.fromisoformat(image["expires"]) == datetime.fromisoformat("2035-01-01T00:00:00Z")
    assert twinslot_image(["keys", "list", "keys", "--json"]) == 0
    roles = {role["role"]: role for role in json.loads(capsys.readouterr().out)["roles"]}
    assert [(roles[name]["threshold"], len(roles[name]["keys"])) for name in ("engineering", "clinical")] == [
        (1, 1),
        (2, 3),
    ]
    shutil.copy(version / "change.json", tmp_path)
    assert twinslot_image(["keys", "sign", "keys", "change.json", "--detached-payload", "to-sign.bin"]) == 0
    assert b'"threshold":1' in (tmp_path / "to-sign.bin").read_bytes()


@pytest.mark.parametrize("name", sorted(TRAITS))
def test_a_hook_of_an_earlier_version_is_understood_and_understands(version: Path, tmp_path: Path, name: str) -> None:
    sample = version / f"hooks/{name}.json"
    calls = json.loads(sample.read_text())
    hook = Hook(hook_calls.replayed(sample, tmp_path, sys.executable))
    assert hook.describe() == TRAITS[name]
    (told,) = {call["stdin"] for call in calls if call["verb"] == "set-environment"}
    wanted = dict(line.split("=", 1) for line in told.splitlines()[1:])
    assert make_script(wanted).decode() == told, "the lines that a hook reads"
    assert hook.read().variables == wanted
    assert hook.settle().settled
    hook.write(wanted)


@pytest.mark.parametrize("name", sorted(TRAITS))
def test_the_hooks_of_this_version_answer_as_those_of_an_earlier_one(version: Path, tmp_path: Path, name: str) -> None:
    before = json.loads((version / f"hooks/{name}.json").read_text())
    now = {(call["verb"], call["status"]): call["stdout"] for call in hook_calls.calls_of(name, tmp_path)}
    for call in before:
        if (call["verb"], call["status"]) != ("describe", 2):  # it may have learned the verb
            assert set(call["stdout"].split()) <= set(now[call["verb"], call["status"]].split()), call["verb"]


def test_what_twinslot_image_prints_for_programs_has_all_that_it_had(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = json_lines.shapes(json_lines.read(version / "json/twinslot-image.json"))
    now = json_lines.shapes(json_lines.of_the_build_host(tmp_path))
    assert not list(json_lines.gone(before, now))


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device of loop devices")
def test_what_twinslot_prints_for_programs_has_all_that_it_had(tmp_path: Path) -> None:
    pytest.importorskip("qemu.qmp", reason="the device's client gets its libraries from the checkout's own environment")
    from data.of_a_device import of_a_device

    now = json_lines.shapes(of_a_device(tmp_path))
    for version in VERSIONS:
        before = json_lines.shapes(json_lines.read(version / "json/twinslot.json"))
        assert not list(json_lines.gone(before, now)), version.name


def test_a_key_that_went_or_changed_its_type_is_found() -> None:
    before = json_lines.shapes({"status": [{"type": "status", "slots": [{"state": "good"}, {"state": None}], "n": 1}]})
    same = json_lines.shapes({"status": [{"type": "status", "slots": [{"state": "bad"}], "n": None, "more": 1}]})
    other = json_lines.shapes({"status": [{"type": "status", "slots": [{}], "n": "1"}]})
    assert not list(json_lines.gone(before, same))
    assert list(json_lines.gone(before, other)) == ["status status slots state", "status status n: number is text"]
