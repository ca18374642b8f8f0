"""Health checks against real programs, a real HTTP server and a systemctl that behaves."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import waits
from fakes.rigs import FAKE_BIN
from twinslot.config.options import HealthCommandConfig, HealthConfig, HealthHttpConfig
from twinslot.core.errors import DeviceError
from twinslot.health.base import CheckOptions, CheckVerdict, Runner
from twinslot.health.command import CommandCheck
from twinslot.health.directory import NotAsked, discover
from twinslot.health.http import HttpCheck
from twinslot.health.selection import check_names, configured_checks
from twinslot.health.systemd import NoFailedUnits, UnitCheck


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def command(text: str) -> CommandCheck:
    return CommandCheck("c", ("sh", "-c", text))


# Programs


def test_exit_status_zero_is_well_and_the_last_line_is_the_detail() -> None:
    assert command("echo first; echo pump answers; echo").probe(waits.HANG) == CheckVerdict(
        passed=True, detail="pump answers"
    )


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("echo no pump; exit 4", "no pump (exit status 4)"),
        ("echo broken >&2; exit 1", "broken (exit status 1)"),
        ("exit 1", "exit status 1"),
        ("kill -SEGV $$", "killed by signal 11"),
    ],
)
def test_anything_else_is_not_well_and_says_how(text: str, detail: str) -> None:
    verdict = command(text).probe(waits.HANG)
    assert (verdict.passed, verdict.detail) == (False, detail)


def test_what_does_not_end_in_time_is_not_well_and_says_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setattr("twinslot.system.process.time", waits.Stopped(mark.exists))
    verdict = command(f"echo waiting; touch {mark}; sleep 1000").probe(0.2)
    assert (verdict.passed, verdict.detail) == (False, "did not end within 0.2 s: waiting")


def test_a_missing_program_is_not_well() -> None:
    verdict = CommandCheck("c", ("/nonexistent/check",)).probe(waits.HANG)
    assert (verdict.passed, verdict.detail) == (False, "cannot be started: No such file or directory")


def test_a_hanging_program_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child"
    monkeypatch.setattr("twinslot.system.process.time", waits.Stopped(lambda: child.exists() and child.read_text()))
    assert not command(f"sleep 1000 & echo $! >{child}; wait").probe(0.2).passed
    waits.until(lambda: waits.is_gone(int(child.read_text())))


def test_every_executable_in_the_directories_is_a_check_and_the_earlier_directory_hides(tmp_path: Path) -> None:
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    script(etc / "20-pump", "echo mine")
    script(lib / "20-pump", "echo vendor; exit 1")
    script(lib / "10-net.sh", "exit 0")
    script(lib / "30-masked", "exit 1")
    (etc / "30-masked").symlink_to("/dev/null")
    odd = ["motor@left", "two words", "a+b", "_x", ".hidden", "pr\u00fcfung", "-n", "line\nbreak", "{}", "README"]
    for name in odd:
        script(lib / name, "exit 0")
    checks = discover([etc, tmp_path / "absent", lib], CheckOptions(timeout=waits.HANG), [tmp_path / "absent"])
    assert all(isinstance(check, CommandCheck) and check.terms.required for check in checks)
    names = [check.name for check in checks]
    assert names == sorted(["10-net.sh", "20-pump", *odd[:7], "line\\nbreak", *odd[8:]])
    assert checks[names.index("20-pump")].probe(waits.HANG).detail == "mine"
    assert all(check.probe(waits.HANG).passed for check in checks), "each can be started, whatever its name"


def test_a_name_that_is_not_utf8_is_asked_and_printed_in_escapes(tmp_path: Path) -> None:
    script(tmp_path / os.fsdecode(b"pr\xfcfung"), "exit 3")
    (check,) = discover([tmp_path], CheckOptions(timeout=waits.HANG))
    assert check.name == "pr\\xfcfung"
    assert check.probe(waits.HANG) == CheckVerdict(passed=False, detail="exit status 3")


def test_what_is_no_check_is_reported_with_the_reason_and_never_passes(tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    script(lib / "10-net", "exit 1", 0o644)
    leftovers = ("10-net.sh~", "x.dpkg-old", "y.bak", "#z#", "u.rpmsave", "v.orig", ".w.swp", ".nfs0000ab")
    for leftover in leftovers:
        script(lib / leftover, "exit 1")
    (lib / ".#10-net").symlink_to("me@host.123")  # an editor's lock
    (lib / "directory").mkdir()
    os.mkfifo(lib / "pipe")
    (lib / "gone").symlink_to("nowhere")
    (lib / "circle").symlink_to("circle")
    (tmp_path / "file").touch()
    (tmp_path / "lost").symlink_to("data/health.d")
    directories = [lib, tmp_path / "absent", tmp_path / "file", tmp_path / "lost"]
    checks = discover(directories, CheckOptions(timeout=waits.HANG), [tmp_path / "lost"])
    why = {check.name: check.why for check in checks if isinstance(check, NotAsked)}
    assert len(why) == len(checks)
    leftover = "the name is that of a leftover of an editor or a package"
    assert why == dict.fromkeys((*leftovers, ".#10-net"), leftover) | {
        "10-net": "the file is not executable",
        "directory": "it is no regular file",
        "pipe": "it is no regular file",
        "gone": "the file cannot be looked at (No such file or directory)",
        "circle": "the file cannot be looked at (Too many levels of symbolic links)",
        str(tmp_path / "absent"): "the directory does not exist",
        str(tmp_path / "file"): "the directory cannot be listed (Not a directory)",
        str(tmp_path / "lost"): "the directory is a link that leads nowhere",
    }
    assert not any(check.probe(waits.HANG).passed for check in checks)
    required = {check.name for check in checks if check.terms.required}
    meant = {"gone", "circle", str(tmp_path / "file"), str(tmp_path / "lost")}
    assert required == meant, "there a check was certainly meant"


def test_only_the_endings_that_package_tools_use_make_a_leftover(tmp_path: Path) -> None:
    for name in ("fan.rpmlow", "fan.rpm", "x.old", "x.BAK", "swp"):
        script(tmp_path / name, "exit 1")
    assert all(isinstance(check, CommandCheck) for check in discover([tmp_path], CheckOptions(timeout=waits.HANG)))


def test_a_file_that_does_not_run_hides_nothing(tmp_path: Path) -> None:
    script(tmp_path / "etc/10-net", "exit 0", 0o644)
    script(tmp_path / "lib/10-net", "echo vendor")
    checks = discover([tmp_path / "etc", tmp_path / "lib"], CheckOptions(timeout=waits.HANG))
    assert [(check.name, type(check)) for check in checks] == [("10-net", NotAsked), ("10-net", CommandCheck)]


@pytest.mark.verifies("S11")
def test_a_file_that_does_not_run_takes_no_name_from_a_check_that_a_manifest_may_demand(tmp_path: Path) -> None:
    script(tmp_path / "etc/10-net", "exit 0", 0o644)
    script(tmp_path / "lib/10-net", "exit 0")
    checks = configured_checks(HealthConfig(directories=(tmp_path / "etc", tmp_path / "lib")))
    assert [(check.name, type(check)) for check in checks] == [("10-net (2)", NotAsked), ("10-net", CommandCheck)]
    assert check_names(checks) == {"10-net"}


def test_checks_of_one_name_are_all_asked_under_names_of_their_own(tmp_path: Path) -> None:
    script(tmp_path / "pump", "exit 0")
    commands = (HealthCommandConfig(name="pump", argv=("false",)), HealthCommandConfig(name="pump", argv=("true",)))
    checks = configured_checks(HealthConfig(units=("x", "x"), directories=(tmp_path,), command=commands))
    assert [check.name for check in checks] == ["unit:x", "pump", "pump (2)", "pump (3)"]
    assert [result.passed for result in Runner(checks[1:]).run(float("inf"))] == [True, False, True]


# systemd


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "units"
    path.mkdir()
    monkeypatch.setenv("FAKE_SYSTEMD", str(path))
    monkeypatch.setattr("twinslot.system.process.time", waits.Stopped(lambda: False))  # systemctl may take its time
    monkeypatch.setenv("PATH", str(FAKE_BIN), prepend=os.pathsep)
    return path


def unit_check(seconds: float = 10.0) -> tuple[bool, str, float]:
    """Passed, detail, and how long it would have waited."""
    now = [0.0]

    def sleep(pause: float) -> None:
        now[0] += pause

    verdict = UnitCheck("app.service", clock=lambda: now[0], sleep=sleep).probe(seconds)
    return verdict.passed, verdict.detail, now[0]


def test_an_active_unit_is_well(units: Path) -> None:
    (units / "app.service").write_text("active running success\n")
    assert unit_check() == (True, "active (running)", 0.0)


def test_a_unit_that_is_starting_is_waited_for(units: Path) -> None:
    (units / "app.service").write_text(
        "activating start-pre success\nactivating start success\nactive running success\n"
    )
    assert unit_check() == (True, "active (running)", 1.0)


def test_a_unit_whose_job_is_still_queued_is_waited_for(units: Path) -> None:
    (units / "app.service").write_text("inactive dead success job\nactive running success\n")
    assert unit_check() == (True, "active (running)", 0.5)


def test_a_unit_that_never_gets_ready_fails_when_the_time_is_over(units: Path) -> None:
    (units / "app.service").write_text("activating start success\n")
    passed, detail, waited = unit_check(3)
    assert not passed
    assert detail.startswith("activating (start) after 3 s")
    assert waited == 2.5, "half a second is left for the last question"


@pytest.mark.parametrize("pattern", ["app*", "app?", "[ab]pp.service"])
def test_a_pattern_of_units_is_no_unit(units: Path, pattern: str) -> None:
    (units / "app.service").write_text("active running success\n")
    assert UnitCheck(pattern).probe(waits.HANG) == CheckVerdict(
        passed=False, detail="this is a pattern: name each unit"
    )


@pytest.mark.parametrize(
    ("state", "detail"),
    [
        ("failed failed exit-code", "failed (failed), result exit-code"),
        ("inactive dead success", "inactive (dead)"),
    ],
)
def test_a_unit_that_is_down_fails_at_once(units: Path, state: str, detail: str) -> None:
    (units / "app.service").write_text(state + "\n")
    assert unit_check() == (False, detail, 0.0)


def test_a_missing_unit_says_so(units: Path) -> None:
    assert unit_check() == (False, "unit is not-found", 0.0)


def test_without_systemd_no_unit_is_well(units: Path) -> None:
    (units / "broken").touch()
    passed, detail, _ = unit_check()
    assert not passed
    assert "has not been booted" in detail
    assert not NoFailedUnits().probe(waits.HANG).passed


def test_failed_units_are_named(units: Path) -> None:
    (units / "good.service").write_text("active running\n")
    assert NoFailedUnits().probe(waits.HANG).passed
    for number in range(7):
        (units / f"u{number}.service").write_text("failed failed\n")
    verdict = NoFailedUnits().probe(waits.HANG)
    assert not verdict.passed
    assert verdict.detail == "failed: u0.service, u1.service, u2.service, u3.service, u4.service and 2 more"


# HTTP


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/drip":
            for _ in range(100):
                self.wfile.write(b"H")
                time.sleep(0.05)
        self.send_response({"/health?full=1": 200, "/moved": 302}.get(self.path, 503))
        self.send_header("Location", "/health?full=1")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that hang up are the point
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_the_expected_status_is_well(server: str) -> None:
    assert HttpCheck("h", f"{server}/health?full=1").probe(waits.HANG).passed
    assert HttpCheck("h", f"{server.replace('127.0.0.1', 'localhost')}/x", status=503).probe(waits.HANG).passed


@pytest.mark.parametrize(("path", "status"), [("/", 503), ("/moved", 302)])
def test_another_status_is_not_and_redirects_are_not_followed(server: str, path: str, status: int) -> None:
    verdict = HttpCheck("h", server + path).probe(waits.HANG)
    assert (verdict.passed, verdict.detail) == (False, f"expected status '200', found '{status}'")


def test_an_answer_that_drips_is_cut_off_in_time(server: str) -> None:
    verdict = HttpCheck("h", f"{server}/drip").probe(0.3)
    assert (verdict.passed, verdict.detail) == (False, "no answer within 0.3 s"), "at its end it would be another"


def test_a_closed_port_is_not_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    verdict = HttpCheck("h", f"http://127.0.0.1:{port}/").probe(waits.HANG)
    assert (verdict.passed, verdict.detail) == (False, "no answer: [Errno 111] Connection refused")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "https://127.0.0.1/",
        "http://127.0.0.1.evil/",
        "http://u@127.0.0.1/",
        "file:///etc/passwd",
        "http://[::1",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1/a b",
        "",
        "127.0.0.1",
    ],
)
def test_a_url_that_leaves_the_device_is_refused(url: str) -> None:
    with pytest.raises(DeviceError) as caught:
        HttpCheck("h", url)
    assert caught.value.code == "device.config-value"


# All together


def test_the_configuration_gives_all_checks_in_order(units: Path, server: str, tmp_path: Path) -> None:
    script(tmp_path / "health.d/50-disk", "exit 0")
    (units / "app.service").write_text("active running\n")
    health = HealthConfig(
        units=("app.service",),
        no_failed_units=True,
        directories=(tmp_path / "health.d",),
        command=(HealthCommandConfig(name="pump", argv=("false",), required=False),),
        http=(HealthHttpConfig(name="web", url=f"{server}/health?full=1"),),
    )
    results = Runner(configured_checks(health)).run(float("inf"))
    assert [(result.name, result.passed) for result in results] == [
        ("unit:app.service", True),
        ("50-disk", True),
        ("pump", False),
        ("web", True),
        ("no-failed-units", True),
    ]


def test_no_configuration_asks_nothing() -> None:
    assert configured_checks(HealthConfig(directories=())) == ()
