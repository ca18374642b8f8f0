"""A real gooseBit behind the face of `fleet_sites.Site`.

Its manners, as far as they differ from hawkBit's: an order's id is that of the software, and the order is shown until
the version that the device told is that of the software; one file makes an order; of what the device says, only
`proceeding` and `closed` count; nothing can be stopped, and attributes are not kept. It takes files of SWUpdate and
RAUC alone, so the file that stands for our image is a cpio that begins with a description, as SWUpdate's are.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

from hawkbit_site import multipart
from http_witness import Witness, witnessing

import waits
from simulation.image import SmallImage

_COUNT: Final = itertools.count(1)
_STATES: Final = {"Running": "running", "Registered": "running", "Finished": "finished", "Error": "error"}


class GoosebitOperator:
    """Calls of its management side.

    Args:
        url: Of the server, which has no user yet.
    """

    def __init__(self, url: str) -> None:
        self.url, self._token = url, ""
        form = urllib.parse.urlencode({"username": "admin", "password": "admin"}).encode()
        self._token = self.call("POST", "setup", form, "application/x-www-form-urlencoded")["access_token"]

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """One call; what it answers.

        Raises:
            HTTPError: The server refuses.
        """
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, method=method)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Content-Type", kind)
        with urllib.request.urlopen(request, timeout=waits.HANG) as answer:
            return json.load(answer)


class GoosebitSite:
    """One device at a real gooseBit. Implements `Site`.

    Args:
        operator: Of the server.
        controller: A name that no device had before.
        witness: In front of the server.
    """

    name, tenant, can = "goosebit", "DEFAULT", frozenset[str]()

    def __init__(self, operator: GoosebitOperator, controller: str, witness: Witness) -> None:
        self._operator, self._witness, self.controller, self.url = operator, witness, controller, witness.url
        self.authorization = ("TargetToken", f"t-{controller}"[:32])
        self._register()

    def _register(self) -> None:
        made = {"devices": [self.controller], "auth_token": self.authorization[1]}
        self._operator.call("PUT", "api/v1/devices", made)

    def order(self, *images: SmallImage, kind: str = "forced", window: bool | None = None, weight: int = 1000) -> str:
        assert (kind, window, weight) == ("forced", None, 1000)
        name = f"{images[0].name}.twin" if images else "notes.txt"
        body, kind = multipart(name, swu(f"1.0.{next(_COUNT)}", images[0].name.encode() if images else b"no image"))
        number = str(self._operator.call("PUT", "api/v1/software", body, kind)["id"])
        wanted = {
            "devices": [self.controller],
            "software": number,
            "force_update": self._device()["last_state"] == "Error",
        }
        self._operator.call("PATCH", "api/v1/devices", wanted)
        return number

    def _device(self) -> dict[str, Any]:
        found = self._operator.call("GET", "api/v1/devices")["devices"]  # of one alone it cannot tell: status 500
        return next(dict(each) for each in found if each["id"] == self.controller)

    def named(self, url: str) -> str:
        """Name of the image that a link leads to: the link has none, so that the file is fetched."""
        request = urllib.request.Request(url, headers={"Authorization": " ".join(self.authorization)})
        with urllib.request.urlopen(request, timeout=waits.HANG) as answer:
            disposition = str(answer.headers["Content-Disposition"])
        return disposition.partition('filename="')[2].rstrip('"')

    def status(self, action: str) -> str:
        device = self._device()
        assert str(device["assigned_software"]["id"]) == action, "it knows how the last order ended, and no other"
        return _STATES[device["last_state"]]

    def said(self, action: str) -> list[str]:
        path = f"/{self.tenant}/controller/v1/{self.controller}/deploymentBase/{action}/feedback"
        heard = [json.loads(each.body)["status"] for each in self._witness.heard if each.path == path]
        closing = [(each["execution"], each["result"]["finished"]) for each in heard]
        return [f"{word} {finished}" if word == "closed" else word for word, finished in closing]

    def cancel(self, action: str) -> None:
        raise NotImplementedError(action)

    def attributes(self) -> dict[str, str]:
        raise NotImplementedError

    def confirming(self) -> None:
        raise NotImplementedError

    def several(self) -> None:
        raise NotImplementedError

    def delete(self) -> None:
        self._operator.call("DELETE", "api/v1/devices", {"devices": [self.controller]})

    def restore(self) -> None:
        self.delete()
        self._register()


def swu(version: str, content: bytes) -> bytes:
    """An archive as SWUpdate has it: cpio's "newc" form, the description first."""
    described = f'software = {{ version = "{version}"; hardware-compatibility: [ "default" ]; }};'.encode()
    files = {"sw-description": described, "image": content, "TRAILER!!!": b""}
    return b"".join(_member(name, data) for name, data in files.items())


def _member(name: str, data: bytes) -> bytes:
    """One file (cpio(5): thirteen fields of eight hex digits; head and data each end at a multiple of four)."""
    fields = (0, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % each for each in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


@contextlib.contextmanager
def goosebit_site(operator: GoosebitOperator, controller: str) -> Iterator[GoosebitSite]:
    """A device of its own."""
    with witnessing(operator.url) as witness:
        yield GoosebitSite(operator, controller, witness)
