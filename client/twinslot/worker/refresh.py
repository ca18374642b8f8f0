"""A question about a repository, in the verifying worker: its documents are asked for one by one."""

from __future__ import annotations

from twinslot.trust.repository import refresh
from twinslot.trust.repository_messages import (
    DocumentRequest,
    decode_question,
    encode_document_request,
    encode_fresh,
)
from twinslot.worker.protocol import Channel, Kind


def answer_question(channel: Channel, payload: bytes) -> None:
    """Answer one QUESTION.

    Raises:
        TwinslotError: As `trust.repository`; `serving` reports it.
    """
    fresh = refresh(decode_question(payload), _Documents(channel))
    channel.send(Kind.FRESH, encode_fresh(fresh))


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
