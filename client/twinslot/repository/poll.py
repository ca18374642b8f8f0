"""One poll: is there anything new, is it trusted, is it fresh?

Rules:

1. The timestamp is asked for with its validators. Nothing new (304) within a day of the last judgement, and before the
   metadata expires, is the whole answer: one request, no trust process. New is what no poll has come to the end of:
   documents that one kept before it failed, or before the power went, do not count as known.
2. Otherwise all of the metadata is judged anew, roots first, and then the offers for this type of device are fetched:
   small signed documents, held to length and digest.
3. Where offers or configuration name roles that must have approved a wave, what these have approved is looked for in
   the same metadata. What is not found, or not trusted, approves nothing, and keeps no halt and no recall from coming.
4. A poll that fails leaves all that was trusted before, and begins a pause that outlives restarts (core/backoff.py).
5. A repository is stale when what it gives has expired (`frozen`), when it has given nothing trusted for too long
   (`silent`), or when what it gives is not trusted (`refused`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from twinslot.core.approvals import APPROVALS_LIMIT, approvals_path, parse_approvals
from twinslot.core.backoff import Moment, pause_after
from twinslot.core.errors import ImageError, RefusedError, TransportError, TwinslotError
from twinslot.core.offer import OFFERS_LIMIT, OFFERS_SUFFIX, parse_offers
from twinslot.core.text import printable
from twinslot.repository.directory import Fetcher
from twinslot.repository.exchange import Exchange, content_of
from twinslot.repository.state import PollState, moment_of
from twinslot.repository.store import DocumentStore
from twinslot.transport.http.small_file import NOT_MODIFIED
from twinslot.trust.repository_messages import FoundTarget, FreshMetadata, RepositoryQuestion
from twinslot.trust.verdict import TrustTime
from twinslot.worker.launch import Worker

DOCUMENTS: Final = "repository"  # directory below the record's
TIMESTAMP: Final = "timestamp.json"
_TIMESTAMP_LIMIT: Final = 16_384  # bytes, as in trust/repository.py
WHOLE_AGAIN: Final = timedelta(days=1)  # a new root is then found, whatever the timestamp says
EXPIRED: Final = "repository-expired"


@dataclass(frozen=True, slots=True)
class PollSetting:
    """What a poll depends on beside the network.

    Attributes:
        url: Of the repository, or the path of the directory that it stands in, without '/' at the end.
        root: The root of trust that the device was built with.
        names: Of this type of device.
        roles: Roles that must have approved what this device takes.
        identity: Fingerprint of the device's id.
        time: What time it may be.
        moment: The same for pauses.
        silence: Seconds without a fresh answer after which the repository counts as silent.
        jitter: From 0 to 1, drawn for this poll.
    """

    url: str
    root: bytes
    names: tuple[str, ...]
    roles: tuple[str, ...]
    identity: str
    time: TrustTime
    moment: Moment
    silence: float
    jitter: float


class Poll:
    """One poll.

    Args:
        setting: See there.
        directory: Of the record.
        fetcher: Brings what the server has; the caller closes it.
        get_trust: Gives a fresh trust process.
    """

    def __init__(
        self, setting: PollSetting, directory: Path, fetcher: Fetcher, get_trust: Callable[[], Worker]
    ) -> None:
        self._setting, self._fetcher, self._get_trust = setting, fetcher, get_trust
        self._store = DocumentStore(directory / DOCUMENTS)

    # keeps: S29
    def run(self, state: PollState) -> tuple[PollState, TwinslotError | None]:
        """Ask, and say what is known from here on, and what went wrong."""
        now = _written(self._setting.time.reference)
        state = replace(state, first=state.first or now)
        state = replace(state, identity=state.identity or self._setting.identity)
        try:
            after = self._asked(state, now)
        except TwinslotError as e:
            return self._failed(state, e), e
        after = replace(after, fresh=now, failures=0, error={}, stale="", source=self._setting.url)
        return replace(after, pause=replace(after.pause, seconds=0.0)), None

    def _asked(self, state: PollState, now: str) -> PollState:
        judged = self._judged_lately(state)
        url = f"{self._setting.url}/metadata/"
        validators = (state.etag, state.modified) if judged else ("", "")
        file = self._fetcher.get(url + TIMESTAMP, _TIMESTAMP_LIMIT, *validators)
        if judged and file.status == NOT_MODIFIED:
            return state
        content = content_of(file)
        digest = hashlib.sha256(content).hexdigest() if content is not None else ""
        if judged and digest and digest == state.timestamp:  # from a server without validators
            return state
        at_hand = {} if content is None else {TIMESTAMP: content}
        exchange = Exchange(url, self._store, self._fetcher, self._get_trust, at_hand)
        paths = {f"{name}{OFFERS_SUFFIX}": name for name in self._setting.names}
        fresh = exchange.refresh(RepositoryQuestion(self._setting.root, self._setting.time, tuple(paths)))
        offers = self._offers(paths, fresh)
        approvals, unapproved, again = self._approvals(exchange, offers)
        return replace(
            state,
            approvals=approvals,
            unapproved=unapproved,
            whole="" if again else now,
            expires=_written(fresh.expires),
            published=_written(fresh.published) if fresh.published else "",
            versions=dict(fresh.versions),
            timestamp=digest,
            etag=file.etag,
            modified=file.modified,
            offers=offers,
        )

    def _judged_lately(self, state: PollState) -> bool:
        """Whether "nothing new" would be an answer."""
        now, whole, expires = self._setting.time.reference, moment_of(state.whole), moment_of(state.expires)
        lately = whole is not None and whole <= now < whole + WHOLE_AGAIN
        return lately and expires is not None and now < expires

    def _offers(self, paths: Mapping[str, str], fresh: FreshMetadata) -> dict[str, str]:
        found = {}
        for path, name in paths.items():
            target = fresh.targets.get(path)
            if target is not None:
                data = self._target(target)
                parse_offers(data)  # here, so that a poll fails and not whoever reads what it left
                found[name] = data.decode()
        return found

    # keeps: REQ-REP-01
    def _approvals(self, exchange: Exchange, offers: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str], bool]:
        """The approvals by role, for the roles that have none why, and whether the next poll should look again."""
        found: dict[str, str] = {}
        lacking: dict[str, str] = {}
        again = False
        for role in sorted(self._wanted_roles(offers)):
            try:
                target = self._fresh_target(exchange, approvals_path(role))
                if target is None:
                    lacking[role] = "the repository has no approvals of this role"
                    continue
                data = self._target(target, APPROVALS_LIMIT)
                parse_approvals(data)
                found[role] = data.decode()
            except (RefusedError, ImageError, TransportError) as e:
                lacking[role], again = str(e), again or isinstance(e, TransportError)
        return found, lacking, again

    def _wanted_roles(self, offers: Mapping[str, str]) -> set[str]:
        documents = [parse_offers(data.encode()).offers for data in offers.values()]
        named = {role for each in documents for offer in each for wave in offer.waves for role in wave.roles}
        return named | set(self._setting.roles)

    def _fresh_target(self, exchange: Exchange, path: str) -> FoundTarget | None:
        return exchange.refresh(RepositoryQuestion(self._setting.root, self._setting.time, (path,))).targets.get(path)

    def _target(self, target: FoundTarget, limit: int = OFFERS_LIMIT) -> bytes:
        if target.length > limit:
            what, found = f"'{printable(target.path)}' in the repository is too long", f"{target.length} bytes"
            raise TransportError(what, code="too-long", expected=f"at most {limit} bytes", found=found)
        content = content_of(self._fetcher.get(f"{self._setting.url}/targets/{target.file_path}", target.length or 1))
        if content is None or len(content) != target.length or not _matches(content, target.hashes):
            hint = "try again later; if it stays, the maker must publish the repository anew"
            what = f"'{printable(target.path)}' in the repository is not what was signed"
            raise TransportError(what, code="repository", hint=hint)
        return content

    def _failed(self, state: PollState, error: TwinslotError) -> PollState:
        failures = state.failures + 1
        pause = pause_after(failures, self._fetcher.wait, self._setting.jitter, self._setting.moment)
        after = replace(state, failures=failures, error=error.as_dict(), pause=pause)
        return replace(after, stale=self._stale(after, error))

    def _stale(self, state: PollState, error: TwinslotError) -> str:
        if isinstance(error, RefusedError):
            frozen = any(reason.code == EXPIRED for reason in error.reasons)
            return "frozen" if frozen else "refused"
        since = moment_of(state.fresh) or moment_of(state.first)
        now = self._setting.time.reference
        silent = since is not None and now - since > timedelta(seconds=self._setting.silence)
        return "silent" if silent else state.stale


def _matches(content: bytes, hashes: Mapping[str, str]) -> bool:
    """Every digest that we can make, and SHA-256 or SHA-512 among them."""
    known = {name: digest for name, digest in hashes.items() if name in ("sha256", "sha512")}
    made = {name: hashlib.new(name, content).hexdigest() for name in known}
    return bool(known) and made == known


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
