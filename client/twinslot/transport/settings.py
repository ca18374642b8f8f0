"""How much patience a device has with a network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Patience with a network; from the configuration's `[http]`.

    Attributes:
        connect_timeout: Seconds until a connection stands.
        read_timeout: Seconds of silence within an answer.
        rate_floor: Bytes a second, over a read timeout.
        retries: Further tries without a byte of progress.
        retry_wait: Seconds; the longest pause between two tries.
        deadline: Seconds that the whole download may take; 0: as long as it takes.
        ca_file: PEM file of the authorities to believe; empty: the system's.
        client_cert: PEM file of our certificate, for servers that ask for one; the worker's user must be able to read
            it.
        client_key: PEM file of its key; empty: it stands in the same file.
        rate_limit: Bytes of bodies a second, on average; 0: no limit. What the kernel reads ahead is not held back.
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
    rate_limit: int = 0
