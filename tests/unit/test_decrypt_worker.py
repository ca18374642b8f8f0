"""What the process that opens units has in its memory before it is asked anything."""

from __future__ import annotations

import subprocess
import sys


def test_the_process_that_opens_units_has_no_code_that_reads_keys_of_recipients_or_parses_an_image() -> None:
    code = "import sys, twinslot.worker.guard, twinslot.worker.decrypt; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(said.stdout.split())
    assert "twinslot.crypto.units" in loaded
    strangers = {"construct", "zstandard", "tuf", "subprocess", "twinslot.crypto.keys", "twinslot.crypto.hpke"}
    strangers |= {"twinslot.core.manifest", "twinslot.image.wire", "twinslot.image.reader", "twinslot.worker.launch"}
    assert strangers & loaded == set()
