"""Messages on a line that others write on too: a serial console, where kernel and boot loader speak between our words.

A message is cut into parts. Each part is one frame, and a frame is one line, all printable but its first byte:

    RS | kind | space | id | space | part | space | parts | space | data | space | CRC-32, 8 hex digits | LF

RS is 0x1E (ASCII "record separator"), which no boot loader and no kernel prints. Whatever stands between frames is
text. A frame that somebody wrote into, that was cut short, or that lost a byte does not fit its CRC and counts as
text, too: it stays readable in the console's log, and is asked for again.

Kinds, with what the guest (g) or the host (h) says by them:

    H  g: this is start <data: JSON>; repeated until it was heard     W  h: who is there? Answer with H
    K  h: H was heard                                                 Q  h: part of request <id>
    A  g: that part of request <id> has come                          R  g: part of the reply to <id>
    B  g: still working on <id>                                       G  h: say that part of the reply to <id> again
    N  g: <id> is not known here (the agent was started anew)

A request has one id however often it is sent, and is done once. This file is copied to the guest: standard library
only, nothing of the lab.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

START = 0x1E
PART = 1024  # bytes of data in a frame: with the rest, well within the 4096 that a terminal's input buffer holds
_LONGEST = PART + 64  # bytes of a whole frame; more than that without an end of line is no frame
_LF = b"\n"


@dataclass(frozen=True, slots=True)
class ConsoleFrame:
    """One part of a message: kind, id, number of the part from 0, how many there are, and its data in ASCII."""

    kind: str
    id: str
    part: int = 0
    parts: int = 1
    data: str = ""

    def encode(self) -> bytes:
        """The line that stands for it, with its first byte and its end."""
        body = f"{self.kind} {self.id} {self.part} {self.parts} {self.data}".encode("ascii")
        return b"%c%s %08x\n" % (START, body, zlib.crc32(body))


def frames_of(kind: str, id_: str, message: str) -> list[ConsoleFrame]:
    """A message (printable ASCII, such as JSON without line ends) as frames; one if it is empty."""
    count = max(1, -(-len(message) // PART))
    return [ConsoleFrame(kind, id_, n, count, message[n * PART : (n + 1) * PART]) for n in range(count)]


def decode(line: bytes) -> ConsoleFrame | None:
    """A line from behind the RS to its end of line; None if it is no frame or was damaged."""
    body, _, check = line.rstrip(b"\r\n").rpartition(b" ")
    if check != b"%08x" % zlib.crc32(body):
        return None
    words = body.decode("ascii", errors="replace").split(" ", 4)
    if len(words) != 5 or not (words[2].isdecimal() and words[3].isdecimal()):
        return None
    part, parts = int(words[2]), int(words[3])
    return ConsoleFrame(words[0], words[1], part, parts, words[4]) if part < parts else None


class Splitter:
    """Takes a line apart as it comes, in pieces of any size: frames, and the text of everybody else."""

    def __init__(self) -> None:
        self._held = b""  # from an RS on, until it is known what it is

    def feed(self, data: bytes) -> Iterator[ConsoleFrame | bytes]:
        """What the bytes so far amount to. An RS is held back until its line ends or cannot be a frame any more."""
        self._held += data
        while self._held:
            text, start, rest = self._held.partition(b"%c" % START)
            if text:
                yield text
            self._held = start + rest
            if not start:
                return
            line, end, after = rest.partition(_LF)
            cut = line.find(START)
            if cut >= 0:  # the first was cut short: by a reset, or because a byte of it was lost
                yield line[:cut]
                self._held = rest[cut:]
            elif end:
                self._held = after
                yield decode(line) or line + end
            elif len(line) > _LONGEST:
                self._held = b""
                yield line
            else:
                return
