"""One refresh: between the trust process, which decides, the fetching one, which has the network, and what is kept.

This process has neither network nor parser: it hands documents on, and keeps those that it is told to keep, as they
were when the trust process saw them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from twinslot.core.errors import DeviceError, TransportError
from twinslot.repository.directory import Fetcher
from twinslot.repository.store import DocumentStore
from twinslot.transport.http.small_file import BUSY, OK, SmallFile
from twinslot.trust.repository_messages import (
    DocumentRequest,
    FreshMetadata,
    RepositoryQuestion,
    decode_document_request,
    decode_fresh,
    encode_question,
)
from twinslot.worker.launch import Worker
from twinslot.worker.protocol import Frame, Kind
from twinslot.worker.stream import START

REQUESTS_MAX: Final = 4096  # documents in one refresh: some 256 roots and 64 targets by 32 roles, kept and fetched


class Exchange:
    """Refreshes of one repository.

    Args:
        url: Address or path of the directory with the metadata, ending in '/'.
        store: What the device keeps.
        fetcher: Brings what the server has.
        get_worker: Gives a fresh trust process.
        at_hand: Files that were fetched moments ago, by name.
    """

    def __init__(
        self,
        url: str,
        store: DocumentStore,
        fetcher: Fetcher,
        get_worker: Callable[[], Worker],
        at_hand: Mapping[str, bytes] | None = None,
    ) -> None:
        self._url, self._store, self._fetcher, self._get_worker = url, store, fetcher, get_worker
        self._at_hand = dict(at_hand or {})
        self._given: tuple[DocumentRequest, bytes] | None = None
        self._absent: set[str] = set()

    # keeps: S29
    def refresh(self, question: RepositoryQuestion) -> FreshMetadata:
        """One question, and all that it takes to answer it.

        Survives a power cut at any moment: each document is kept whole or not at all, and the next refresh goes on.

        Raises:
            TwinslotError: As `trust.repository.refresh`; `transport.busy`; and whatever keeps a file from coming.
        """
        worker = self._get_worker()
        try:
            worker.channel.silence = START
            worker.send(Kind.QUESTION, encode_question(question))
            for _ in range(REQUESTS_MAX):
                frame = worker.receive(Kind.ASK, Kind.KEEP, Kind.FRESH)
                if frame.kind is Kind.FRESH:
                    return decode_fresh(frame.payload)
                self._serve(worker, frame)
        finally:
            worker.close()
        raise DeviceError("the trust process asks without end", code="worker", expected=f"at most {REQUESTS_MAX} files")

    def _serve(self, worker: Worker, frame: Frame) -> None:
        request = decode_document_request(frame.payload)
        if frame.kind is Kind.KEEP:
            self._keep(request)
            return
        data = self._store.load(request) if request.stored else self._fetch(request)
        self._given = None if request.stored or data is None else (request, data)
        worker.send(Kind.DOCUMENT, b"\x00" if data is None else b"\x01", data or b"")

    def _keep(self, request: DocumentRequest) -> None:
        if self._given is None or self._given[0] != request:
            raise DeviceError("the trust process wants to keep what it was not given", code="worker")
        self._store.save(request, self._given[1])

    def _fetch(self, request: DocumentRequest) -> bytes | None:
        name = request.file_name
        if name in self._absent:  # asked a moment ago, by the refresh before this one
            return None
        data = self._at_hand.get(name)
        if data is not None and len(data) <= request.limit:
            return data
        data = content_of(self._fetcher.get(self._url + name, request.limit))
        if data is None:
            self._absent.add(name)
        return data


def content_of(file: SmallFile) -> bytes | None:
    """The file; None: the server has none.

    Raises:
        TransportError: `transport.busy`: it asks to wait (`Fetcher.wait`).
    """
    if file.status in BUSY:
        hint = "nothing is wrong here; ask again later"
        raise TransportError("the server asks to wait", code="busy", found=f"{file.wait:g} seconds", hint=hint)
    return file.content if file.status == OK else None
