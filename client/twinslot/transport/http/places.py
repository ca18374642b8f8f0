"""Where a host is: on this device, on its link, or elsewhere; and which hosts are asked without a proxy."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable


class Near(enum.StrEnum):
    """How close a server is. What is near trusts who comes from near, so a server elsewhere must not lead us there."""

    DEVICE = "this device"
    LINK = "this link"
    ELSEWHERE = "elsewhere"


def nearness(place: str) -> Near:
    """Of a numeric address or a host's name; a name that does not tell is elsewhere until it was looked up."""
    text = place.partition("%")[0].rstrip(".").lower()
    if text == "localhost" or text.endswith(".localhost"):  # RFC 6761, section 6.3
        return Near.DEVICE
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(text)
    except ValueError:
        return Near.ELSEWHERE
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_unspecified:
        return Near.DEVICE
    return Near.LINK if address.is_link_local else Near.ELSEWHERE


def is_direct(host: str, entries: Iterable[str]) -> bool:
    """Whether a host is asked without a proxy: this device always, and what stands in `http.no_proxy`.

    An entry is a host, a domain (with or without a dot before it), an IP address, or a network (`10.0.0.0/8`).
    """
    return nearness(host) is Near.DEVICE or any(_matches(host.rstrip(".").lower(), entry.lower()) for entry in entries)


def _matches(host: str, entry: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        domain = entry.lstrip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
