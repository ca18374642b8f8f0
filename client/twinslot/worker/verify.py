"""The verifying worker: one question in, one answer or error out. Short-lived: importing tuf costs 35 MB.

A question is either about an image, or about a repository, whose documents it then asks for one by one.
"""

from __future__ import annotations

from twinslot.core.errors import TwinslotError
from twinslot.trust.repository import refresh
from twinslot.trust.repository_messages import (
    DocumentRequest,
    decode_question,
    encode_document_request,
    encode_fresh,
)
from twinslot.trust.verdict import decode_request, encode_verdict
from twinslot.trust.verify import verify
from twinslot.worker.error_codec import write_error
from twinslot.worker.protocol import FIT, JSON_MAX, Channel, Kind


def answer(channel: Channel) -> None:
    """Answer one question. Of an image, kept roots that do not follow from the built-in one are told before, once.

    Raises:
        TwinslotError: As `trust.verify` and `trust.repository`; `serving` reports it.
    """
    frame = channel.receive(Kind.REQUEST, Kind.QUESTION)
    if frame.kind is Kind.QUESTION:
        fresh = refresh(decode_question(frame.payload), _Documents(channel))
        channel.send(Kind.FRESH, encode_fresh(fresh))
        return

    def tell(fit: int, why: TwinslotError) -> None:
        channel.send(Kind.DROPPED, FIT.pack(fit) + write_error(why, JSON_MAX))

    channel.send(Kind.VERDICT, encode_verdict(verify(decode_request(frame.payload), tell)))


class _Documents:
    """Implements `trust.repository.DocumentSource` over the channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def document(self, request: DocumentRequest) -> bytes | None:
        """Ask the other end."""
        self._channel.send(Kind.ASK, encode_document_request(request))
        payload = self._channel.receive(Kind.DOCUMENT).payload
        return payload[1:] if payload[:1] == b"\x01" else None

    def keep(self, request: DocumentRequest) -> None:
        """Tell the other end."""
        self._channel.send(Kind.KEEP, encode_document_request(request))
