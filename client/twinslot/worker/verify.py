"""The verifying worker: one trust request in, one verdict or error out. Short-lived: importing tuf costs 35 MB."""

from __future__ import annotations

from twinslot.trust.verdict import decode_request, encode_verdict
from twinslot.trust.verify import verify
from twinslot.worker.protocol import Channel, Kind


def answer(channel: Channel) -> None:
    """Answer one request.

    Raises:
        TwinslotError: As `trust.verify`; `serving` reports it.
    """
    request = decode_request(channel.receive(Kind.REQUEST).payload)
    channel.send(Kind.VERDICT, encode_verdict(verify(request)))
