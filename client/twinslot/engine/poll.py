"""`poll`: ask the repository for news, and tell the audit when it stops being fresh, or begins to be again.

Nothing is installed, and no slot, record or environment changes but for that row of the audit.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from twinslot.config.options import Config
from twinslot.core.backoff import left_of
from twinslot.core.errors import DeviceError, Refusal, RefusedError, TransportError, TwinslotError
from twinslot.core.events import AuditEvent
from twinslot.core.model import SlotName
from twinslot.engine.alone import alone
from twinslot.engine.engine import Engine
from twinslot.engine.facts import look, open_record
from twinslot.engine.identity import device_id, fingerprint_of
from twinslot.engine.naming import source_name
from twinslot.engine.offered import recalls_here
from twinslot.engine.trust_time import trust_time
from twinslot.engine.verifier import GetWorker
from twinslot.policy.moment import this_moment
from twinslot.repository.directory import NO_REPOSITORY, DirectoryFetcher, Fetcher
from twinslot.repository.poll import DOCUMENTS, Poll, PollSetting
from twinslot.repository.state import PollState, read_state, write_state
from twinslot.worker.file_fetcher import FileFetcher

log = logging.getLogger(__name__)

RETRIES: Final = 2  # further tries within a poll; between polls core/backoff.py counts
RETRY_WAIT: Final = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class PollReport:
    """What came of a poll.

    Attributes:
        asked: Whether the server was asked; otherwise it is still left alone, or another poll runs.
        wait: Seconds until it may be asked again, where it was not.
        error: Why it gave nothing fresh; None: it did.
    """

    asked: bool
    wait: float = 0.0
    error: TwinslotError | None = None


# keeps: S29
def poll(
    config: Config,
    get_worker: GetWorker,
    open_engine: Callable[[], Engine],
    *,
    if_due: bool,
    directory: Path | None = None,
) -> PollReport:
    """Ask the repository once.

    Survives a power cut at any moment: what was trusted before is kept, and the next poll goes on.

    Args:
        config: Of this device.
        get_worker: Gives workers by kind.
        open_engine: For the audit, which is told of a change alone.
        if_due: Ask nothing where there is no repository, while the server is left alone, or another poll runs; that a
            directory is not there is no error.
        directory: A copy of the repository to ask instead of the one configured, for example on a stick. What it says
            is held to the same root and to what was seen before; what is wrong with it changes nothing.

    Raises:
        RefusedError: `refused.no-repository`, `refused.poll-running`.
        DeviceError: `device.repository`: what was found cannot be kept; `device.trust-root`: there is no root.
    """
    source = str(directory or config.repository.url).rstrip("/")
    if not source:
        if if_due:
            return PollReport(asked=False)
        hint = "set 'repository.url' in the configuration, or name a directory that has one"
        raise RefusedError(Refusal("no-repository", "this device knows no repository", hint=hint))
    with alone(config.record.directory / DOCUMENTS) as is_ours:
        if not is_ours:
            if if_due:
                return PollReport(asked=False)
            raise RefusedError(Refusal("poll-running", "another poll is under way", hint="see 'twinslot status'"))
        return _polled(_setting(config, source), config, get_worker, open_engine, if_due=if_due)


# keeps: REQ-REP-05
def _polled(
    setting: PollSetting, config: Config, get_worker: GetWorker, open_engine: Callable[[], Engine], *, if_due: bool
) -> PollReport:
    directory, configured = config.record.directory, config.repository.url.rstrip("/")
    state, files = read_state(directory, configured), _directory_of(setting.url)
    if files is None and if_due and (wait := left_of(state.pause, setting.moment)):
        return PollReport(asked=False, wait=wait)
    fetcher = DirectoryFetcher(files) if files else _fetcher(config, get_worker)
    with contextlib.closing(fetcher):
        after, error = Poll(setting, directory, fetcher, lambda: get_worker("verify")).run(state)
    if setting.url != configured:  # of the one configured nothing is known that was not known before
        after = state if error else replace(after, pause=state.pause, failures=state.failures, error=state.error)
    elif files is not None:  # nobody is spared by asking a directory later
        after = replace(after, pause=state.pause)
    after = replace(after, told=_tell(after, open_engine))
    if error is None or setting.url == configured:
        write_state(directory, _tell_identity(_tell_recalls(config, after, open_engine), setting.identity, open_engine))
    if if_due and isinstance(error, TransportError) and error.code == NO_REPOSITORY:
        return PollReport(asked=False)
    return PollReport(asked=True, error=error)


def _directory_of(source: str) -> Path | None:
    """The directory in which the repository stands; None: it stands on a server."""
    return Path(source) if source.startswith("/") else None


def _fetcher(config: Config, get_worker: GetWorker) -> Fetcher:
    http = config.network
    http |= {"retries": min(http["retries"], RETRIES), "retry_wait": min(http["retry_wait"], RETRY_WAIT)}
    return FileFetcher(get_worker, http)


def _tell(state: PollState, open_engine: Callable[[], Engine]) -> str:
    """Tell the audit of a change; what it knows from here on. What cannot be told now is told by a later poll."""
    if state.stale == state.told:
        return state.told
    source = state.url if _directory_of(state.url) else source_name(state.url)
    if state.stale:
        fields: dict[str, Any] = dict(state.error) | {"why": state.stale, "source": source, "since": state.fresh}
        done = _told(open_engine, AuditEvent.REPOSITORY_STALE, fields)
    else:
        done = _told(open_engine, AuditEvent.REPOSITORY_FRESH, {"source": source})
    return state.stale if done else state.told


# keeps: REQ-REP-02
def _tell_recalls(config: Config, state: PollState, open_engine: Callable[[], Engine]) -> PollState:
    """Tell the audit of each recall of a release that a slot holds, once; and once when it is over."""
    with look(config) as view:
        found, running = recalls_here(config, view.facts, state), view.facts.running
    told = dict(state.recalled)
    for slot in SlotName:
        release, recall = found.get(slot, (None, None))
        key = f"{release.sequence} {recall.reason}" if release and recall else ""
        if key == told.get(slot, ""):
            continue
        if release and recall:
            fields: dict[str, Any] = {"slot": slot, "running": slot is running, "release": release.name}
            fields |= {"sequence": release.sequence, "why": recall.reason, "successor": recall.successor}
            done = _told(open_engine, AuditEvent.RELEASE_RECALLED, fields)
        else:
            done = _told(open_engine, AuditEvent.RECALL_LIFTED, {"slot": slot})
        if done:
            told[slot] = key
    return replace(state, recalled={slot: key for slot, key in told.items() if key})


def _tell_identity(state: PollState, identity: str, open_engine: Callable[[], Engine]) -> PollState:
    """Tell the audit when the device's id is another one than at the last poll."""
    if state.identity == identity:
        return state
    fields = {"before": state.identity, "now": identity}
    return replace(state, identity=identity) if _told(open_engine, AuditEvent.IDENTITY_CHANGED, fields) else state


def _told(open_engine: Callable[[], Engine], event: AuditEvent, fields: dict[str, Any]) -> bool:
    """Whether the audit was told; what it could not be told now is told by a later poll."""
    try:
        open_engine().tell(event, "poll", **fields)
    except TwinslotError as e:
        log.warning("the audit could not be told of '%s': %s", event, e)
        return False
    return True


def _setting(config: Config, source: str) -> PollSetting:
    path = config.repository.root
    try:
        root = path.read_bytes()
    except OSError as e:
        hint = "put the first root of the repository there ('twinslot-image repository init' made it)"
        what = f"the repository's root of trust '{path}' cannot be read"
        raise DeviceError(what, code="trust-root", found=e.strerror, hint=hint) from e
    return PollSetting(
        url=source,
        root=root,
        names=config.device.compatible,
        roles=config.repository.approved_by,
        identity=fingerprint_of(device_id(config)),
        time=trust_time(config, _verified_date(config)),
        moment=this_moment(),
        silence=config.repository.silence,
        jitter=random.random(),  # noqa: S311 - spreading load, not a secret
    )


def _verified_date(config: Config) -> str | None:
    """As the record has it; without a record the build time has to do."""
    try:
        with contextlib.closing(open_record(config)) as record:
            return record.document("verified-date")
    except DeviceError:
        return None
