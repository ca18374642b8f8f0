"""The verifying worker: one trust request in, one verdict or error out. Short-lived: importing tuf costs 35 MB."""

from __future__ import annotations

from twinslot.core.errors import TwinslotError
from twinslot.trust.verdict import decode_request, encode_verdict
from twinslot.trust.verify import verify
from twinslot.worker.error_codec import write_error
from twinslot.worker.protocol import FIT, JSON_MAX, Channel, Kind


def answer(channel: Channel) -> None:
    """Answer one request. Kept roots that do not follow from the built-in one are told before, once.

    Raises:
        TwinslotError: As `trust.verify`; `serving` reports it.
    """

    def tell(fit: int, why: TwinslotError) -> None:
        channel.send(Kind.DROPPED, FIT.pack(fit) + write_error(why, JSON_MAX))

    request = decode_request(channel.receive(Kind.REQUEST).payload)
    channel.send(Kind.VERDICT, encode_verdict(verify(request, tell)))
