"""Time limits, retries and rates of a download, and which servers a device talks to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

SCHEMES: Final = ("https", "http")


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Limits of time and retries for a network; from the configuration's `[http]`.

    Attributes:
        connect_timeout: Seconds until a connection stands, whatever the number of addresses; the TLS handshake, and a
            proxy's answer, get as much again.
        read_timeout: Seconds of silence within an answer, and for the head of an answer as a whole.
        rate_floor: Bytes a second, over a read timeout.
        retries: Further tries without a byte of progress.
        retry_wait: Seconds; the longest pause between two tries.
        deadline: Seconds that the whole download may take; 0: as long as it takes.
        ca_file: PEM file of the authorities to believe; empty: the system's.
        client_cert: PEM file of our certificate, for servers that ask for one; the relay's user must be able to read
            it. It is shown to the host of the first address only, wherever redirects lead.
        client_key: PEM file of its key; empty: it stands in the same file.
        pins: SHA-256 of the public keys that a server may have, in hex; empty: any.
        rate_limit: Bytes of bodies a second, on average; 0: no limit. What the kernel reads ahead is not held back.
        schemes: Kinds of addresses that may be asked, redirects included.
        proxy: Address of an HTTP proxy; empty: none. The environment is never asked.
        no_proxy: Hosts, domains and networks that are asked directly.
        earliest: Seconds since 1970, `[trust] build_time`: a clock before it is wrong; 0: not known.
        credential_for: Address of the one server that gets a credential (transport/http/credential.py).
        credential_kind: First word of the header `Authorization`.
        credential_file: File with the rest of it, for the relay's user; empty: no credential.
    """

    connect_timeout: float = 20.0
    read_timeout: float = 60.0
    rate_floor: int = 256
    retries: int = 10
    retry_wait: float = 300.0
    deadline: float = 0.0
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    pins: tuple[str, ...] = ()
    rate_limit: int = 0
    schemes: tuple[str, ...] = SCHEMES
    proxy: str = ""
    no_proxy: tuple[str, ...] = ()
    earliest: float = 0.0
    credential_for: str = ""
    credential_kind: str = ""
    credential_file: str = ""

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> HttpSettings:
        """The settings of a request, where lists stand for tuples.

        Raises:
            TypeError: A word that is not known.
        """
        values: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in fields.items()}
        return HttpSettings(**values)


def for_sidecar(settings: HttpSettings) -> HttpSettings:
    """For a file beside the image, which an update can do without: a fault costs seconds, not minutes."""
    return replace(
        settings,
        connect_timeout=min(settings.connect_timeout, 10.0),
        read_timeout=min(settings.read_timeout, 15.0),
        retries=min(settings.retries, 2),
        retry_wait=min(settings.retry_wait, 2.0),
    )
