"""Prints docs/servers.md from tests/component/server_rows.py, whose rows run as tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "component"))
from server_rows import BESIDE, ELSEWHERE, TABLE, WHOLE

PREFACE = """\
# Servers

What web servers, caches, object stores and proxies do, and what the client does then. Printed by `make docs` from
`tests/component/server_rows.py`; each row runs as a test against a server that behaves so.

A server should give parts of a file (`Range`): without, patches, block lists and what the slots hold save nothing.
nginx, Apache httpd, lighttpd, Caddy and the large object stores do; `python3 -m http.server` does not. `twinslot
install --dry-run` says what would not be used, and why. Nothing that a server says is believed: every group has a
digest in the signed manifest, so a row that ends with "reads it" risks time, never content.

Codes are explained in [errors.md](errors.md), keys of `[http]` in [config.md](config.md). Clocks: looking a name up and
connecting have `connect_timeout` together, a proxy's answer and the TLS handshake as long each again, the head of an
answer `read_timeout` as a whole, however many pieces it comes in; a body may be silent for `read_timeout` and must keep
to `rate_floor` over it. `deadline` counts over all of these, pauses included.
"""


def page() -> str:
    """The page as Markdown."""
    lines = [PREFACE]
    for title, rows in TABLE.items():
        lines += [f"## {title}", "", "| the server | the client | ends with |", "|---|---|---|"]
        lines += [
            f"| {row.server} | {row.client} | {row.ends if row.ends == WHOLE else f'`{row.ends}`'} |" for row in rows
        ]
        lines += [""]
    for title, told in (("Files beside the image", BESIDE), ("Redirects, names, proxies and TLS", ELSEWHERE)):
        lines += [f"## {title}", "", "| the server | the client |", "|---|---|"]
        lines += [f"| {server} | {client} |" for server, client in told.items()]
        lines += [""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
