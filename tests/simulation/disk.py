"""A disk with a volatile cache, and an SD card without one."""

from __future__ import annotations

from simulation.power import Power, PowerCut
from twinslot.core.model import SECTOR


class SimulatedDisk:
    """What is written stays volatile until a flush. A cut drops, keeps or tears each unflushed write on its own.

    Implements `storage.base.TargetDevice`.
    """

    def __init__(self, path: str, size: int) -> None:
        self.path, self.size = path, size
        self._durable = bytearray(size)
        self._pending: list[tuple[int, bytes]] = []
        self.power = Power()
        self.opened = False

    # TargetDevice

    def write(self, offset: int, data: bytes | memoryview) -> None:
        assert offset + len(data) <= self.size
        assert offset % SECTOR == 0
        assert len(data) % SECTOR == 0
        off = self.power.call(f"write {self.path} {offset}")
        self._pending.append((offset, bytes(data)))
        if off:
            raise self._cut()

    def zero(self, offset: int, length: int) -> None:
        self.write(offset, bytes(length))

    def flush(self) -> None:
        if self.power.call(f"flush {self.path}"):
            raise self._cut()
        for offset, data in self._pending:
            self._durable[offset : offset + len(data)] = data
        self._pending = []

    def read_direct(self, offset: int, length: int) -> bytes:
        assert offset % SECTOR == 0
        assert length % SECTOR == 0
        if self.power.call(f"read {self.path} {offset}"):
            raise self._cut()
        return self._now()[offset : offset + length]

    def close(self) -> None:
        self.opened = False

    # The world

    def lose_power(self) -> None:
        """Settle what becomes of each unflushed write: kept, dropped, or torn at sectors. Order is not kept either."""
        choose = self.power.random
        for offset, data in choose.sample(self._pending, len(self._pending)):
            fate = choose.choice(("keep", "drop", "tear"))
            for start in range(0, len(data), SECTOR):
                if fate == "keep" or (fate == "tear" and choose.random() < 0.5):
                    self._durable[offset + start : offset + start + SECTOR] = data[start : start + SECTOR]
        self._pending = []
        self.opened = False

    def content(self) -> bytes:
        """What a boot finds."""
        return self._now()

    def fill(self, data: bytes) -> None:
        """At the factory."""
        self._durable[: len(data)] = data

    def _now(self) -> bytes:
        now = bytearray(self._durable)
        for offset, data in self._pending:
            now[offset : offset + len(data)] = data
        return bytes(now)

    def _cut(self) -> PowerCut:
        return PowerCut(self.power.trace[-1])


class SimulatedCard:
    """An SD card: a write is durable once answered; the one in flight is torn after some sector."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.power = Power()

    def read(self, offset: int, length: int) -> bytes:
        """Read; not a storage call of the client's that could lose anything."""
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes, name: str) -> None:
        """Write sector by sector, in order."""
        off = self.power.call(f"card {name}")
        length = self.power.random.randrange(0, len(data) + SECTOR, SECTOR) if off else len(data)
        self.data[offset : offset + length] = data[:length]
        if off:
            raise PowerCut(self.power.trace[-1])
