"""What hawkBit says to a device, as data: answers of its Direct Device Integration API (version 1). Pure.

Rules:

1. Addresses are those that the server gives, never put together here. Two have no link of their own: an action's
feedback is
   `/feedback` below its link (hawkBit's DDI reference), and the first request goes where the configuration says.
2. Each link is of the same server and below this controller: a link elsewhere, or of another controller, is refused
with
   the whole answer. Only artifacts may come from hosts that the configuration names beside.
3. What is not known is left out; what is needed and is not there, or is of another kind, makes the answer unusable.
4. A digest of an artifact is no more than part of what tells two orders apart; an image is trusted for its signatures.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from twinslot.core.address import Address, parse_address
from twinslot.core.errors import TransportError
from twinslot.core.text import printable

ANSWER_MAX: Final = 1 << 20  # bytes of an answer; a deployment of a hundred artifacts has 80 KiB
CHUNKS_MAX: Final = 64  # software modules of one order
ARTIFACTS_MAX: Final = 256  # in one order
SLEEP: Final = 300.0  # seconds between polls where the server names none: hawkBit's own default
SLEEP_MIN: Final = 1.0
SLEEP_MAX: Final = 86_399.0  # 23:59:59, the most that hawkBit's settings take
IMAGE: Final = ".twin"
_SLEEP: Final = re.compile(r"(\d{1,2}):([0-5]\d):([0-5]\d)")
_ID: Final = re.compile(r"[0-9A-Za-z-]{1,40}")
_MARK: Final = 12  # hex digits that tell orders with one id apart


class Handling(enum.StrEnum):
    """How the server wants a step done; a wish (S21)."""

    SKIP = "skip"
    ATTEMPT = "attempt"
    FORCED = "forced"


@dataclass(frozen=True, slots=True)
class Home:
    """This controller at its server.

    Attributes:
        url: Address of the controller's own resource; every link but those of artifacts begins with it.
        downloads: Hosts beside the server's own from which artifacts may come.
    """

    url: str
    downloads: tuple[str, ...] = ()

    @property
    def address(self) -> Address:
        """The same, taken apart."""
        return parse_address(self.url)


@dataclass(frozen=True, slots=True)
class Polled:
    """The answer to a poll: what there is to do. Links are whole addresses; empty: none.

    Attributes:
        sleep: Seconds until the next poll, as the server wishes.
        deployment: An order.
        cancel: A wish to stop one.
        confirmation: An order that waits for a consent.
        config_data: Where the server wants this device's attributes.
    """

    sleep: float
    deployment: str = ""
    cancel: str = ""
    confirmation: str = ""
    config_data: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of an order.

    Attributes:
        name: Its file name.
        url: Where it is; empty: the order names no address that this device may ask.
        digest: As the server has it (SHA-256, else SHA-1); a hint.
    """

    name: str
    url: str
    digest: str


@dataclass(frozen=True, slots=True)
class Order:
    """What the server wants installed.

    Attributes:
        id: Of hawkBit's action.
        link: Its address, without the query.
        download: Whether to fetch.
        update: Whether to install.
        in_window: False: the server's maintenance window is closed.
        artifacts: All files of all its software modules.
        mark: Tells orders of one id apart: a server that was restored gives an id twice.
    """

    id: str
    link: str
    download: Handling
    update: Handling
    in_window: bool
    artifacts: tuple[Artifact, ...]
    mark: str

    @property
    def action(self) -> str:
        """The name of this order in the device's own audit."""
        return f"{self.id}.{self.mark}"

    @property
    def fetch_only(self) -> bool:
        """Whether it is to be written and never armed: a window that is closed will open."""
        return self.in_window and self.update is Handling.SKIP

    def image(self) -> tuple[str, str]:
        """Address of the one image, and why there is none; one of them is empty."""
        images = [each for each in self.artifacts if each.name.endswith(IMAGE)]
        if len(images) != 1:
            return "", f"the order has {len(images)} files named '*{IMAGE}', and exactly one is needed"
        if not images[0].url:
            return "", f"the order gives no address for '{printable(images[0].name)}' that this device may ask"
        return images[0].url, ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """A wish to stop an order.

    Attributes:
        id: Of the wish.
        stop: Id of the action.
        link: Its address, without the query.
    """

    id: str
    stop: str
    link: str


def home(server: str, tenant: str, controller: str, downloads: tuple[str, ...] = ()) -> Home:
    """Where this controller asks first.

    Args:
        server: Address of the server.
        tenant: hawkBit's tenant.
        controller: This device's id there.
        downloads: See `Home`.

    Raises:
        TransportError: `transport.url`.
    """
    parse_address(server)
    parts = (urllib.parse.quote(tenant, ""), "controller/v1", urllib.parse.quote(controller, ""))
    return Home("/".join((server.rstrip("/"), *parts)), downloads)


def parse_poll(at: Home, data: bytes) -> Polled:
    """Read the answer to a poll.

    Raises:
        TransportError: `transport.ddi`, `transport.ddi-link`.
    """
    answer = _json(data)
    links = _mapping(answer.get("_links", {}), "_links")
    polling = _mapping(_mapping(answer.get("config", {}), "config").get("polling", {}), "config.polling")
    found = {
        name: _link(at, links, name) for name in ("deploymentBase", "cancelAction", "confirmationBase", "configData")
    }
    return Polled(sleep_of(polling.get("sleep")), *found.values())


def parse_order(at: Home, link: str, data: bytes, key: str = "deployment") -> Order:
    """Read an order.

    Args:
        at: This controller.
        link: Where it was read.
        data: The answer.
        key: Under which it stands; `confirmation` where a consent is asked for.

    Raises:
        TransportError: `transport.ddi`, `transport.ddi-link`.
    """
    answer = _json(data)
    order = _mapping(answer.get(key), key)
    chunks = _list(order.get("chunks"), f"{key}.chunks", CHUNKS_MAX)
    found = [(chunk, file) for chunk in chunks for file in _files(_mapping(chunk, "chunk"))]
    if len(found) > ARTIFACTS_MAX:
        raise _unusable(f"at most {ARTIFACTS_MAX} artifacts", f"{len(found)}")
    artifacts = tuple(_artifact(at, file) for _, file in found)
    names = [[str(chunk.get(name, "")) for name in ("part", "name", "version")] for chunk in chunks]
    told = json.dumps([names, [[each.name, each.digest] for each in artifacts]])
    return Order(
        id=_identity(answer.get("id")),
        link=link.partition("?")[0],
        download=_handling(order, "download"),
        update=_handling(order, "update"),
        in_window=order.get("maintenanceWindow", "available") == "available",
        artifacts=artifacts,
        mark=hashlib.sha256(told.encode()).hexdigest()[:_MARK],
    )


def parse_cancel(link: str, data: bytes) -> Cancel:
    """Read a wish to stop.

    Raises:
        TransportError: `transport.ddi`.
    """
    answer = _json(data)
    stop = _mapping(answer.get("cancelAction"), "cancelAction").get("stopId")
    return Cancel(_identity(answer.get("id")), _identity(stop), link.partition("?")[0])


def sleep_of(value: object) -> float:
    """Seconds of `HH:MM:SS`, within bounds; what is none counts as hawkBit's default."""
    found = _SLEEP.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return SLEEP
    hours, minutes, seconds = map(int, found.groups())
    return min(max(hours * 3600.0 + minutes * 60 + seconds, SLEEP_MIN), SLEEP_MAX)


# keeps: REQ-FLT-02
def _json(data: bytes) -> Mapping[str, Any]:
    if len(data) > ANSWER_MAX:
        raise _unusable(f"at most {ANSWER_MAX} bytes", f"{len(data)} bytes")
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise _unusable("JSON", f"{len(data)} bytes that are none") from e
    return _mapping(answer, "the answer")


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _unusable(f"an object in '{what}'", _kind(value))
    return value


def _list(value: object, what: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        found = f"{len(value)} entries" if isinstance(value, list) else _kind(value)
        raise _unusable(f"a list of at most {most} in '{what}'", found)
    return value


def _identity(value: object) -> str:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not _ID.fullmatch(text):
        raise _unusable("an id of letters and digits", _kind(value))
    return text


def _handling(order: Mapping[str, Any], name: str) -> Handling:
    try:
        return Handling(str(order.get(name)))
    except ValueError as e:
        raise _unusable(f"skip, attempt or forced in '{name}'", _kind(order.get(name))) from e


def _files(chunk: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for each in _list(chunk.get("artifacts", []), "artifacts", ARTIFACTS_MAX):
        yield _mapping(each, "artifact")


def _artifact(at: Home, file: Mapping[str, Any]) -> Artifact:
    """`download` is hawkBit's link by https, `download-http` by http; a server behind a proxy gives either."""
    name, links = file.get("filename"), _mapping(file.get("_links", {}), "_links")
    hashes = _mapping(file.get("hashes", {}), "hashes")
    if not isinstance(name, str):
        raise _unusable("a text in 'filename'", _kind(name))
    url = next((_href(links[each]) for each in ("download", "download-http") if each in links), "")
    digest = hashes.get("sha256") or hashes.get("sha1") or ""
    return Artifact(name, url if _may_fetch(at, url) else "", str(digest))


def _may_fetch(at: Home, url: str) -> bool:
    try:
        address = parse_address(url)
    except TransportError:
        return False
    return _same_server(at.address, address) or address.host in map(str.lower, at.downloads)


def _same_server(one: Address, other: Address) -> bool:
    return (one.scheme, one.host, one.number) == (other.scheme, other.host, other.number)


# keeps: REQ-FLT-01
def _link(at: Home, links: Mapping[str, Any], name: str) -> str:
    if name not in links:
        return ""
    href = _href(links[name])
    try:
        address = parse_address(href)
        good = _same_server(at.address, address) and _below(at.address.target, address.target)
    except TransportError:
        good = False
    if not good:
        hint = "does the server know by which address devices reach it (X-Forwarded-* of its proxy)?"
        what = f"the server's link '{name}' leads elsewhere"
        raise TransportError(what, code="ddi-link", expected=f"below {at.url}", found=_shown(href), hint=hint)
    return href


def _below(base: str, target: str) -> bool:
    """Whether the path stands below the base, also for a server that resolves dots."""
    path = target.partition("?")[0]
    return path.startswith(base + "/") and not {".", ".."} & set(urllib.parse.unquote(path).split("/"))


def _href(link: object) -> str:
    href = link.get("href") if isinstance(link, dict) else None
    if not isinstance(href, str):
        raise _unusable("an address in 'href'", _kind(href))
    return href


def _shown(href: str) -> str:
    """A link for people, without its query."""
    return printable(href.partition("?")[0])[:200]


def _kind(value: object) -> str:
    """What was found, short whatever its size and depth."""
    words = {dict: "an object", list: "a list", type(None): "nothing"}
    return words.get(type(value)) or printable(str(value))[:60]


def _unusable(expected: str, found: str) -> TransportError:
    hint = "is this address a hawkBit server's?"
    return TransportError("the server's answer cannot be used", code="ddi", expected=expected, found=found, hint=hint)
