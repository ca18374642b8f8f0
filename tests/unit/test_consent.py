"""Who has to agree, and for how long they may put an update off, whatever they say in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.updater import NOWHERE
from twinslot.config.policy import DAY, ConsentConfig
from twinslot.core.backoff import Moment
from twinslot.core.consent import Consent, ConsentBounds, ConsentMode, approve, count, hold, missing
from twinslot.core.errors import DeviceError, RefusedError
from twinslot.core.policy import Gate, ObstacleKind, Question, Wish
from twinslot.policy.consent import LocalConsent
from twinslot.policy.local import LocalPolicy
from twinslot.storage.kept import write_kept

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BOUNDS = ConsentBounds(notice=3600, limit=14 * DAY)


class Device:
    """A clock, an uptime and boots."""

    def __init__(self) -> None:
        self.clock, self.uptime, self.boot = 1_000_000.0, 100.0, 1

    def __call__(self) -> Moment:
        return Moment(self.clock, f"{self.boot:032x}", self.uptime)

    def passes(self, seconds: float) -> None:
        self.clock += seconds
        self.uptime += seconds

    def restarts(self, off: float = 0.0, clock: float = 0.0) -> None:
        self.clock += off + clock
        self.boot, self.uptime = self.boot + 1, 10.0


def codes(consent: Consent, mode: ConsentMode) -> str | None:
    found = missing(consent, mode, BOUNDS)
    return found[0].code if found else None


@pytest.mark.verifies("REQ-POL-02")
def test_with_required_silence_is_no_consent_until_the_limit() -> None:
    device = Device()
    consent = count(Consent(), "2.0", device())
    for _ in range(13):
        device.passes(DAY)
        consent = count(consent, "2.0", device())
        assert codes(consent, ConsentMode.REQUIRED) == "not-approved"
    device.passes(DAY)
    assert codes(count(consent, "2.0", device()), ConsentMode.REQUIRED) is None


@pytest.mark.verifies("REQ-POL-02")
def test_with_notify_silence_is_consent_after_the_notice_for_each_release() -> None:
    device = Device()
    consent = count(Consent(), "2.0", device())
    assert codes(consent, ConsentMode.NOTIFY) == "notice"
    device.passes(3600)
    consent = count(consent, "2.0", device())
    assert codes(consent, ConsentMode.NOTIFY) is None
    consent = count(consent, "3.0", device())
    assert codes(consent, ConsentMode.NOTIFY) == "notice"
    assert codes(consent, ConsentMode.NONE) is None


@pytest.mark.verifies("REQ-POL-02")
def test_an_approval_is_of_one_release_and_ends_a_hold() -> None:
    device = Device()
    consent = hold(count(Consent(), "2.0", device()), DAY, BOUNDS, "user anna")
    assert codes(consent, ConsentMode.REQUIRED) == "held"
    consent = approve(consent, "user anna")
    assert codes(consent, ConsentMode.REQUIRED) is None
    consent = count(consent, "3.0", device())
    assert codes(consent, ConsentMode.REQUIRED) == "not-approved"
    again = hold(approve(consent, "user anna"), 3600, BOUNDS, "user ben")
    found = missing(again, ConsentMode.REQUIRED, BOUNDS)
    assert found
    assert (found[0].code, found[0].found, found[1]) == ("held", "by user ben", 3600)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("passes"), st.floats(0, 5 * DAY)),
        st.tuples(st.just("restarts"), st.floats(0, 2 * DAY)),
        st.tuples(st.just("clock goes back"), st.floats(0, 400 * DAY)),
        st.tuples(st.just("approve"), st.just(0.0)),
        st.tuples(st.just("hold"), st.floats(0, 1000 * DAY)),
        st.tuples(st.just("newer release"), st.just(0.0)),
    ),
    max_size=40,
)


@pytest.mark.verifies("REQ-POL-02")
@given(STEPS, st.sampled_from(ConsentMode))
def test_whatever_people_do_an_update_waits_for_them_no_longer_than_the_limit(
    steps: list[tuple[str, float]], mode: ConsentMode
) -> None:
    device, release, on = Device(), 1, 0.0
    consent = count(Consent(), "1", device())
    acts: dict[str, Callable[[float], Consent]] = {
        "approve": lambda _: approve(consent, "a"),
        "hold": lambda seconds: hold(consent, seconds, BOUNDS, "b"),
    }
    for what, seconds in steps:
        before = consent.counted
        if what == "passes":
            device.passes(seconds)
            on += seconds
        elif what == "restarts":
            device.restarts(off=seconds)
        elif what == "clock goes back":
            device.restarts(clock=-seconds)
        elif what == "newer release":
            release += 1
        else:
            consent = acts[what](seconds)
        consent = count(consent, str(release), device())
        assert consent.counted >= before
        assert consent.held <= BOUNDS.limit
        found = missing(consent, mode, BOUNDS)
        if found:
            assert on < BOUNDS.limit, "time that the device ran counts whatever its clock says"
            assert 0 < found[1] <= BOUNDS.limit - consent.counted
            device_later = Device()
            device_later.clock, device_later.uptime = device.clock + found[1], device.uptime + found[1]
            device_later.boot = device.boot
            later = count(consent, str(release), device_later())
            after = missing(later, mode, BOUNDS)
            assert after is None or after[0].code != found[0].code or later.counted < consent.counted + found[1]


# In its file


def people(directory: Path, device: Device, **config: object) -> LocalConsent:
    return LocalConsent(ConsentConfig(**{"mode": "required"} | config), directory, device)  # type: ignore[arg-type]


@pytest.mark.verifies("REQ-POL-02")
def test_holds_of_a_security_release_are_shorter_and_the_rest_is_told(tmp_path: Path) -> None:
    device = Device()
    here = people(tmp_path, device)
    assert here.hold("2.0", "security", 30 * DAY, "user anna") == 3 * DAY
    assert here.hold("2.0", "feature", 30 * DAY, "user anna") == 14 * DAY
    device.passes(3 * DAY)
    found = here.obstacle("2.0", "feature")
    assert found
    assert (found.why.code, found.why.found) == ("held", "by user anna")
    assert found.until
    assert found.until.timestamp() == device.clock + 11 * DAY
    assert here.obstacle("2.0", "security") is None
    with pytest.raises(RefusedError, match="put off for as long as this device allows") as error:
        here.hold("2.1", "security", 60, "user anna")
    assert error.value.code == "refused.hold-over"
    told = here.describe("security")
    assert told
    assert (told["mode"], told["held"], told["counted"], told["limit"]) == ("required", 0, 3 * DAY, 3 * DAY)


def test_what_was_said_outlives_restarts_and_ends_with_the_commit(tmp_path: Path) -> None:
    device = Device()
    here = people(tmp_path, device)
    assert here.obstacle("2.0", "feature")
    here.approve("2.0", "user anna")
    device.restarts(off=60)
    assert here.obstacle("2.0", "feature") is None
    here.settle()
    here.settle()
    found = here.obstacle("2.0", "feature")
    assert found
    assert found.why.code == "not-approved"


@pytest.mark.verifies("REQ-POL-02")
def test_a_device_without_a_clock_that_learns_the_time_after_a_restart_has_waited_no_longer_for_it(
    tmp_path: Path,
) -> None:
    built = datetime(2026, 6, 1, tzinfo=UTC)
    config = replace(
        NOWHERE,
        trust=replace(NOWHERE.trust, build_time=built),
        record=replace(NOWHERE.record, directory=tmp_path),
        policy=replace(NOWHERE.policy, consent=ConsentConfig(mode="required")),
    )
    wish, started = Question(Gate.ACTIVATE, Wish(), "2.0", "feature"), LocalPolicy(config, lambda: EPOCH, root=tmp_path)
    assert [each.until for each in started.obstacles(wish) if each.kind is ObstacleKind.CONSENT] == [None]
    assert started.moment("").clock == started.moment("2026-07-01T00:00:00+00:00").clock == 0
    kept = started.consent().kept()
    write_kept(tmp_path / "consent.json", replace(kept, boot_id="0" * 32))  # it was counted before a restart
    later = LocalPolicy(config, lambda: datetime.now(UTC), root=tmp_path)
    (asked,) = later.obstacles(wish)
    assert asked.why.code == "not-approved"
    assert later.consent().kept().clock > built.timestamp()


@pytest.mark.parametrize(
    "text", ["", "{", '{"counted": 1e999}', '{"held": NaN}', "[" * 100_000, '{"counted": "x"}', "[1]"]
)
def test_a_damaged_file_asks_people_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "consent.json").write_text(text)
    found = people(tmp_path, Device()).obstacle("2.0", "feature")
    assert found
    assert found.why.code == "not-approved"


def test_a_device_that_asks_no_one_says_so_and_one_that_cannot_keep_it_too(tmp_path: Path) -> None:
    quiet = people(tmp_path, Device(), mode="none")
    assert quiet.obstacle("2.0", "feature") is None
    assert quiet.describe("feature") is None
    for ask in (lambda: quiet.approve("2.0", "a"), lambda: quiet.hold("2.0", "feature", 1, "a")):
        with pytest.raises(RefusedError, match="wait for nobody's word"):
            ask()
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError) as error:
        people(tmp_path / "file", Device()).approve("2.0", "a")
    assert error.value.code == "device.consent"
    assert people(tmp_path / "file", Device()).obstacle("2.0", "feature"), "not kept, and asked all the same"
