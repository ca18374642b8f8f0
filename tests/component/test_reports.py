"""What became of updates, told without a server of a fleet: over HTTP or on a stick, to the maker's table."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from file_web import serving_files
from report_server import ReportServer, taking_reports
from repository_bench import WHERE, RepositoryBench, repository_bench

from twinslot.config.reports import ReportConfig
from twinslot.core.model import SlotName
from twinslot.engine import facts, report
from twinslot.engine.report_state import ReportState, read_state, write_state
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.trust.device_key import make_device_key
from twinslot_image.cli import main as image_main


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RepositoryBench]:
    with repository_bench(tmp_path) as bench:
        make_device_key(DeviceKeyFiles(bench.device.config.record.directory, ""))
        yield bench


@pytest.fixture
def server(bench: RepositoryBench, tmp_path: Path) -> Iterator[ReportServer]:
    with taking_reports(tmp_path / "collected") as server:
        configure(bench, url=server.url)
        yield server


def configure(bench: RepositoryBench, **changes: Any) -> None:
    config = bench.device.config
    bench.device.config = replace(config, reports=replace(config.reports, **changes))


def tell(bench: RepositoryBench, *argv: str) -> tuple[int, dict[str, Any]]:
    return bench.run("report", "--no-service", *argv)


def payloads(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"])) for path in sorted(folder.glob("*.json"))
    ]


def events(folder: Path) -> list[str]:
    """Of all reports, each row once."""
    rows = {row["number"]: row["event"] for each in payloads(folder) for row in each["rows"]}
    return [rows[number] for number in sorted(rows)]


def tabulated(*argv: str) -> dict[str, Any]:
    """`twinslot-image reports ... --json`."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert image_main(["reports", *argv, "--json"]) == 0
    found: dict[str, Any] = json.loads(out.getvalue().splitlines()[-1])
    return found


def start(bench: RepositoryBench, slot: SlotName, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start, of this slot."""
    bench.device.running, bench.device.boots = slot, bench.device.boots + 1
    monkeypatch.setattr(facts, "find_running_slot", lambda *_: replace(WHERE, slot=slot))
    bench.device.engine().boot()


@pytest.mark.verifies("REQ-REP-04")
@pytest.mark.verifies("S23")
def test_success_is_told_after_the_commit_and_nothing_while_the_system_is_on_trial(
    bench: RepositoryBench, server: ReportServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(bench)
    bench.device.install(bench.maker.directory / "1.1.twin")
    assert tell(bench)[0] == 0
    assert "committed" not in events(server.folder), "it is armed, no more"
    assert not any(each["updates"] for each in payloads(server.folder))
    start(bench, SlotName.B, monkeypatch)
    before = server.asked
    status, said = tell(bench)
    assert (status, said["sent"]) == (0, {})
    assert "on trial" in said["why"]
    assert server.asked == before
    bench.device.engine().check()
    bench.device.engine().commit(if_trial=True)
    assert tell(bench)[0] == 0
    assert events(server.folder)[-1] == "committed"
    (update,) = payloads(server.folder)[-1]["updates"]
    assert (update["outcome"], update["release"]["sequence"]) == ("committed", 11)
    assert events(server.folder) == bench.audit(), "every row, once, in order"


@pytest.mark.verifies("REQ-REP-04")
@pytest.mark.verifies("S23")
def test_a_power_cut_between_any_two_steps_loses_no_row_and_tells_none_early(
    bench: RepositoryBench, server: ReportServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0

    class PowerCut(BaseException):
        """Nothing after this runs."""

    def cutting(function: Callable[..., Any], at: int) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == at:
                raise PowerCut
            found = function(*arguments, **options)
            steps += 1
            if steps == at:
                raise PowerCut
            return found

        return step

    seconds = itertools.count()
    monkeypatch.setattr(report, "utc_now", lambda: datetime.now(UTC) + timedelta(seconds=next(seconds)))
    bench.device.install(bench.maker.directory / "1.1.twin")
    bench.device.engine().cancel()
    for at in range(1, 100):
        steps = 0
        with monkeypatch.context() as patch:
            for name in ("read_state", "write_state", "_post", "envelope"):
                patch.setattr(report, name, cutting(getattr(report, name), at))
            with contextlib.suppress(PowerCut):
                tell(bench)
        if steps < at:
            break
    assert at > 6, "a cut before and behind each step"
    tell(bench)
    assert events(server.folder) == bench.audit()
    told = payloads(server.folder)
    assert len({each["id"] for each in told}) < len(told), "some came twice, with the id that they had"
    same = {each["id"]: [row["hash"] for row in each["rows"]] for each in told if each["rows"]}
    assert all(same[each["id"]] == [row["hash"] for row in each["rows"]] for each in told if each["rows"])
    table = tabulated(str(server.folder))
    assert (len(table["devices"]), table["broken"], table["refused"]) == (1, {}, {})
    assert table["twice"] > 0
    assert table["devices"][0]["outcome"] == "abandoned"


@pytest.mark.slow
@pytest.mark.verifies("REQ-REP-04")
@pytest.mark.verifies("S23")
def test_an_answer_that_is_lost_or_an_error_leaves_the_rows_for_the_next_run(
    bench: RepositoryBench, server: ReportServer
) -> None:
    server.loses = True
    status, error = tell(bench)
    assert (status, error["code"].partition(".")[0]) == (5, "transport")
    server.loses = False
    for code, expected in ((500, "transport"), (404, "transport.report"), (403, "transport.report")):
        server.status = code
        status, error = tell(bench)
        assert status == 5
        assert error["code"].startswith(expected)
    server.status = 200
    assert tell(bench)[0] == 0
    assert events(server.folder) == bench.audit()
    assert tabulated(str(server.folder))["broken"] == {}


@pytest.mark.slow
def test_a_server_that_redirects_gets_nothing_and_the_error_says_where_to(
    bench: RepositoryBench, server: ReportServer
) -> None:
    for code in (301, 302, 303, 307, 308):
        server.status, server.headers = code, {"Location": "https://elsewhere.example/reports"}
        status, error = tell(bench)
        assert (status, error["code"]) == (5, "transport.redirect")
        assert "elsewhere.example" in error["found"]
    server.status, server.headers = 200, {}
    assert tell(bench)[0] == 0
    assert events(server.folder) == bench.audit()


def test_a_server_that_wants_to_be_left_alone_is_by_the_timer(bench: RepositoryBench, server: ReportServer) -> None:
    server.status, server.headers = 503, {"Retry-After": "7200"}
    assert tell(bench)[1]["code"] == "transport.busy"
    asked = server.asked
    status, said = tell(bench, "--if-due")
    assert (status, server.asked) == (0, asked)
    assert 7000 < said["wait"] <= 9000


def test_without_news_one_empty_report_a_day_says_that_the_device_is_there(
    bench: RepositoryBench, server: ReportServer
) -> None:
    tell(bench)
    count = len(payloads(server.folder))
    assert tell(bench)[1]["sent"] == {server.url: 0}
    state = read_state(bench.device.config.record.directory)
    place = state.places[server.url]
    yesterday = f"{datetime.now(UTC) - timedelta(days=1, minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    moved = ReportState({server.url: replace(place, at=yesterday)})
    write_state(bench.device.config.record.directory, moved)
    assert tell(bench)[1]["sent"] == {server.url: 1}
    assert payloads(server.folder)[-1]["rows"] == []
    assert len(payloads(server.folder)) == count + 1


def test_a_stick_takes_reports_as_files_while_it_is_there(bench: RepositoryBench, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    configure(bench, directory=stick)
    assert tell(bench)[1]["sent"] == {}
    stick.mkdir()
    assert tell(bench)[1]["sent"] == {str(stick): 1}
    assert tell(bench)[1]["sent"] == {str(stick): 0}
    assert events(stick) == bench.audit()
    other = tmp_path / "other"
    other.mkdir()
    configure(bench, directory=None)
    assert tell(bench, "--output", str(other))[1]["sent"] == {str(other): 1}
    assert tabulated(str(stick), str(other))["devices"][0]["release"] == "1.0"
    assert tell(bench, "--output", str(tmp_path / "absent"))[1]["code"] == "device.report-files"


def test_a_record_that_was_begun_anew_is_told_from_its_first_row(bench: RepositoryBench, server: ReportServer) -> None:
    tell(bench)
    directory = bench.device.config.record.directory
    state = read_state(directory)
    place = replace(state.places[server.url], link="0" * 64)
    write_state(directory, replace(state, places={server.url: place}))
    assert tell(bench)[0] == 0
    first, last = payloads(server.folder)[0], payloads(server.folder)[-1]
    assert [row["hash"] for row in first["rows"]] == [row["hash"] for row in last["rows"]]


def test_of_too_many_rows_ends_of_updates_are_kept_and_the_number_of_the_others_is_told(
    bench: RepositoryBench, server: ReportServer
) -> None:
    bench.device.install(bench.maker.directory / "1.1.twin")
    bench.device.engine().cancel()
    with bench.device.record() as record:
        for number in range(300):
            record.audit("checked", well=True, note=str(number))
    configure(bench, backlog=100)
    tell(bench)
    told = payloads(server.folder)
    assert sum(each["dropped"] for each in told) > 0
    assert "abandoned" in events(server.folder)
    assert len(events(server.folder)) <= 100
    assert all(len(path.read_bytes()) < 65_536 for path in server.folder.glob("*.json"))
    (broken,) = tabulated(str(server.folder))["broken"].values()
    assert all("left out by the device" in line for line in broken)


def test_without_a_destination_the_timer_does_nothing_and_a_user_is_told(bench: RepositoryBench) -> None:
    configure(bench, url="", directory=None)
    assert tell(bench, "--if-due")[0] == 0
    assert tell(bench)[1]["code"] == "refused.no-report"


def test_what_is_sent_passes_an_allowed_address_alone(bench: RepositoryBench) -> None:
    configure(bench, url="http://192.0.2.1/reports")
    assert tell(bench)[1]["code"] in ("transport.scheme", "refused.scheme")


# The maker's table


def report_of(bench: RepositoryBench, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    assert tell(bench, "--output", str(folder))[0] == 0
    return max(folder.glob("*.json"))


def test_a_link_that_stands_at_the_name_of_a_report_is_not_followed(bench: RepositoryBench, tmp_path: Path) -> None:
    path = report_of(bench, tmp_path / "in")
    (tmp_path / "mine").write_text("mine")
    path.unlink()
    for name in (path.name, f"{path.name}~new"):
        (path.parent / name).symlink_to(tmp_path / "mine")
    assert report_of(bench, tmp_path / "in") == path
    assert not path.is_symlink()
    assert (tmp_path / "mine").read_text() == "mine"


def test_reports_that_were_changed_or_signed_by_others_do_not_count(bench: RepositoryBench, tmp_path: Path) -> None:
    path = report_of(bench, tmp_path / "in")
    whole = json.loads(path.read_bytes())
    payload = base64.b64decode(whole["payload"])
    changed = dict(whole, payload=base64.b64encode(payload.replace(b'"1.0"', b'"9.9"')).decode())
    for number, broken in enumerate(
        (json.dumps(changed), "{}", "[" * 100_000, "", json.dumps(whole | {"payloadType": "x"}), '{"payload": 1}')
    ):
        (tmp_path / "in" / f"broken-{number}.json").write_text(broken)
    table = tabulated(str(tmp_path / "in"))
    assert len(table["refused"]) == 6
    assert [each["release"] for each in table["devices"]] == ["1.0"]
    keys = tmp_path / "factory"
    keys.mkdir()
    strange, _ = make_device_key(DeviceKeyFiles(tmp_path / "strange", ""))
    (keys / "strange.pem").write_text(strange.public.pem)
    assert tabulated(str(tmp_path / "in"), "--keys", str(keys))["devices"] == []
    ours = bench.device.config.record.directory / "device-key.pub"
    (keys / "ours.pem").write_bytes(ours.read_bytes())
    (found,) = tabulated(str(tmp_path / "in"), "--keys", str(keys))["devices"]
    assert found["known"] is True


def test_one_id_in_two_devices_is_told(bench: RepositoryBench, tmp_path: Path) -> None:
    report_of(bench, tmp_path / "in")
    for name in ("device-key.pem", "device-key.pub"):
        (bench.device.config.record.directory / name).unlink()
    make_device_key(DeviceKeyFiles(bench.device.config.record.directory, ""))
    report_of(bench, tmp_path / "in")
    table = tabulated(str(tmp_path / "in"))
    assert {device: len(keys) for device, keys in table["same_id"].items()} == {"0123456789abcdef": 2}


def test_who_lacks_a_release_whose_wave_has_ended_is_late_and_who_runs_a_recalled_one_is_named(
    bench: RepositoryBench, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    report_of(bench, folder)
    past = datetime.now(UTC) - timedelta(days=2)
    times = [f"{past + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for hours in (0, 5)]
    bench.image("wave", "1.1", f"100%,{times[0]},1h,end={times[1]}")
    bench.image("recall", "1.0", "--sequence", "10", "--reason", "alarm too quiet")
    table = tabulated(str(folder), "--repository", str(bench.fleet))
    assert list(table["late"].values()) == ["1.1"]
    assert len(table["recalled"]) == 1


def test_the_page_and_the_table_hold_whatever_a_device_says(bench: RepositoryBench, tmp_path: Path) -> None:
    (bench.device.directory / "machine-id").write_text("=cmd|'<script>alert(1)</script>\n")
    report_of(bench, tmp_path / "in")
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    tabulated(str(tmp_path / "in"), "--html", str(page), "--csv", str(table))
    assert "<script" not in page.read_text()
    assert "&lt;script&gt;" in page.read_text()
    assert page.read_text().count("<svg") == 3
    assert "\n'=cmd" in table.read_text()


def test_a_table_and_a_page_replace_their_own_kind_and_no_other(bench: RepositoryBench, tmp_path: Path) -> None:
    path = report_of(bench, tmp_path / "in")
    mine, fresh = tmp_path / "mine", tmp_path / "fresh"
    for option in ("--csv", "--html"):
        mine.write_text("mine")
        assert image_main(["reports", str(path), option, str(mine)]) == 4
        assert mine.read_text() == "mine"
        assert [image_main(["reports", str(path), option, str(fresh)]) for _ in range(2)] == [0, 0]
        fresh.unlink()
        assert image_main(["reports", str(path), option, str(path)]) == 4, "a report is no output"
        assert image_main(["reports", str(path), option, str(path), "--force"]) == 4
        assert image_main(["reports", str(path), option, str(mine), "--force"]) == 0
        assert mine.read_text() != "mine"


def test_silence_is_told_after_the_days_that_are_given(bench: RepositoryBench, tmp_path: Path) -> None:
    path = report_of(bench, tmp_path / "in")
    assert tabulated(str(path))["silent"] == []
    with pytest.MonkeyPatch.context() as patch:
        old = datetime.now(UTC) - timedelta(days=5)
        patch.setattr(report, "utc_now", lambda: old)
        path.unlink()
        report_of(bench, tmp_path / "in")
    assert len(tabulated(str(tmp_path / "in"))["silent"]) == 1
    assert tabulated(str(tmp_path / "in"), "--silence", "7")["silent"] == []


def test_by_default_no_report_leaves() -> None:
    assert ReportConfig() == ReportConfig(url="", directory=None)


def test_a_poll_and_a_report_are_not_in_each_others_way(bench: RepositoryBench, server: ReportServer) -> None:
    with serving_files(bench.fleet / "public"):
        assert bench.poll()[0] == 0
    assert tell(bench)[0] == 0
    assert events(server.folder) == bench.audit()


def test_doctor_says_when_the_maker_does_not_hear_of_the_device(bench: RepositoryBench, server: ReportServer) -> None:
    def finding() -> dict[str, Any]:
        findings: list[dict[str, Any]] = bench.run("doctor")[1]["findings"]
        return next(each for each in findings if each["name"] == "reports")

    assert finding()["text"] == "nothing was reported yet"
    server.status = 404
    tell(bench)
    assert (finding()["severity"], "does not take reports" in finding()["text"]) == ("warning", True)
    server.status = 200
    tell(bench)
    assert finding()["severity"] == "fine"
