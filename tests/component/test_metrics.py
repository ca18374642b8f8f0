"""`twinslot metrics` through the command line, read by Prometheus' own parser and, where it is there, by promtool."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from repository_bench import WHERE, RepositoryBench, repository_bench

from twinslot.app.local import LocalUpdater
from twinslot.cli.host import Host
from twinslot.cli.main import main
from twinslot.core.model import SlotName
from twinslot.engine import facts


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RepositoryBench]:
    with repository_bench(tmp_path) as bench:
        yield bench


def told(bench: RepositoryBench, capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    host = Host(is_root=lambda: False, config=lambda _: bench.device.config, local=LocalUpdater)
    capsys.readouterr()
    assert main(["metrics", *argv], host) == 0
    return capsys.readouterr().out


def figures(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_what_runs_what_is_offered_and_how_updates_ended_is_told(
    bench: RepositoryBench,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    bench.poll()
    before = figures(told(bench, capsys))
    assert before["twinslot_slot_running{slot=a}"] == 1
    assert before["twinslot_offer_info{ready=yes,release=1.1,sequence=11}"] == 1
    assert before["twinslot_repository_failures{}"] == 0
    bench.device.install(bench.maker.directory / "1.1.twin")
    assert figures(told(bench, capsys))["twinslot_update_state{state=armed}"] == 1
    bench.device.running, bench.device.boots = SlotName.B, 2
    monkeypatch.setattr(facts, "find_running_slot", lambda *_: replace(WHERE, slot=SlotName.B))
    bench.device.engine().boot()
    bench.device.engine().check()
    bench.device.engine().commit(if_trial=True)
    after = figures(told(bench, capsys))
    assert after["twinslot_trial_starts_total{outcome=committed,reason=}"] == 1
    assert after["twinslot_updates_total{kind=install,outcome=committed,reason=}"] == 1
    assert after["twinslot_update_bytes_total{how=fetched}"] > 0
    assert after["twinslot_check_passed{check=system,required=yes}"] == 1
    assert after["twinslot_last_update_phase_seconds{phase=write}"] >= 0
    assert after["twinslot_slot_running{slot=b}"] == 1
    entries = [getattr(record, "journal", {}) for record in caplog.records]
    (end,) = [entry for entry in entries if entry.get("TWINSLOT_EVENT") == "committed"]
    assert int(end["TWINSLOT_BYTES_FETCHED"]) == after["twinslot_update_bytes_total{how=fetched}"]
    assert float(end["TWINSLOT_SECONDS_WRITE"]) == after["twinslot_last_update_phase_seconds{phase=write}"]


def test_a_file_for_the_textfile_collector_is_replaced_whole(
    bench: RepositoryBench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    place = tmp_path / "twinslot.prom"
    place.write_text("old")
    assert told(bench, capsys, "--output", str(place)) == ""
    assert place.read_text().endswith("# EOF\n")
    assert figures(place.read_text())
    assert [path.name for path in tmp_path.glob("*prom*")] == ["twinslot.prom"]
    host = Host(is_root=lambda: False, config=lambda _: bench.device.config, local=LocalUpdater)
    assert main(["metrics", "--output", str(tmp_path / "absent/x.prom")], host) == 6
    assert "report-files" not in capsys.readouterr().out


def test_promtool_finds_nothing_wrong(bench: RepositoryBench, capsys: pytest.CaptureFixture[str]) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed: 'apt-get install prometheus'")
    bench.poll()
    text = told(bench, capsys)
    done = subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stdout + done.stderr  # 3: it would name something otherwise
    assert "error while" not in done.stderr


def test_an_output_that_is_no_file_is_written_to_and_stays_and_so_does_a_link(
    bench: RepositoryBench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "collector"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    reader = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    told(bench, capsys, "--output", str(folder / "pipe"))
    assert os.read(reader, 1 << 16).endswith(b"# EOF\n")
    os.close(reader)
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)
    (folder / "link").symlink_to("file")
    told(bench, capsys, "--output", str(folder / "link"))
    assert (folder / "link").is_symlink()
    assert (folder / "file").read_text().endswith("# EOF\n")
    assert sorted(path.name for path in folder.iterdir()) == ["file", "link", "pipe"]


def test_what_stands_at_the_name_of_a_temporary_file_is_not_followed(
    bench: RepositoryBench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "twinslot.prom~new").symlink_to("mine")
    told(bench, capsys, "--output", str(tmp_path / "twinslot.prom"))
    assert (tmp_path / "mine").read_text() == "mine"
