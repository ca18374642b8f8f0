"""The TLS key in a token: OpenSSL, in this process, learns how to ask the token's module for a signature.

Python's `ssl` names keys by files. So OpenSSL's pkcs11-provider is put beside its own algorithms, and the "key file"
holds a URI. `ssl` has no call for the first, libcrypto has: `CONF_modules_load_file` (its manual page has the name).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import ssl
from collections.abc import Iterator
from typing import Final

from twinslot.core.errors import DeviceError
from twinslot.core.pkcs11_provider import NAME, configuration, device_uri, key_pem
from twinslot.core.pkcs11_uri import is_pkcs11

_LIBRARY: Final = "libcrypto.so.3"  # the one that Debian's `ssl` is linked with, so it is here already
_PROVIDERS_SINCE: Final = (3, 0, 0)


# keeps: S22 (in the relay's process)
@contextlib.contextmanager
def as_file(key: str) -> Iterator[str | None]:
    """A name for `SSLContext.load_cert_chain`, good until the block ends; None: the key stands with the certificate.

    Args:
        key: `http.client_key`: a file, a PKCS #11 URI, or nothing.

    Raises:
        DeviceError: `device.pkcs11-...`: the URI names no key, no module, or no file of a PIN; there is no provider.
    """
    if not is_pkcs11(key):
        yield key or None
        return
    uri = device_uri(key)
    _load_provider(configuration(uri))
    with _file_of(key_pem(uri)) as name:
        yield name


@functools.cache  # a provider stays, and one process has one key
def _load_provider(configured: bytes) -> None:
    if ssl.OPENSSL_VERSION_INFO[:3] < _PROVIDERS_SINCE:
        raise _no_provider(ssl.OPENSSL_VERSION)
    crypto = ctypes.CDLL(_LIBRARY)
    crypto.CONF_modules_load_file.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong)
    crypto.OSSL_PROVIDER_available.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    with _file_of(configured) as name:
        crypto.CONF_modules_load_file(name.encode(), None, 0)
    if not crypto.OSSL_PROVIDER_available(None, NAME.encode()):
        raise _no_provider(f"{ssl.OPENSSL_VERSION} without it")


def _no_provider(found: str) -> DeviceError:
    what, hint = "keys in tokens need OpenSSL's pkcs11-provider", "install 'openssl' and 'pkcs11-provider' (Debian 13)"
    return DeviceError(what, code="pkcs11-provider", found=found, hint=hint)


@contextlib.contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """A name under which these bytes can be read once. A pipe, since this process may write no file."""
    reading, writing = os.pipe()
    try:
        with open(writing, "wb") as file:
            file.write(data)  # a few kilobytes at most; a pipe holds 64 KiB (pipe(7))
        yield f"/proc/self/fd/{reading}"
    finally:
        os.close(reading)
