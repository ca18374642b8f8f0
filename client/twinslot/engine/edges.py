"""The edges that the engine acts through, gathered so that a simulated board can stand in for a real one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from twinslot.bootloader.base import Bootloader
from twinslot.core.change import Demands
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.model import CheckResult, Floors, SlotName
from twinslot.core.origin import NOBODY, Origin
from twinslot.core.policy import Obstacle, Question
from twinslot.core.progress import Observer
from twinslot.core.stream import ImageHead
from twinslot.core.transaction import Transaction
from twinslot.core.waiting import Waiting
from twinslot.core.watch import WatchStep
from twinslot.payloads.select import Places
from twinslot.storage.attachments import AttachmentStore
from twinslot.storage.known_lists import ListStore
from twinslot.storage.record.record import Record


def _one_thread() -> AbstractContextManager[Executor | None]:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-back")


@dataclass(frozen=True, slots=True)
class Verified:
    """What the trust process said of a head.

    Attributes:
        root_version: Of the root that the verification ended with.
        documents: What the next verification needs, by name; to be kept once the release is committed, not before.
        notes: What was compared, for the audit: dates, roles with their counts, overrides.
    """

    root_version: int
    documents: Mapping[str, str | None]
    notes: Mapping[str, object]


class Verify(Protocol):
    """Asks the short-lived trust process. Raises `ImageError` or `RefusedError` when the manifest is not trusted."""

    def __call__(
        self, head: ImageHead, record: Record, floors: Floors, *, ignore_expiry: bool, note: Callable[..., object]
    ) -> Verified:
        """Verify the head against what the record keeps and the floors; `note` is the announcer's.

        Kept roots that do not follow from the built-in one are announced and dropped from the record, whatever becomes
        of the image.
        """
        ...


@dataclass(frozen=True, slots=True)
class DeltaPolicy:
    """How an update may come; from the configuration's `[delta]`.

    Attributes:
        reuse: Take groups from the slots that hold them already.
        patches: Look for a patch against what runs.
        budget: Bytes that one update may fetch over a network; 0: no bound.
        insist: What the device holds and a patch must do; otherwise the rest comes from the whole image.
    """

    reuse: bool = True
    patches: bool = True
    budget: int = 0
    insist: bool = False


class WaitStore(Protocol):
    """Where it stands what an update waits for, for whoever looks; it need not outlive the boot."""

    def tell(self, waiting: Waiting | None) -> None:
        """Replace it; None: nothing waits."""
        ...

    def told(self) -> Waiting | None:
        """What was told last; None: nothing waits."""
        ...


class ConsentEdge(Protocol):
    """What people say of an update; `policy.consent.LocalConsent`."""

    def approve(self, release: str, by: str) -> None:
        """Somebody agrees; raises `RefusedError` where nobody is asked."""
        ...

    def hold(self, release: str, change: str, seconds: float, by: str) -> float:
        """Somebody puts it off; gives the seconds for which it is held. Raises as `approve`, and when that is over."""
        ...

    def settle(self) -> None:
        """An update was committed: what was said is over."""
        ...


class UnaskedConsent:
    """Implements `ConsentEdge` where nobody is asked."""

    def approve(self, release: str, by: str) -> None:  # noqa: ARG002
        """See `ConsentEdge`."""
        raise RefusedError(Refusal("no-consent", "updates of this device wait for nobody's word"))

    def hold(self, release: str, change: str, seconds: float, by: str) -> float:  # noqa: ARG002
        """See `ConsentEdge`."""
        raise RefusedError(Refusal("no-consent", "updates of this device wait for nobody's word"))

    def settle(self) -> None:
        """See `ConsentEdge`."""


class TrialEdge(Protocol):
    """Who is told that the running system is on trial; `policy.trial.TrialFile`."""

    def begins(self, transaction: Transaction) -> None:
        """It is."""
        ...

    def is_none(self) -> None:
        """Nothing is on trial."""
        ...

    def committed(self) -> None:
        """The system that was on trial is kept."""
        ...


class PassedNote(Protocol):
    """That checks passed in a boot, where the record may be unable to keep it; `policy.passed.PassedFile`."""

    def note(self, boot_id: str, *, passed: bool) -> None:
        """They passed in this boot, or did not."""
        ...

    def noted(self, boot_id: str) -> bool:
        """Whether that was noted for this boot."""
        ...


class Unnoted:
    """Implements `PassedNote` where only the record counts."""

    def note(self, boot_id: str, *, passed: bool) -> None:
        """See `PassedNote`."""

    def noted(self, boot_id: str) -> bool:  # noqa: ARG002
        """See `PassedNote`."""
        return False


class UntoldTrial:
    """Implements `TrialEdge` where nobody is told."""

    def begins(self, transaction: Transaction) -> None:
        """See `TrialEdge`."""

    def is_none(self) -> None:
        """See `TrialEdge`."""

    def committed(self) -> None:
        """See `TrialEdge`."""


class WatchEdge(Protocol):
    """The product's signals after a commit; `policy.watch.LocalWatch`."""

    def mark(self, *, on: bool) -> None:
        """Whether there may be something to watch from now on."""
        ...

    def is_over(self, transaction: str) -> bool:
        """This update's release was watched for as long as is configured."""
        ...

    def signals(self) -> tuple[CheckResult, ...]:
        """Ask the product."""
        ...

    def judge(self, transaction: str, *, failed: bool) -> tuple[WatchStep, bool]:
        """What follows from a look, and whether it is the first time."""
        ...


class Unwatched:
    """Implements `WatchEdge` where nothing is watched."""

    def mark(self, *, on: bool) -> None:
        """See `WatchEdge`."""

    def is_over(self, transaction: str) -> bool:  # noqa: ARG002
        """See `WatchEdge`."""
        return True

    def signals(self) -> tuple[CheckResult, ...]:
        """See `WatchEdge`."""
        return ()

    def judge(self, transaction: str, *, failed: bool) -> tuple[WatchStep, bool]:  # noqa: ARG002
        """See `WatchEdge`."""
        return WatchStep.NOTHING, False


class RememberedWait:
    """Implements `WaitStore` in this process."""

    def __init__(self) -> None:
        self._waiting: Waiting | None = None

    def tell(self, waiting: Waiting | None) -> None:
        """See `WaitStore`."""
        self._waiting = waiting

    def told(self) -> Waiting | None:
        """See `WaitStore`."""
        return self._waiting


def _not_told(_: bool) -> None:
    pass


def _nothing_against(_: Question) -> tuple[Obstacle, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Device:
    """One device, seen from the engine.

    Attributes:
        running: Slot whose partition holds the root file system (S1).
        root_payload: The payload that holds the root file system; empty when it is not known.
        origin: Who asks; in the update, in each audit row and in each line of the journal (S19).
        running_notes: Sentences: what else, such as the kernel's command line, says that another slot runs. It never
            decides and is always told (S1).
        boot_id: The kernel's id of this boot.
        bootloader: The boot environment.
        open_record: Opens the record for writing, told whether the running system is on trial (S15).
        places: Where each slot keeps each payload; nothing is open.
        verify: The trust process.
        run_checks: Runs the configured checks, one result each; what they amount to is `core.health`'s.
        may_check: False in the sandboxed service: a check that needs network or hardware would fail there and end a
            healthy trial. Then only checks that passed elsewhere count.
        reboot: Asks the system manager for a reboot; returns.
        lock: The one lock (S17), held for the `with` block; named for whoever loses.
        compatible: Names of this device type.
        check_names: Health checks that local configuration knows (S11).
        group_size_max: Bytes; the largest group that this device decodes.
        restarts: Whether local configuration wants a restart into the trial (`install.reboot`).
        reinstall: Whether policy accepts the release that runs.
        demands: What an image must say of the change that it is.
        monotonic: Seconds that only rise.
        now: The device's clock, for people (S16).
        read_back_with: Makes the thread that reads back while the engine writes; None inside: all is read back at the
            end, in a fixed order of calls.
        documents: Where what comes with the releases of both slots is kept; None: nowhere.
        lists: Where the plain lists of both slots are kept; None: nowhere.
        delta: How an update may come.
        tell_no_trial: Told after each start whether nothing is on trial, so that what judges a trial need not start.
        hardware: This device's hardware revision, and
        variant: its variant; None where local configuration names none.
        obstacles: Gathers what stands against a step beside the update itself (`core.policy`).
        waits: Where it is told what an update waits for.
        consent: What people say of the update that waits.
        trial: Who is told that the running system is on trial.
        watch: The product's signals after a commit.
        passed: Where it is noted for one boot that the checks passed.
        ask_elsewhere: Has policy asked again outside of this process, where programs of the product may run.
        expecting: Entered around an install, before the device is looked at: the trust process may start meanwhile,
            which takes longer than its answer.
    """

    running: SlotName
    boot_id: str
    bootloader: Bootloader
    open_record: Callable[[bool], Record]
    places: Places
    verify: Verify
    run_checks: Callable[[Observer], tuple[CheckResult, ...]]
    may_check: bool
    reboot: Callable[[], None]
    lock: Callable[[str], AbstractContextManager[None]]
    compatible: tuple[str, ...]
    check_names: frozenset[str]
    group_size_max: int
    reinstall: bool
    monotonic: Callable[[], float]
    now: Callable[[], datetime]
    read_back_with: Callable[[], AbstractContextManager[Executor | None]] = _one_thread
    lists: ListStore | None = None
    documents: AttachmentStore | None = None
    delta: DeltaPolicy = DeltaPolicy()
    tell_no_trial: Callable[[bool], None] = _not_told
    expecting: Callable[[], AbstractContextManager[None]] = nullcontext
    hardware: str | None = None
    variant: str | None = None
    running_notes: tuple[str, ...] = ()
    root_payload: str = ""
    restarts: bool = False
    demands: Demands = field(default_factory=Demands)
    origin: Origin = NOBODY
    obstacles: Callable[[Question], tuple[Obstacle, ...]] = _nothing_against
    waits: WaitStore = field(default_factory=RememberedWait)
    ask_elsewhere: Callable[[], None] = lambda: None
    consent: ConsentEdge = field(default_factory=UnaskedConsent)
    trial: TrialEdge = field(default_factory=UntoldTrial)
    watch: WatchEdge = field(default_factory=Unwatched)
    passed: PassedNote = field(default_factory=Unnoted)
