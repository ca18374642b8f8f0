"""Small files from a server, or a document to one: the worker's end of FILE and CONTENT.

The connection is kept between files.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

from twinslot.core.bounds import DOCUMENT_LIMIT
from twinslot.core.errors import DeviceError
from twinslot.transport.http.dial import Dialing
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.small_file import SmallFiles
from twinslot.worker.protocol import COUNT, HEAD_LENGTH, Channel, Kind


def serve_small_files(channel: Channel, payload: bytes, dialing: Dialing) -> None:
    """Answer the first FILE, then each that follows, until nobody asks any more.

    Args:
        channel: To whoever asks.
        payload: Of the first FILE.
        dialing: Makes the connections.

    Raises:
        TwinslotError: As `SmallFiles.get`; it ends the conversation.
    """
    files: SmallFiles | None = None
    try:
        while True:
            asked = _read_request(payload)
            files = files or SmallFiles(
                asked.pop("http"), tick=lambda: channel.send(Kind.FETCHED, COUNT.pack(0)), dialing=dialing
            )
            asked.pop("http", None)
            file = files.post(**asked) if "body" in asked else files.get(**asked)
            head = {name: value for name, value in asdict(file).items() if name != "content"}
            data = json.dumps(head).encode()
            channel.send(Kind.CONTENT, HEAD_LENGTH.pack(len(data)), data, file.content)
            frame = channel.receive(Kind.FILE)
            if frame.descriptor >= 0:  # the way to the relay is there already
                os.close(frame.descriptor)
            payload = frame.payload
    finally:
        if files is not None:
            files.close()


def _read_request(payload: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(payload)
        limit = int(fields["limit"])
        if not 0 < limit <= DOCUMENT_LIMIT:
            raise ValueError(f"a limit of {limit} bytes")
        told: dict[str, Any] = {"url": str(fields["url"]), "limit": limit}
        told["http"] = HttpSettings.from_dict(fields["http"])
        if "body" in fields:
            return told | {"body": str(fields["body"]).encode()}
        return told | {name: str(fields[name]) for name in ("etag", "modified")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        hint = "client and worker must be of one version; restart the service after an upgrade"
        raise DeviceError("the request to the worker has unknown or missing words", code="worker", hint=hint) from e
