"""Who the server is: TLS 1.2 or later with authenticated encryption, and what to say when its certificate is wrong.

Python leaves the lowest version to the system's OpenSSL, whose makers may allow TLS 1.0. So it is said here.
"""

from __future__ import annotations

import functools
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from twinslot.core.address import Address
from twinslot.core.errors import DeviceError, TransportError
from twinslot.core.pkcs11_uri import is_pkcs11
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.token_key import as_file

# RFC 9325, section 4.2: forward secrecy and AEAD only. TLS 1.3 has no others.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM:DHE+AESGCM:DHE+CHACHA20:!aNULL:!aDSS"
_NOT_YET: Final = 9  # X509_V_ERR_CERT_NOT_YET_VALID (openssl/x509_vfy.h)
_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED


def context(settings: HttpSettings, *, ours: bool) -> ssl.SSLContext:
    """What a connection needs. Files that were replaced since the last one, as a renewed certificate is, are read anew.

    Args:
        settings: Which files.
        ours: Show our own certificate to a server that asks for one.

    Raises:
        DeviceError: `device.tls-files`; `device.pkcs11-...`: the key is in a token, and nothing to reach it is there.
    """
    return _made(settings, ours, tuple(map(_state, (settings.ca_file, settings.client_cert, settings.client_key))))


def _state(name: str) -> tuple[int, ...]:
    """What changes when a file is replaced or written; of one that cannot be looked at, loading it tells."""
    try:
        status = Path(name).stat() if name else None
    except OSError:
        return ()
    if status is None:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=2)  # reading the system's authorities costs more than a connection
def _made(settings: HttpSettings, ours: bool, _files: tuple[tuple[int, ...], ...]) -> ssl.SSLContext:
    """The context, for these states of the files.

    Raises:
        DeviceError: `device.tls-files`.
    """
    try:
        made = ssl.create_default_context(cafile=settings.ca_file or None)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers(CIPHERS)
        if settings.client_cert and ours:
            with as_file(settings.client_key) as key:
                made.load_cert_chain(settings.client_cert, key)
    except (OSError, ssl.SSLError) as e:
        files = ", ".join(filter(None, (settings.ca_file, settings.client_cert, settings.client_key)))
        found = e.strerror if not isinstance(e, ssl.SSLError) and e.strerror else "no certificate, or no key to it"
        if is_pkcs11(settings.client_key):
            found += "; no such key in the token, or another PIN"
        raise DeviceError(f"the certificates '{files}' cannot be used", code="tls-files", found=found) from e
    return made


def not_who(address: Address, error: ssl.SSLCertVerificationError, settings: HttpSettings) -> TransportError:
    """The server's certificate is wrong; where its dates are what is wrong, so may be our clock."""
    hint = None
    if error.verify_code in (_NOT_YET, _EXPIRED):
        now = time.time()
        hint = f"the clock of this device says {_day(now)}: set it if that is wrong"
        if now < settings.earliest:
            hint = f"the clock of this device says {_day(now)}, before its build time {_day(settings.earliest)}: set it"
    return TransportError(f"'{address}' is not who it says", code="tls", found=error.verify_message, hint=hint)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
