"""`report`: tell the maker what the audit has, signed by this device; over the network, and as files on a stick.

Rules, beside those of core/report.py:

1. Nothing leaves while a system is on trial: what is not decided yet is nobody's news, and what a system on trial wrote
   the old one would have to read.
2. The place up to which rows were told is kept for each destination, and moves only after the destination has them: a
   power cut between the two sends them again, with the same id (S23).
3. Where that place is lost, or the record was begun anew, all rows are told again.
4. When nothing is new, an empty report leaves once in `reports.every`: who is silent is then known.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import twinslot
from twinslot.config.options import Config
from twinslot.core.address import parse_address
from twinslot.core.backoff import Moment, left_of, pause_after
from twinslot.core.errors import DeviceError, Refusal, RefusedError, TransportError, TwinslotError
from twinslot.core.model import SlotName
from twinslot.core.report import (
    FORMAT,
    PAYLOAD_MAX,
    PAYLOAD_TYPE,
    Row,
    ended_updates,
    envelope,
    first_batch,
    report_id,
    thinned,
)
from twinslot.core.stored import write
from twinslot.engine.alone import alone
from twinslot.engine.facts import View, look
from twinslot.engine.identity import device_id
from twinslot.engine.report_state import ReportPlace, ReportState, place_beside, read_state, write_state
from twinslot.engine.telemetry import telemetry
from twinslot.engine.trust_time import utc_now
from twinslot.engine.verifier import GetWorker
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.storage.lock import this_boot
from twinslot.storage.record.record import Record
from twinslot.storage.sync import write_among_others, write_output
from twinslot.transport.http.small_file import BUSY
from twinslot.trust.device_key import DeviceKey, open_device_key
from twinslot.worker.file_fetcher import FileFetcher

log = logging.getLogger(__name__)

DIRECTORY: Final = "reports"  # below the record's, for the lock
SUFFIX: Final = ".report.json"
REPORTS_MAX: Final = 50  # in one run to one destination
ROWS: Final = 1_000_000  # of the audit, which are looked at in one run
HISTORY_MAX: Final = 1000  # updates that are looked through for those that ended
_ANSWER_MAX: Final = 65_536  # bytes of a server's answer, which nobody reads
RETRIES: Final = 2
RETRY_WAIT: Final = 10.0  # seconds
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"

Deliver = Callable[[str, bytes], None]  # name of the report, envelope


@dataclass(frozen=True, slots=True)
class ReportRun:
    """What came of one run.

    Attributes:
        sent: Reports that a destination took, by destination.
        wait: Seconds until the server may be told again, where it was not.
        why: Why nothing left; empty: something did, or nothing had to.
        error: What went wrong; None: nothing.
    """

    sent: dict[str, int]
    wait: float = 0.0
    why: str = ""
    error: TwinslotError | None = None


def report(config: Config, get_worker: GetWorker, *, if_due: bool) -> ReportRun:
    """Tell every configured destination what is new.

    Survives a power cut at any moment: what was not told is told by the next run.

    Args:
        config: Of this device.
        get_worker: Gives workers by kind.
        if_due: Do nothing where no destination is configured, while the server is left alone, or another run goes on.

    Raises:
        RefusedError: `refused.no-report`, `refused.report-running`.
        DeviceError: `device.record...`, `device.device-key...`: there is nothing to tell, or no key to sign it with.
    """
    if not (config.reports.url or config.reports.directory or config.reports.beside_repository):
        if if_due:
            return ReportRun({}, why="no destination is configured")
        hint = "set 'reports.url' or 'reports.directory', or name a directory with '--output'"
        raise RefusedError(Refusal("no-report", "this device reports to nobody", hint=hint))
    with alone(config.record.directory / DIRECTORY) as is_ours:
        if is_ours:
            return _Run(config, get_worker).run(if_due=if_due)
    if if_due:
        return ReportRun({}, why="another run is under way")
    raise RefusedError(Refusal("report-running", "the device reports already", hint="wait for its end"))


def report_to(config: Config, directory: Path) -> ReportRun:
    """Write what the audit has into a directory, as far as `reports.backlog` goes; the places of destinations stay.

    Raises:
        DeviceError: As `report`; `device.report-files`: the directory does not take it.
    """
    run = _Run(config, lambda _: _no_worker())
    with run.opened() as reporter:
        return ReportRun({str(directory): reporter.tell(ReportPlace(), _file_in(directory))[1]})


def _no_worker() -> Any:
    raise DeviceError("no worker is needed for files", code="worker")


class _Run:
    """One run over all destinations."""

    def __init__(self, config: Config, get_worker: GetWorker) -> None:
        self._config, self._get_worker = config, get_worker
        self._moment = Moment(time.time(), this_boot(), time.clock_gettime(time.CLOCK_BOOTTIME))

    def run(self, *, if_due: bool) -> ReportRun:
        """See `report`."""
        state = read_state(self._config.record.directory)
        with self.opened() as reporter:
            if reporter.view.facts.on_trial:
                return ReportRun({}, why="a system is on trial: nothing is told before it is decided")
            sent, errors = {}, []
            for directory in self._directories():
                state, count, error = self._told(state, reporter, str(directory), _file_in(directory))
                sent[str(directory)] = count
                errors += [error] if error else []
            if not (url := self._config.reports.url):
                return ReportRun(sent, error=errors[0] if errors else None)
            if if_due and (wait := left_of(state.pause, self._moment)):
                return ReportRun(sent, wait=wait, why="the server is left alone", error=errors[0] if errors else None)
            state, sent[url], error = self._to_server(state, reporter, url)
            errors += [error] if error else []
            return ReportRun(sent, error=errors[0] if errors else None)

    def _directories(self) -> list[Path]:
        """Those that are there."""
        config, found = self._config, []
        if (directory := config.reports.directory) is not None and directory.is_dir():
            found.append(directory)
        folder = place_beside(config)
        if folder is not None and folder.is_dir() and not folder.is_symlink():  # a link leads elsewhere
            found.append(folder)
        return found

    @contextlib.contextmanager
    def opened(self) -> Any:
        """What is told is gathered once."""
        config = self._config
        key = open_device_key(DeviceKeyFiles(config.record.directory, config.device.key))
        with look(config) as view, Record(config.record.directory, lambda: "", read_only=True) as record:
            yield ReportMaker(config, view, record, key)

    def _to_server(
        self, state: ReportState, reporter: ReportMaker, url: str
    ) -> tuple[ReportState, int, TwinslotError | None]:
        http = self._config.network
        http |= {"retries": min(http["retries"], RETRIES), "retry_wait": min(http["retry_wait"], RETRY_WAIT)}
        fetcher = FileFetcher(self._get_worker, http)
        with contextlib.closing(fetcher):
            state, count, error = self._told(state, reporter, url, lambda _, data: _post(fetcher, url, data))
            failures = 0 if error is None else state.failures + 1
            pause = replace(state.pause, seconds=0.0)
            if error is not None:
                jitter = random.random()  # noqa: S311 - spreading load, not a secret
                pause = pause_after(failures, fetcher.wait, jitter, self._moment)
        state = replace(state, failures=failures, pause=pause, error=error.as_dict() if error else {})
        write_state(self._config.record.directory, state)
        return state, count, error

    # keeps: REQ-REP-04
    # keeps: S23
    def _told(
        self, state: ReportState, reporter: ReportMaker, name: str, deliver: Deliver
    ) -> tuple[ReportState, int, TwinslotError | None]:
        """Tell one destination; the state from here on, how many reports it took, and what went wrong."""
        place, count, error = self._place(state, name), 0, None
        try:
            for _ in range(REPORTS_MAX):
                after, one = reporter.tell(place, deliver)
                if not one:
                    break
                count, place = count + one, after
                state = replace(state, places={**state.places, name: place})
                write_state(self._config.record.directory, state)
        except TwinslotError as e:
            log.warning("what is to be reported to '%s' waits: %s", name, e)
            error = e
        return state, count, error

    def _place(self, state: ReportState, name: str) -> ReportPlace:
        """Up to where it has the audit; a stick without the last report that went there is another one, or was read."""
        place = state.places.get(name, ReportPlace())
        if name in (self._config.reports.url, str(self._config.reports.directory)):
            return place
        return place if (Path(name) / f"{place.last}{SUFFIX}").is_file() else ReportPlace()


class ReportMaker:
    """Makes reports of one device at one moment.

    Args:
        config: Of this device.
        view: What is true of it.
        record: Its audit.
        key: Signs.
    """

    def __init__(self, config: Config, view: View, record: Record, key: DeviceKey) -> None:
        self.view = view
        self._config, self._record, self._key = config, record, key

    def tell(self, place: ReportPlace, deliver: Deliver) -> tuple[ReportPlace, int]:
        """Hand over the next report behind this place, if there is one to make; the place after it, and how many.

        Raises:
            TwinslotError: It was not taken; the place stays.
        """
        now = utc_now()
        rows, before, dropped = self.waiting(place)
        if not rows and not self.is_due(place, now):
            return place, 0
        name, payload, last = self._payload(rows, before, dropped, now)
        deliver(name, envelope(payload, self._key.public.fingerprint, self._key.sign(PAYLOAD_TYPE, payload)))
        number, link = (int(last["number"]), str(last["hash"])) if last else (place.number, place.link)
        return ReportPlace(number, link, now.strftime(_TIME), name), 1

    def waiting(self, place: ReportPlace) -> tuple[list[Row], str, int]:
        """Rows behind this place, the hash before them, and how many of them are not told for want of room."""
        rows = [_row(each) for each in self._record.audit_from(max(0, place.number - 1), ROWS)]
        if place.number and rows and (rows[0]["number"], rows[0]["hash"]) == (place.number, place.link):
            rows = rows[1:]
        elif place.number:  # another record, or one whose beginning is gone
            rows = [_row(each) for each in self._record.audit_from(0, ROWS)]
            place = ReportPlace()
        kept, dropped = thinned(rows, self._config.reports.backlog)
        before = place.link if kept and rows and kept[0] is rows[0] else ""
        return kept, before, dropped

    def is_due(self, place: ReportPlace, now: datetime) -> bool:
        """Whether an empty report should leave, since the last one is long ago, or its time makes no sense."""
        try:
            last = datetime.strptime(place.at, _TIME).replace(tzinfo=now.tzinfo)
        except ValueError:
            return True
        return not timedelta(0) <= now - last < timedelta(seconds=self._config.reports.every)

    def _payload(
        self, rows: list[Row], before: str, dropped: int, now: datetime
    ) -> tuple[str, bytes, dict[str, Any] | None]:
        status = self._status()
        head = {"format": FORMAT, "at": now.strftime(_TIME), "device": self._device(), "status": status}
        head |= {"before": before, "dropped": dropped, "telemetry": telemetry(self._config, self.view)}
        batch = first_batch(rows, PAYLOAD_MAX - len(json.dumps(head)) - 4096)
        history = [each.as_dict() for each in self._record.history(HISTORY_MAX)] if batch else []
        name = report_id(self._key.public.fingerprint, batch, str(head["at"]))
        whole = head | {"id": name, "rows": batch, "updates": ended_updates(batch, history)}
        payload = json.dumps(whole, sort_keys=True, separators=(",", ":"), default=str).encode()
        return name, payload, batch[-1] if batch else None

    def _device(self) -> dict[str, Any]:
        config, public = self._config, self._key.public
        return {
            "id": device_id(config),
            "key": public.fingerprint,
            "public": public.pem,
            "compatible": list(config.device.compatible),
            "hardware": config.device.hardware,
            "variant": config.device.variant,
            "ring": config.repository.ring,
        }

    def _status(self) -> dict[str, Any]:
        facts = self.view.facts
        slots = {str(name): known for name in SlotName if (known := facts.holds(name))}
        return {
            "client": twinslot.__version__,
            "running": str(facts.running) if facts.running else None,
            "state": str(facts.transaction.state if facts.transaction else facts.under_way),
            "slots": {
                name: {
                    "release": write(known.release),
                    "state": str(facts.state.states[SlotName(name)]) if facts.state else None,
                }
                for name, known in slots.items()
            },
            "floors": write(facts.floors),
        }


def _row(row: Any) -> Row:
    return {
        "number": row.number,
        "at": row.at,
        "boot": row.boot,
        "event": row.event,
        "fields": row.body,
        "hash": row.hash,
    }


def _post(fetcher: FileFetcher, url: str, data: bytes) -> None:
    """Raises `transport.busy`, `transport.report`, and whatever keeps an answer from coming."""
    answer = fetcher.post(url, data, _ANSWER_MAX)
    if 200 <= answer.status < 300:
        return
    place = parse_address(url)
    if answer.status in BUSY:
        found = f"status {answer.status}, {answer.wait:g} seconds"
        raise TransportError(f"'{place}' asks to wait", code="busy", found=found, hint="the next run tells it")
    hint = "does the server take POST at this address? The reports wait"
    raise TransportError(
        f"'{place}' does not take reports", code="report", expected=200, found=answer.status, hint=hint
    )


def _file_in(directory: Path) -> Deliver:
    """Writes each report as a file of its own."""
    return lambda name, data: _written(write_among_others, directory / f"{name}{SUFFIX}", data)


def write_figures(path: Path, data: bytes) -> None:
    """A file that others read, whole or not at all, also through a power cut.

    Raises:
        DeviceError: `device.report-files`: it cannot be written.
    """
    _written(write_output, path, data)


def _written(write: Callable[[Path, bytes, int], None], path: Path, data: bytes) -> None:
    try:
        write(path, data, 0o644)
    except OSError as e:
        hint = "does the directory exist, may this user write there, and is there room?"
        raise DeviceError(f"'{path}' cannot be written", code="report-files", found=e.strerror, hint=hint) from e
