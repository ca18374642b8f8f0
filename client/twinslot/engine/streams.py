"""Opening a stream of an image: which worker reads it, and which addresses are asked at all.

Imports little, so that the worker starts while the rest of the engine is still being loaded.
"""

from __future__ import annotations

from typing import Any

from twinslot.config.options import Config
from twinslot.core.address import parse_address
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.stream import ImageStream
from twinslot.engine.naming import source_name
from twinslot.engine.trust_time import utc_now
from twinslot.transport.http.options import SCHEMES
from twinslot.transport.http.places import Near, nearness
from twinslot.worker import launch
from twinslot.worker.stream import WorkerStream, open_remote
from twinslot.worker.unlock import Decryption


# keeps: S28
def open_stream(config: Config, source: str | int, *, service_workers: bool) -> ImageStream:
    """A stream of an image from a URL or an open descriptor; the caller keeps and closes its descriptor.

    Raises:
        RefusedError: `refused.scheme`: this device asks no addresses of that kind.
    """
    get_worker = launch.connect if service_workers else launch.start
    limits = {"group_size": config.install.max_group_size, "image_size": config.install.max_image_size}
    decryption = Decryption(get_worker, config.decryption.key)
    request: dict[str, Any] = {"limits": limits, "nice": config.install.nice}
    if isinstance(source, int):
        return WorkerStream(get_worker("read"), request, source, source_name(source), decryption)
    _require_scheme(config, source)
    from twinslot.policy.local import LocalPolicy  # costs time that a file does not need

    http = config.network
    delta = {"patches": config.delta.patches, "budget": LocalPolicy(config, utc_now).budget()}
    request |= {"url": source, "http": http, "delta": delta}
    return open_remote(get_worker, request, source_name(source), decryption)


def _require_scheme(config: Config, source: str) -> None:
    """Refuse before a worker is asked; the relay holds each connection to the same rule.

    Raises:
        RefusedError: `refused.scheme`.
    """
    scheme = source.partition("://")[0].lower()
    if scheme not in SCHEMES or scheme in config.http.schemes or nearness(parse_address(source).host) is Near.DEVICE:
        return
    allowed = " or ".join(config.http.schemes)
    hint = "ask it by https; 'http.schemes' says what may be asked"
    raise RefusedError(Refusal("scheme", "this device asks no address of this kind", allowed, scheme, hint))
