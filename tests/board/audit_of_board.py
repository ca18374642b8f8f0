"""What a board signed of itself, taken off it and verified here with nothing but the device's key."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from twinslot_image.cli import main
from twinslot_lab.qemu_board import QemuBoard

NONCE = "5ca1ab1e0ddba11d"


@dataclass(frozen=True)
class TakenOff:
    """An export of the audit, an attestation, and the public part that the office would have from the factory."""

    key: Path
    audit: Path
    attestation: Path

    @classmethod
    def of(cls, board: QemuBoard, folder: Path) -> TakenOff:
        """By the verbs that docs/guide-audit.md names."""
        folder.mkdir()
        board.check("systemctl", "start", "twinslot-device-key.service")
        taken = cls(folder / "pump.pem", folder / "pump.audit", folder / "pump.attestation")
        taken.key.write_text(json.loads(board.check("twinslot", "--json", "device-key", "show"))["public"])
        taken.audit.write_text(board.check("twinslot", "audit", "export"))
        taken.attestation.write_text(board.check("twinslot", "attest", "--nonce", NONCE))
        return taken

    def verified(self) -> dict[str, Any]:
        """What the audit comes to."""
        return self._ask(0, "audit", "verify", str(self.audit))

    def refused(self, key: Path) -> str:
        """Why it is not the audit of the device with another key."""
        return str(self._ask(4, "audit", "verify", str(self.audit), key=key)["code"])

    def said(self) -> dict[str, Any]:
        """What the device says of itself, to our question."""
        return dict(self._ask(0, "verify-attestation", str(self.attestation), "--nonce", NONCE)["said"])

    def explained(self, *more: str) -> dict[str, Any]:
        """Its newest update, replayed from the rows."""
        return self._ask(0, "explain", str(self.audit), "last", *more)

    def rows(self) -> list[dict[str, Any]]:
        """As they stand in the file."""
        lines = map(json.loads, self.audit.read_text().splitlines())
        return [line for line in lines if "event" in line]

    def _ask(self, status: int, *words: str, key: Path | None = None) -> dict[str, Any]:
        with redirect_stdout(StringIO()) as told:
            assert main(["--json", *words, "--key", str(key or self.key)]) == status, told.getvalue()
        answer: dict[str, Any] = json.loads(told.getvalue())
        return answer
