"""A hawkBit on paper that says what hawkBit 1.0.4 says to a device, and refuses what it refuses.

What it says is held by exchanges that were recorded with a real one (tests/data/hawkbit,
tests/unit/test_hawkbit_fake.py), and the same situations run on a real server (tests/component/test_hawkbit.py).
Beside that it can be down, slow, wrong and hostile.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EXECUTIONS = {"closed", "proceeding", "canceled", "scheduled", "rejected", "resumed", "downloaded", "download"}
FINISHED = {"success", "failure", "none"}
ENTRIES_MAX = 1000  # status entries of one action
DETAILS_MAX = 50  # of one entry
VALUE_MAX = 128  # characters of an attribute
HAL = "application/hal+json;charset=UTF-8"
RANGE = re.compile(r"bytes=(\d+)-(\d*)")

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Module:
    """A software module with its files."""

    name: str
    version: str
    files: dict[str, bytes]


@dataclass
class Deployment:
    """An action.

    Attributes:
        kind: `forced`, `soft` or `downloadonly`.
        window: Whether its maintenance window is open; None: it has none.
        status: As the management side shows it.
        entries: What the device said: execution, finished, details, progress.
        weight: Where several are under way, the weightiest is shown, and of one weight the oldest.
    """

    number: int
    controller: str
    modules: list[Module]
    kind: str = "forced"
    window: bool | None = None
    status: str = "running"
    entries: list[tuple[str, str, list[str], Any]] = field(default_factory=list)
    weight: int = 1000


@dataclass
class Target:
    """A device at the server."""

    controller: str
    token: str
    attributes: dict[str, str] = field(default_factory=dict)
    wants_attributes: bool = True
    polls: int = 0


class FakeHawkbit:
    """The server. Calls of several threads are answered one after the other.

    Attributes:
        fault: Called with method and path before an answer; a reply of its own is given instead.
        several: A new order cancels no older one.
        log: Method, path and status of each answer.
        sleep: What a poll says.
        link: What links of files are called.
        shown: Rewrites what is said, as JSON.
        date: The time of day, as its answers have it; empty: the true one.
    """

    tenant = "DEFAULT"

    def __init__(self) -> None:
        self.url = "http://hawkbit.test"
        self.targets: dict[str, Target] = {}
        self.actions: list[Deployment] = []
        self.gateway = ""
        self.confirmation, self.several = False, False
        self.sleep, self.date = "00:00:30", ""
        self.link = "download-http"
        self.fault: Callable[[str, str], Reply | None] = lambda _method, _path: None
        self.shown: Callable[[str, Any], Any] = lambda _path, answer: answer
        self.log: list[tuple[str, str, int]] = []
        self.guard = threading.RLock()

    # The operator's side

    def device(self, controller: str) -> str:
        """Make a target; its token."""
        self.targets[controller] = Target(controller, f"token-of-{controller}")
        return self.targets[controller].token

    def assign(
        self, controller: str, *modules: Module, kind: str = "forced", window: bool | None = None, weight: int = 1000
    ) -> Deployment:
        """A new order; older ones are being cancelled from here on, unless there may be several."""
        with self.guard:
            for each in [] if self.several else self._open(controller):
                each.status = "canceling" if each.status != "wait_for_confirmation" else "canceled"
            status = "wait_for_confirmation" if self.confirmation else "running"
            action = Deployment(len(self.actions) + 1, controller, list(modules), kind, window, status, weight=weight)
            self.actions.append(action)
            return action

    def action(self, number: int) -> Deployment:
        """By its id."""
        return self.actions[number - 1]

    def _open(self, controller: str) -> list[Deployment]:
        over = ("finished", "error", "canceled")
        return [each for each in self.actions if each.controller == controller and each.status not in over]

    # The device's side

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """What it says to one request."""
        with self.guard:
            reply = self.fault(method, path) or self._answer(method, path, headers, body)
            self.log.append((method, path, reply[0]))
        return reply

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        match = re.fullmatch(rf"/{self.tenant}/controller/v1/([^/?]+)((?:/[^?]*)?)(?:\?.*)?", path)
        if match is None:
            return 404, {}, b""
        target = self.targets.get(match[1])
        if not self._let_in(match[1], target, headers):
            return 401, {}, b""
        if target is None:  # a gateway's token makes the target
            self.device(match[1])
            target = self.targets[match[1]]
        parts = match[2].strip("/").split("/") if match[2] else []
        return self._served(method, target, parts, body, headers)

    def _let_in(self, controller: str, target: Target | None, headers: dict[str, str]) -> bool:
        given = headers.get("authorization", "")
        if self.gateway and given == f"GatewayToken {self.gateway}":
            return True
        return target is not None and target.controller == controller and given == f"TargetToken {target.token}"

    def _served(self, method: str, target: Target, parts: list[str], body: bytes, headers: dict[str, str]) -> Reply:
        match (method, *parts):
            case ("GET",):
                target.polls += 1
                return self._json("", self._poll(target))
            case ("PUT", "configData"):
                return self._config_data(target, body)
            case ("GET", "deploymentBase" | "confirmationBase" | "installedBase" as kind, number):
                return self._order(target, kind, number)
            case ("GET", "cancelAction", number):
                return self._cancel(target, number)
            case ("POST", "deploymentBase" | "cancelAction" | "confirmationBase" as kind, number, "feedback"):
                return self._feedback(target, kind, number, body)
            case ("GET" | "HEAD", "softwaremodules", number, "artifacts", name):
                return self._file(number, name, headers)
            case _:
                return 404, {}, b""

    def _base(self, target: Target) -> str:
        return f"{self.url}/{self.tenant}/controller/v1/{target.controller}"

    def _poll(self, target: Target) -> dict[str, Any]:
        base, links = self._base(target), {}
        open_ = self._open(target.controller)
        # of all that is under way the weightiest alone is shown, and of one weight the oldest
        first = max(open_, key=lambda each: (each.weight, -each.number), default=None)
        if first is not None:
            word = {"canceling": "cancelAction", "wait_for_confirmation": "confirmationBase"}
            name = word.get(first.status, "deploymentBase")
            query = "?c=411599879" if name == "deploymentBase" else ""
            links[name] = {"href": f"{base}/{name}/{first.number}{query}"}
        done = [each for each in self.actions if each.controller == target.controller and each.status == "finished"]
        if done:
            links["installedBase"] = {"href": f"{base}/installedBase/{done[-1].number}"}
        if target.wants_attributes:
            links["configData"] = {"href": f"{base}/configData"}
        return {"config": {"polling": {"sleep": self.sleep}}} | ({"_links": links} if links else {})

    def _config_data(self, target: Target, body: bytes) -> Reply:
        said = _read(body) or {}
        data, mode = said.get("data"), said.get("mode", "replace")
        if (
            not isinstance(data, dict)
            or mode not in ("merge", "replace", "remove")
            or any(not isinstance(value, str) or len(value) > VALUE_MAX for value in data.values())
        ):
            return _wrong()
        target.attributes = (target.attributes if mode == "merge" else {}) | data
        target.wants_attributes = False
        return 200, {}, b""

    def _find(self, target: Target, number: str) -> Deployment | None:
        mine = [each for each in self.actions if each.controller == target.controller]
        return next((each for each in mine if str(each.number) == number), None)

    def _order(self, target: Target, kind: str, number: str) -> Reply:
        wanted = {"deploymentBase": "running", "confirmationBase": "wait_for_confirmation", "installedBase": "finished"}
        action = self._find(target, number)
        if action is None or action.status != wanted[kind]:
            return _missing(number)
        key = "confirmation" if kind == "confirmationBase" else "deployment"
        return self._json(kind, {"id": number, key: self._chunks(target, action)})

    def _chunks(self, target: Target, action: Deployment) -> dict[str, Any]:
        how = {"forced": ("forced", "forced"), "soft": ("attempt", "attempt"), "downloadonly": ("forced", "skip")}
        download, update = how[action.kind]
        more: dict[str, Any] = {}
        if action.window is not None:
            more = {"maintenanceWindow": "available" if action.window else "unavailable"}
            update = update if action.window else "skip"
        chunks = [
            {
                "part": "twinslot",
                "version": each.version,
                "name": each.name,
                "artifacts": self._files(target, action, at),
            }
            for at, each in enumerate(action.modules)
        ]
        return {"download": download, "update": update} | more | {"chunks": chunks}

    def _files(self, target: Target, action: Deployment, at: int) -> list[dict[str, Any]]:
        where = f"{self._base(target)}/softwaremodules/{action.number}-{at}/artifacts"
        return [
            {
                "filename": name,
                "hashes": {kind: hashlib.new(kind, data).hexdigest() for kind in ("sha1", "md5", "sha256")},
                "size": len(data),
                "_links": {self.link: {"href": f"{where}/{name}"}},
            }
            for name, data in action.modules[at].files.items()
        ]

    def _cancel(self, target: Target, number: str) -> Reply:
        action = self._find(target, number)
        if action is None or action.status != "canceling":
            return _missing(number)
        return self._json("cancelAction", {"id": number, "cancelAction": {"stopId": number}})

    def _feedback(self, target: Target, kind: str, number: str, body: bytes) -> Reply:
        said, action = _read(body), self._find(target, number)
        if kind == "confirmationBase":
            return self._consent(action, said)
        status = _status(said)
        if status is None:
            return _wrong()
        if action is None:
            return _missing(number)
        if action.status in ("finished", "error", "canceled"):
            return 410, {}, b""
        execution, finished, details, progress = status
        if len(action.entries) >= ENTRIES_MAX and execution != "closed":
            return 429, {}, b""
        action.entries.append((execution, finished, details, progress))
        self._moved(action, kind, execution, finished)
        return 200, {}, b""

    def _moved(self, action: Deployment, kind: str, execution: str, finished: str) -> None:
        if kind == "cancelAction":
            if execution == "closed":
                action.status = "canceled" if finished != "failure" else "running"
            elif execution == "rejected":
                action.status = "running"
        elif execution == "closed":
            action.status = "error" if finished == "failure" else "finished"
        elif execution == "downloaded" and action.kind == "downloadonly":
            action.status = "finished"

    def _consent(self, action: Deployment | None, said: dict[str, Any] | None) -> Reply:
        word = (said or {}).get("confirmation")
        if word not in ("confirmed", "denied"):
            return _wrong()
        if action is None or action.status != "wait_for_confirmation":
            return _missing("?")
        action.entries.append((word, "none", [], None))
        action.status = "running" if word == "confirmed" else action.status
        return 200, {}, b""

    def _file(self, number: str, name: str, headers: dict[str, str]) -> Reply:
        action, _, at = number.partition("-")
        try:
            data = self.action(int(action)).modules[int(at)].files[name]
        except (ValueError, IndexError, KeyError):
            return _missing(name)
        told = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        told["Content-Type"] = "application/octet-stream"
        wanted = RANGE.fullmatch(headers.get("range", ""))
        if wanted is None:
            return 200, told, data
        first = int(wanted[1])
        last = min(int(wanted[2] or len(data) - 1), len(data) - 1)
        if first >= len(data):
            return 416, told | {"Content-Range": f"bytes */{len(data)}"}, b""
        return 206, told | {"Content-Range": f"bytes {first}-{last}/{len(data)}"}, data[first : last + 1]

    def _json(self, what: str, answer: Any) -> Reply:
        return 200, {"Content-Type": HAL}, json.dumps(self.shown(what, answer)).encode()


def _read(body: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(body)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _status(said: dict[str, Any] | None) -> tuple[str, str, list[str], Any] | None:
    """What a feedback says; None: it is none."""
    status = (said or {}).get("status")
    if not isinstance(status, dict) or set(said or {}) - {"id", "timestamp", "status"}:
        return None
    result, details = status.get("result"), status.get("details", [])
    good = (
        status.get("execution") in EXECUTIONS
        and isinstance(result, dict)
        and result.get("finished") in FINISHED
        and not set(status) - {"execution", "result", "details", "code"}
        and not set(result) - {"finished", "progress"}
        and isinstance(details, list)
        and len(details) <= DETAILS_MAX
        and all(isinstance(each, str) for each in details)
    )
    if not good or not isinstance(result, dict):
        return None
    return status["execution"], result["finished"], details, result.get("progress")


def _problem(status: int, name: str, words: str) -> Reply:
    error = {"exceptionClass": name.rpartition(".")[0], "errorCode": name, "message": words}
    return status, {"Content-Type": HAL}, json.dumps(error).encode()


def _wrong() -> Reply:
    return _problem(400, "hawkbit.server.error.rest.body.notReadable", "The given request body is not well formed")


def _missing(what: str) -> Reply:
    words = f"Action with given identifier {{{what}}} does not exist."
    return _problem(404, "hawkbit.server.error.repo.entityNotFound", words)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Web

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.heads.append(headers)
        status, told, content = self.server.hawkbit.answer(self.command, self.path, headers, body)
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in told.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_HEAD = _do  # noqa: N815 - as http.server calls them

    def date_time_string(self, timestamp: float | None = None) -> str:
        """What stands in `Date`."""
        return self.server.hawkbit.date or super().date_time_string(timestamp)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Web(ThreadingHTTPServer):
    daemon_threads = True
    hawkbit: FakeHawkbit
    heads: list[dict[str, str]]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


@contextlib.contextmanager
def serving(hawkbit: FakeHawkbit, port: int = 0) -> Iterator[_Web]:
    """Over HTTP on loopback, by chance or on a port; `hawkbit.url` is its address from here on."""
    web = _Web(("127.0.0.1", port), _Handler)
    web.hawkbit, web.heads = hawkbit, []
    hawkbit.url = f"http://127.0.0.1:{web.server_address[1]}"
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield web
    finally:
        web.shutdown()
        thread.join()
        web.server_close()
