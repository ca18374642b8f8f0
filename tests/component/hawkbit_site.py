"""A real hawkBit behind the face of `fleet_sites.Site`: its management API, as an operator's script uses it."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final

from simulation.image import SmallImage

TIMEOUT: Final = 120.0  # seconds for an answer of a server that has just started, on a busy machine
_COUNT: Final = itertools.count(1)
_SEVERAL: Final = "multi.assignments.enabled"
_CONFIRMATION: Final = "user.confirmation.flow.enabled"
# The words of the management side for what a device said (DDI's), and those that the server writes itself.
_WORDS: Final = {
    "running": "proceeding",
    "download": "download",
    "downloaded": "downloaded",
    "finished": "closed success",
    "error": "closed failure",
    "warning": "rejected",
    "canceled": "canceled",
}
_BY_THE_SERVER: Final = ("Update Server:", "Assignment initiated", "Assignment automatically")
# What the server adds to the device's own words where the device answered whether it agrees; the type tells no more.
_CONSENTS: Final = {"Target confirmed action": "confirmed", "Target rejected action": "denied"}


class Management:
    """Calls of the management API.

    Args:
        url: Of the server.
        user: Name and password, as `name:password`.
    """

    def __init__(self, url: str, user: str = "admin:admin") -> None:
        self.url, self._user = url.rstrip("/"), user

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """One call; what it answers.

        Raises:
            HTTPError: The server refuses.
        """
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/rest/v1/{path}", data, method=method)
        request.add_header("Authorization", f"Basic {b64encode(self._user.encode()).decode()}")
        request.add_header("Content-Type", kind)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def configure(self, name: str, value: object) -> None:
        """A setting of the tenant."""
        self.call("PUT", f"system/configs/{name}", {"value": value})

    def can_configure(self, name: str) -> bool:
        """Whether the server knows this setting."""
        try:
            self.call("GET", f"system/configs/{name}")
        except urllib.error.HTTPError:
            return False
        return True

    def upload(self, module: int, name: str, data: bytes) -> None:
        """A file of a software module."""
        body, kind = multipart(name, data)
        self.call("POST", f"softwaremodules/{module}/artifacts", body, kind)


def multipart(name: str, data: bytes) -> tuple[bytes, str]:
    """A form with one file, and its media type."""
    line = b"twinslot-boundary"
    head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: application/octet-stream'
    body = b"--" + line + b"\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n--" + line + b"--\r\n"
    return body, f"multipart/form-data; boundary={line.decode()}"


class HawkbitSite:
    """One target on a real server. Implements `Site`.

    Args:
        management: Of the server.
        controller: A name that no target had before.
        disposable: Whether the server may be left with several orders at once, which cannot be taken back.
    """

    name, tenant = "hawkbit", "DEFAULT"

    def __init__(self, management: Management, controller: str, *, disposable: bool) -> None:
        self._management, self.url, self.controller = management, management.url, controller
        management.configure("authentication.targettoken.enabled", value=True)
        (made,) = management.call("POST", "targets", [{"controllerId": controller, "name": controller}])
        self.authorization = ("TargetToken", str(made["securityToken"]))
        can = {"cancel", "soft", "download-only", "windows", "attributes", "supersede", "several files", "management"}
        can |= {"confirmation"} if management.can_configure(_CONFIRMATION) else set()
        several = disposable and management.can_configure(_SEVERAL)  # hawkBit 1.0 has it no more
        self.can = frozenset(can | ({"several orders"} if several else set()))
        self._several = False

    def order(self, *images: SmallImage, kind: str = "forced", window: bool | None = None, weight: int = 1000) -> str:
        files = {f"{image.name}.twin": image.name.encode() for image in images} or {"notes.txt": b"no image"}
        return self.order_files(files, kind=kind, window=window, weight=weight)

    def order_files(
        self, files: dict[str, bytes], *, kind: str = "forced", window: bool | None = None, weight: int = 1000
    ) -> str:
        """Assign a release of these files."""
        name = {"name": f"pump-{self.controller}", "version": f"{next(_COUNT)}", "type": "os"}
        (module,) = self._management.call("POST", "softwaremodules", [name])
        for file, data in files.items():
            self._management.upload(module["id"], file, data)
        (found,) = self._management.call("POST", "distributionsets", [name | {"modules": [{"id": module["id"]}]}])
        wanted: dict[str, Any] = {"id": self.controller, "type": kind}
        if self._several:  # before that an old server takes no weight
            wanted["weight"] = weight
        if window is not None:
            wanted["maintenanceWindow"] = _window(is_open=window)
        self._management.call("POST", f"distributionsets/{found['id']}/assignedTargets", [wanted])
        actions = self._management.call("GET", f"targets/{self.controller}/actions?sort=id:DESC&limit=1")
        return str(actions["content"][0]["id"])

    def status(self, action: str) -> str:
        path = f"targets/{self.controller}/actions/{action}"
        found = self._management.call("GET", path)
        status = str(found.get("detailStatus") or found["status"])
        if status in ("pending", "finished") and "detailStatus" not in found:  # an old server says no more
            newest = self._management.call("GET", f"{path}/status?sort=id:DESC&limit=1")["content"][0]["type"]
            status = str(newest) if status == "finished" or newest == "canceling" else "running"
        status = "canceling" if status == "running" and found["type"] == "cancel" else status
        return {"downloaded": "finished", "retrieved": "running"}.get(status, status)

    def said(self, action: str) -> list[str]:
        path = f"targets/{self.controller}/actions/{action}/status?sort=id:ASC&limit=500"
        entries = self._management.call("GET", path)["content"]
        return [word for each in entries if (word := _word(each))]

    def cancel(self, action: str) -> None:
        self._management.call("DELETE", f"targets/{self.controller}/actions/{action}")

    def attributes(self) -> dict[str, str]:
        return dict(self._management.call("GET", f"targets/{self.controller}/attributes") or {})

    def confirming(self) -> None:
        self._management.configure(_CONFIRMATION, value=True)

    def several(self) -> None:
        self._management.configure(_SEVERAL, value=True)
        self._several = True

    def delete(self) -> None:
        self._management.call("DELETE", f"targets/{self.controller}")

    def restore(self) -> None:
        self.delete()
        made = {"controllerId": self.controller, "name": self.controller, "securityToken": self.authorization[1]}
        self._management.call("POST", "targets", [made])


def _word(entry: dict[str, Any]) -> str:
    """DDI's word of a status entry that came from the device, which always says something; empty: another one."""
    text = "".join(filter(None, entry.get("messages") or []))
    if not text or text.startswith(_BY_THE_SERVER):
        return ""
    consent = next((word for words, word in _CONSENTS.items() if words in text), "")
    return consent or _WORDS.get(entry["type"], "")


def _window(*, is_open: bool) -> dict[str, str]:
    """A maintenance window that is open at any time, or one that is two days away."""
    if is_open:
        return {"schedule": "0 0 * ? * * *", "duration": "01:00:00", "timezone": "+00:00"}
    day = (dt.datetime.now(dt.UTC) + dt.timedelta(days=2)).strftime("%a").upper()
    return {"schedule": f"0 0 12 ? * {day} *", "duration": "00:10:00", "timezone": "+00:00"}


@contextlib.contextmanager
def hawkbit_site(management: Management, controller: str, *, disposable: bool = False) -> Iterator[HawkbitSite]:
    """With the tenant as it was before, but for several orders at once."""
    site = HawkbitSite(management, controller, disposable=disposable)
    try:
        yield site
    finally:
        if "confirmation" in site.can:
            management.configure(_CONFIRMATION, value=False)
