"""The verifying worker: one trust request in, one verdict or error out. Short-lived: importing tuf costs 35 MB."""

from __future__ import annotations

from twinslot.bundle.trust import verify
from twinslot.bundle.verdict import decode_request, encode_verdict
from twinslot.core.errors import BundleError, TransportError, TwinslotError
from twinslot.worker.frames import Channel, Kind


def serve(channel: Channel) -> None:
    """Answer one request."""
    try:
        request = decode_request(channel.receive(Kind.REQUEST).payload)
        channel.send(Kind.VERDICT, encode_verdict(verify(request)))
    except TransportError:
        return  # the engine is gone
    except TwinslotError as e:
        channel.send_error(e)
    except MemoryError:
        channel.send_error(BundleError("the manifest needs more memory than a worker may have", code="memory"))
