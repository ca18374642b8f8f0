"""A repository on a stick: the same documents, roots and rules as from a server, and the report goes back with it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from repository_bench import WHERE, RepositoryBench, repository_bench

from twinslot.core.model import SlotName
from twinslot.engine import facts
from twinslot.queries.metrics import metrics
from twinslot.repository.directory import DirectoryFetcher
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.transport.http.small_file import MISSING, SmallFile
from twinslot.trust.device_key import make_device_key
from twinslot_image.cli import main as image_main


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RepositoryBench]:
    """A device that knows no server."""
    with repository_bench(tmp_path) as bench:
        bench.configure(url="")
        yield bench


@pytest.fixture
def stick(bench: RepositoryBench, tmp_path: Path) -> Path:
    """A copy of what is public."""
    place = tmp_path / "stick/fleet"
    shutil.copytree(bench.fleet / "public", place)
    return place


def copied(bench: RepositoryBench, stick: Path) -> None:
    """The stick is written anew."""
    shutil.rmtree(stick)
    shutil.copytree(bench.fleet / "public", stick)


def report(bench: RepositoryBench) -> tuple[int, dict[str, Any]]:
    config = bench.device.config
    bench.device.config = replace(config, reports=replace(config.reports, beside_repository=True))
    return bench.run("report", "--no-service")


@pytest.mark.verifies("REQ-REP-05")
def test_a_device_without_a_network_hears_of_a_release_from_a_stick_and_installs_it_from_there(
    bench: RepositoryBench, stick: Path
) -> None:
    assert bench.run("status")[1]["repository"] is None
    status, said = bench.poll(str(stick))
    assert (status, said["asked"], said["repository"]["source"]) == (0, True, str(stick))
    offer = bench.offered()
    assert offer is not None
    assert offer["image"].startswith(f"{stick}/images/")
    with Path(offer["image"]).open("rb") as image:
        assert bench.device.install(image.fileno()).release.sequence == 11
    assert bench.web.asked == [], "nobody was asked over the network"


def test_a_directory_may_be_the_configured_source_and_that_it_is_not_there_is_told_to_people_alone(
    bench: RepositoryBench, stick: Path
) -> None:
    bench.configure(url=str(stick), silence=3600.0)
    assert bench.poll("--if-due")[0] == 0
    assert bench.offered() is not None
    away = stick.rename(stick.parent / "away")
    for _ in range(3):
        status, said = bench.poll("--if-due")
        assert (status, said["asked"]) == (0, False)
    status, error = bench.poll()
    assert (status, error["code"]) == (5, "transport.directory")
    assert bench.offered() is not None
    bench.later(datetime.now(UTC) + timedelta(hours=2))
    bench.poll("--if-due")
    assert bench.run("status")[1]["repository"]["stale"] == "silent"
    away.rename(stick)
    assert bench.poll("--if-due")[1]["asked"], "a directory is never left alone"
    assert bench.run("status")[1]["repository"]["stale"] is None


@pytest.mark.verifies("S29")
@pytest.mark.verifies("REQ-REP-05")
def test_a_stick_that_is_older_than_what_was_seen_is_refused_and_says_nothing_of_the_server(
    bench: RepositoryBench, stick: Path
) -> None:
    bench.configure(url=bench.web.url("").rstrip("/"))
    bench.offer("1.2", 12)
    assert bench.poll()[0] == 0
    before = bench.run("status")[1]["repository"]
    status, error = bench.poll(str(stick))
    assert (status, error["code"]) == (4, "refused.repository-version")
    assert bench.run("status")[1]["repository"] == before
    assert "repository-stale" not in bench.audit()
    copied(bench, stick)
    assert bench.poll(str(stick))[0] == 0
    offer = bench.offered()
    assert offer is not None
    assert offer["image"].startswith(str(stick)), "the same metadata, and the image is here"
    assert bench.poll()[0] == 0
    offer = bench.offered()
    assert offer is not None
    assert offer["image"].startswith("http://")


@pytest.mark.verifies("S29")
@pytest.mark.verifies("REQ-REP-05")
def test_a_stick_whose_metadata_has_expired_or_is_another_makers_is_refused(
    bench: RepositoryBench, stick: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    assert image_main(["repository", "init", str(other)]) == 0
    assert image_main(["repository", "publish", str(other)]) == 0
    assert bench.poll(str(other / "public"))[1]["code"] == "refused.repository-signatures"
    assert bench.run("status")[1]["repository"] is None
    bench.later(datetime.now(UTC) + timedelta(days=20))
    assert bench.poll(str(stick))[1]["code"] == "refused.repository-expired"
    assert bench.run("status")[1]["repository"] is None


def test_a_pause_that_the_server_asked_for_outlives_a_stick(bench: RepositoryBench, stick: Path) -> None:
    bench.configure(url=bench.web.url("").rstrip("/"))

    def busy(asked: Any) -> None:
        asked.send_response(503)
        asked.send_header("Retry-After", "7200")
        asked.send_header("Content-Length", "0")
        asked.end_headers()

    bench.web.answers["timestamp.json"] = busy
    assert bench.poll()[1]["code"] == "transport.busy"
    assert bench.poll("--if-due", str(stick))[1]["asked"]
    status, said = bench.poll("--if-due")
    assert (status, said["asked"]) == (0, False)
    assert said["wait"] > 7000


@pytest.mark.verifies("REQ-REP-05")
@pytest.mark.parametrize("kind", ["link", "folder-link", "pipe", "device", "folder", "long", "absent"])
def test_a_hostile_stick_is_answered_at_once_and_nothing_beyond_it_is_read(
    bench: RepositoryBench, stick: Path, tmp_path: Path, kind: str
) -> None:
    timestamp = stick / "metadata/timestamp.json"
    outside = timestamp.rename(tmp_path / "outside.json")
    if kind == "link":
        timestamp.symlink_to(outside)
    elif kind == "folder-link":
        outside.rename(timestamp)
        (stick / "metadata").rename(tmp_path / "elsewhere")
        (stick / "metadata").symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(timestamp)
    elif kind == "device":
        timestamp.symlink_to("/dev/zero")
    elif kind == "folder":
        timestamp.mkdir()
    elif kind == "long":
        timestamp.write_bytes(bytes(1 << 20))
    status, error = bench.poll(str(stick))
    assert status == 5
    assert error["code"] == ("transport.too-long" if kind == "long" else "transport.repository")
    assert bench.run("status")[1]["repository"] is None


@pytest.mark.verifies("REQ-REP-05")
@pytest.mark.parametrize("path", ["../outside.json", "targets/../../outside.json"])
def test_a_path_that_leads_out_of_the_directory_is_absent(stick: Path, path: str) -> None:
    (stick.parent / "outside.json").write_text("{}")
    assert DirectoryFetcher(stick).get(f"{stick}/{path}", 1000) == SmallFile(MISSING[-1])


def test_what_is_no_repository_is_named_as_such(bench: RepositoryBench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "absent", tmp_path / "file", bench.fleet):
        status, error = bench.poll(str(place))
        assert (status, error["code"]) == (5, "transport.directory")
        assert "mounted" in error["hint"]


@pytest.mark.verifies("REQ-REP-02")
def test_a_recall_on_a_stick_leads_to_the_successor_on_it(bench: RepositoryBench, stick: Path) -> None:
    bench.configure(on_recall="successor")
    bench.image("recall", "1.0", "--sequence", "10", "--reason", "alarm too quiet", "--successor", "1.1")
    bench.publish()
    copied(bench, stick)
    status, said = bench.poll(str(stick))
    assert (status, said["recall"]["action"], said["recall"]["outcome"]) == (0, "install", "armed")


@pytest.mark.verifies("REQ-REP-04")
def test_the_stick_that_brought_the_update_takes_the_report_of_how_it_ended(
    bench: RepositoryBench, stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_device_key(DeviceKeyFiles(bench.device.config.record.directory, ""))
    reports = stick / "reports"
    assert report(bench)[1]["sent"] == {}, "no stick was asked yet"
    bench.poll(str(stick))
    assert report(bench)[1]["sent"] == {}, "the stick has no such folder, so nobody wants any"
    reports.mkdir()
    bench.device.install(stick / "images/1.1.twin")
    bench.device.running, bench.device.boots = SlotName.B, bench.device.boots + 1
    monkeypatch.setattr(facts, "find_running_slot", lambda *_: replace(WHERE, slot=SlotName.B))
    bench.device.engine().boot()
    assert report(bench)[1]["sent"] == {}, "it is on trial"
    bench.device.engine().check()
    bench.device.engine().commit(if_trial=True)
    assert report(bench)[1]["sent"] == {str(reports): 1}
    assert report(bench)[1]["sent"] == {str(reports): 0}
    text = metrics(bench.device.config)
    assert re.search(r'^twinslot_report_row\{destination="stick"\} [1-9]', text, re.MULTILINE)
    assert 'twinslot_report_timestamp_seconds{destination="stick"}' in text
    table = tmp_path / "table.csv"
    assert image_main(["reports", str(reports), "--csv", str(table)]) == 0
    assert "committed" in table.read_text()
    for path in reports.iterdir():  # another stick at the same place, or the maker has taken the files
        path.unlink()
    assert report(bench)[1]["sent"] == {str(reports): 1}
    shutil.rmtree(reports)
    (tmp_path / "elsewhere").mkdir()
    reports.symlink_to(tmp_path / "elsewhere")
    assert report(bench)[1]["sent"] == {}, "a link would lead elsewhere"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_guide_writes_a_stick_and_its_unit_asks_it(
    bench: RepositoryBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs/guide-repository.md").read_text()
    lines, unit = re.findall(r"^```(?:sh|ini) stick\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    media = tmp_path / "media"
    media.mkdir()
    monkeypatch.chdir(bench.fleet.parent)
    for line in lines.replace("/media/stick", str(media)).splitlines():
        program, *argv = shlex.split(line)
        if program == "twinslot-image":
            assert image_main(argv) == 0
        else:
            subprocess.run([program, *argv], check=True)
    command = re.search(r"^ExecStart=/usr/bin/twinslot (.*)$", unit, re.MULTILINE)
    assert command is not None
    status, said = bench.run(*command[1].replace("/media/stick", str(media)).split(), "--no-service")
    assert (status, said["asked"]) == (0, True)
    assert bench.offered() is not None
    assert (media / "fleet/reports").is_dir()
