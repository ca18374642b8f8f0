"""`python -m bench.poll_bytes`: bytes of HTTP that a poll takes when nothing is new, counted on a socket of loopback.

The request is the one that the device's own code makes; the answer is a plain 304 as web servers give it. TLS and TCP
are not in it.
"""

from __future__ import annotations

import socket
import sys
import threading
from typing import Final

from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.small_file import NOT_MODIFIED, SmallFiles

ETAG: Final = '"6746e2f3-1a2"'  # as nginx makes it: time and length in hex
ANSWER: Final = (
    "HTTP/1.1 304 Not Modified\r\nServer: nginx\r\nDate: Tue, 01 Dec 2026 08:00:00 GMT\r\n"
    f"Last-Modified: Tue, 01 Dec 2026 07:00:00 GMT\r\nConnection: keep-alive\r\nETag: {ETAG}\r\n\r\n"
).encode()


def counted() -> tuple[int, int]:
    """Bytes of the request, and of the answer."""
    asked = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while not asked.endswith(b"\r\n\r\n"):
                    asked.extend(connection.recv(65_536))
                connection.sendall(ANSWER)

        thread = threading.Thread(target=serve)
        thread.start()
        files = SmallFiles(HttpSettings(schemes=("http",)))
        url = f"http://127.0.0.1:{server.getsockname()[1]}/fleet/metadata/timestamp.json"
        file = files.get(url, 16_384, ETAG, "Tue, 01 Dec 2026 07:00:00 GMT")
        files.close()
        thread.join()
    assert file.status == NOT_MODIFIED
    return len(asked), len(ANSWER)


def main() -> int:
    """Print them."""
    request, answer = counted()
    sys.stdout.write(f"request {request} bytes, answer {answer} bytes, together {request + answer} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
