"""What comes in wrong where there is no server of a fleet: a clear error, the device as it was, the next poll works.

docs/guide-repository.md has the table of these cases, with the tests of those that stand elsewhere.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from repository_bench import CONTENT, RepositoryBench, repository_bench

from twinslot.cli.main import main as device_main
from twinslot.repository.poll import Poll
from twinslot_image.cli import main as image_main

WAVE = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RepositoryBench]:
    with repository_bench(tmp_path) as bench:
        yield bench


def other_repository(bench: RepositoryBench, directory: Path) -> Path:
    """Of another maker, with a release for the same type of device and waves of its own."""
    fleet = directory / "other"
    image = bench.maker.image("9.9", 99, CONTENT + b"other")
    for words in (["init"], ["add", str(image)], ["wave", "9.9", f"100%,{WAVE}"], ["publish"]):
        assert image_main(["repository", words[0], str(fleet), *words[1:]]) == 0
    return fleet / "public"


@pytest.mark.verifies("S29")
@pytest.mark.parametrize("what", ["list", "list under our digest", "delegated role", "everything"])
def test_the_waves_of_another_repository_are_an_error_and_the_next_poll_works(
    bench: RepositoryBench, tmp_path: Path, what: str
) -> None:
    assert bench.poll()[0] == 0
    before = bench.offered()
    theirs, ours = other_repository(bench, tmp_path), bench.fleet / "public"
    kept = tmp_path / "kept"
    bench.offer("1.2", 12)
    shutil.copytree(ours, kept)
    (list_of_theirs,) = (theirs / "targets").iterdir()
    newest = max((ours / "targets").iterdir(), key=lambda path: "1.2" in path.read_text())
    if what == "list":
        newest.unlink()
        shutil.copy(list_of_theirs, ours / "targets")
    elif what == "list under our digest":
        shutil.copy(list_of_theirs, newest)
    elif what == "delegated role":
        for path in (ours / "metadata").glob("*.offers.json"):
            shutil.copy(theirs / "metadata/1.offers.json", path)
    else:
        shutil.copytree(theirs, ours, dirs_exist_ok=True)
    status, error = bench.poll()
    assert (status, error["code"]) == {
        "list": (5, "transport.repository"),
        "list under our digest": (5, "transport.repository"),
        "delegated role": (5, "transport.repository"),
        "everything": (4, "refused.repository-signatures"),
    }[what]
    assert bench.offered() == before, "what was trusted stays"
    shutil.rmtree(ours)
    shutil.copytree(kept, ours)
    assert bench.poll()[0] == 0
    assert (bench.offered() or {})["release"]["sequence"] == 12


@pytest.mark.parametrize(
    ("waves", "found"),
    [
        ([f"60%,{WAVE}", f"41%,{WAVE}"], "101 %"),
        ([f"1%,{WAVE}", "99%,2020-01-01T00:00:00Z"], "a wave before the one that it follows"),
    ],
)
def test_shares_that_do_not_add_up_are_refused_where_they_are_written(
    bench: RepositoryBench, waves: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (bench.fleet / "repository.json").read_bytes()
    assert image_main(["repository", "wave", str(bench.fleet), "1.1", *waves, "--json"]) == 4
    error = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (error["code"], error["found"]) == ("refused.waves", found)
    assert (bench.fleet / "repository.json").read_bytes() == before


def test_waves_that_reach_a_part_of_the_devices_say_so_to_the_maker_and_to_the_others(
    bench: RepositoryBench, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    bench.image("wave", "1.1", f"0%,{WAVE},ring=ward-7", f"2.5%,{WAVE}")
    assert "the waves reach 2.5 % of the devices; the others wait for one that does" in capsys.readouterr().out
    bench.publish()
    bench.configure(ring="last")
    bench.poll()
    assert (bench.offered() or {})["why_not"] == "no wave has reached this device"


def test_a_wave_that_waits_for_a_role_that_is_not_there_is_told_to_whoever_publishes(
    bench: RepositoryBench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.image("wave", "1.1", "100%,2026-12-01T08:00:00Z,approved-by=clincal")
    capsys.readouterr()
    bench.publish()
    assert "role 'clincal' approves nothing new: there is no such role" in capsys.readouterr().out


@pytest.mark.parametrize("end", ["", ",end=9999-12-31T23:59:59Z"])
def test_a_wave_that_goes_on_after_the_last_year_is_refused_where_it_is_written(
    bench: RepositoryBench, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    bench.image("wave", "1.1", f"100%,9999-12-31T08:00:00Z,5d{end}", status=3)
    assert "before the year 10000" in capsys.readouterr().err
    bench.publish()
    assert (bench.poll()[0], (bench.offered() or {})["why_not"]) == (0, None)


@pytest.mark.parametrize(("duration", "code"), [("0", "range"), ("59", "range"), ("-1", "range"), ('"2h"', "type")])
def test_a_window_without_length_is_an_error_of_the_configuration_that_names_key_and_bound(
    tmp_path: Path, duration: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    slots = '[slots]\na = { rootfs = "/dev/a" }\nb = { rootfs = "/dev/b" }\n[trust]\nroles = ["engineering"]\n'
    window = f'[[policy.restart_window]]\ncalendar = "Sun 02:30"\nduration = {duration}\n'
    table = f'[device]\ncompatible = ["acme,pump-3"]\n{slots}{window}'
    (tmp_path / "etc/twinslot/config.toml").write_text(table)
    assert device_main(["status", "--config-root", str(tmp_path), "--no-service", "--json"]) == 6
    error = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert error["code"] == f"device.config-{code}"
    assert "policy.restart_window.duration" in error["message"]
    assert error["expected"]


@pytest.mark.verifies("S29")
@pytest.mark.parametrize("fails_at", ["targets", "offers"])
def test_a_poll_that_ends_between_metadata_and_offers_is_no_news_that_was_read(
    bench: RepositoryBench, fails_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documents that it kept are as new as the server's; the list that they lead to was never read."""
    assert bench.poll()[0] == 0
    bench.image("halt", "1.1", "--reason", "alarm too quiet")
    bench.publish()

    class PowerCut(BaseException):
        """Nothing after this runs."""

    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(Poll, "_target" if fails_at == "targets" else "_offers", cut)
        with pytest.raises(PowerCut):
            bench.poll()
    assert (bench.offered() or {})["why_not"] is None
    assert bench.poll()[0] == 0
    assert "alarm too quiet" in (bench.offered() or {})["why_not"]
