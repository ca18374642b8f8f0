"""The hawkBit on paper answers as a real one was recorded to answer: status and shape, exchange by exchange.

tests/data/hawkbit has exchanges with hawkBit 1.0.4: the request (`>`) and the answer (`<`), tokens left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes.hawkbit import FakeHawkbit, Module
from twinslot.fleet.ddi import home, parse_cancel, parse_order, parse_poll

RECORDED = Path(__file__).parents[1] / "data/hawkbit"
DEVICE = "dev-1"
FILE = Module("pump-os", "2.0", {"pump-os-2.0.tsb": bytes(3_145_728)})


@dataclass(frozen=True)
class Exchange:
    """One of them."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    answer: bytes

    @property
    def shape(self) -> object:
        return shape(json.loads(self.answer)) if self.answer.startswith(b"{") else None


def recorded(name: str) -> Exchange:
    """By the number that its file begins with."""
    (path,) = RECORDED.glob(f"{name}-*.txt")
    lines = path.read_text().splitlines()
    sent = [line[2:] for line in lines if line.startswith("> ")] + [""]
    got = [line[2:] for line in lines if line.startswith("< ")] + [""]
    method, target = sent[0].split()
    head = dict(line.split(": ", 1) for line in sent[1:] if re.match(r"[\w-]+: ", line))
    body = "\n".join(line for line in sent[1:] if line and not re.match(r"[\w-]+: ", line))
    answer = "\n".join(line for line in got[1:] if line and not re.match(r"[\w-]+: ", line))
    headers = {key.lower(): value for key, value in head.items()}
    return Exchange(method, target, headers, body.encode(), int(got[0].split()[0]), answer.encode())


def shape(value: Any) -> object:
    """Keys and kinds, not values; of a list its first member's."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in sorted(value.items())}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return type(value).__name__


def idle(_: FakeHawkbit) -> None:
    """Nothing is wanted."""


def known(hawkbit: FakeHawkbit) -> None:
    hawkbit.targets[DEVICE].wants_attributes = False


def assigned(hawkbit: FakeHawkbit) -> None:
    known(hawkbit)
    hawkbit.assign(DEVICE, FILE)


def assigned_softly(hawkbit: FakeHawkbit) -> None:
    done(hawkbit)
    hawkbit.assign(DEVICE, FILE, kind="soft")


def done(hawkbit: FakeHawkbit) -> None:
    assigned(hawkbit)
    hawkbit.action(1).status = "finished"


def cancelling(number: int) -> Callable[[FakeHawkbit], None]:
    """The action of this number is being stopped; those before it are over."""

    def situation(hawkbit: FakeHawkbit) -> None:
        done(hawkbit)
        while len(hawkbit.actions) < number:
            hawkbit.assign(DEVICE, FILE).status = "error"
        hawkbit.action(number).status = "canceling"
        hawkbit.targets[DEVICE].wants_attributes = True

    return situation


def waiting(hawkbit: FakeHawkbit) -> None:
    """For the device's consent."""
    known(hawkbit)
    hawkbit.confirmation = True
    hawkbit.assign(DEVICE, FILE)


# What was recorded -> what the server has then
SITUATIONS: dict[str, Callable[[FakeHawkbit], None]] = {
    "10": idle,
    "11": idle,
    "12": idle,
    "13": idle,
    "14": known,
    "18": assigned,
    "19": assigned,
    "22": assigned,
    "24": assigned,
    "26": assigned,
    "28": assigned,
    "29": assigned,
    "30": assigned,
    "31": assigned,
    "32": assigned,
    "33": assigned,
    "34": done,
    "36": done,
    "40": assigned_softly,
    "41": assigned_softly,
    "43": cancelling(3),
    "44": cancelling(3),
    "45": cancelling(4),
    "47": cancelling(5),
    "50": waiting,
    "51": waiting,
    "52": waiting,
    "53": waiting,
    "54": waiting,
    "55": waiting,
    "56": assigned,
}


def asked(name: str, hawkbit: FakeHawkbit) -> tuple[int, bytes]:
    """What the server on paper says to the same request."""
    exchange = recorded(name)
    given = {"10": "", "11": "TargetToken wrong"}.get(name, f"TargetToken {hawkbit.targets[DEVICE].token}")
    path = exchange.path.replace("softwaremodules/1/", "softwaremodules/1-0/")
    status, _, answer = hawkbit.answer(
        exchange.method, path, exchange.headers | {"authorization": given}, exchange.body
    )
    return status, answer


@pytest.fixture
def hawkbit() -> FakeHawkbit:
    made = FakeHawkbit()
    made.device(DEVICE)
    return made


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_server_on_paper_answers_as_the_real_one_did(hawkbit: FakeHawkbit, name: str) -> None:
    SITUATIONS[name](hawkbit)
    exchange = recorded(name)
    status, answer = asked(name, hawkbit)
    assert status == exchange.status
    if exchange.shape is not None and "softwaremodules" not in exchange.path and status == 200:
        found = json.loads(answer)
        wanted = exchange.shape
        if isinstance(wanted, dict) and (order := wanted.get("deployment") or wanted.get("confirmation")):
            order["chunks"][0].pop("metadata", None)  # what the operator made, and the checksum's link
            order["chunks"][0]["artifacts"][0]["_links"].pop("md5sum-http", None)
        assert shape(found) == wanted


AT = home("http://127.0.0.1:8080", "DEFAULT", DEVICE)


def test_recorded_answers_are_read() -> None:
    assert parse_poll(AT, recorded("14").answer).deployment == ""
    polled = parse_poll(AT, recorded("18").answer)
    assert polled.deployment == f"{AT.url}/deploymentBase/1?c=411599879"
    assert polled.sleep == 30
    order = parse_order(AT, polled.deployment, recorded("19").answer)
    assert (order.id, order.download, order.update) == ("1", "forced", "forced")
    assert order.link == f"{AT.url}/deploymentBase/1"
    assert [each.url.rpartition("/")[2] for each in order.artifacts] == ["pump-os-2.0.tsb"]
    soft = parse_order(AT, f"{AT.url}/deploymentBase/2", recorded("40").answer)
    assert (soft.download, soft.update) == ("attempt", "attempt")
    cancel = parse_poll(AT, recorded("43").answer).cancel
    assert parse_cancel(cancel, recorded("44").answer).stop == "3"
