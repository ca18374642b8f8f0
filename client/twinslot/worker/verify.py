"""The verifying worker: one question in, one answer or error out. Short-lived: importing tuf costs 35 MB.

A question is either about an image, or about a repository, whose documents it then asks for one by one.
"""

from __future__ import annotations

from twinslot.core.errors import TwinslotError
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
        from twinslot.worker.refresh import answer_question  # costs memory that an image does not need

        answer_question(channel, frame.payload)
        return

    def tell(fit: int, why: TwinslotError) -> None:
        channel.send(Kind.DROPPED, FIT.pack(fit) + write_error(why, JSON_MAX))

    channel.send(Kind.VERDICT, encode_verdict(verify(decode_request(frame.payload), tell)))
