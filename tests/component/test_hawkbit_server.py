"""How the real hawkBit of the tests is made: what goes wrong is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import hawkbit_server
import pytest

REFUSES = """#!/bin/sh
echo "[INFO] Scanning for projects..."
echo "[ERROR] Could not transfer artifact com.h2database:h2:jar:1.4.200: Connection refused"
exit 1
"""


def test_a_module_that_cannot_be_fetched_is_named_and_nothing_is_kept(tmp_path: Path) -> None:
    maven = tmp_path / "mvn"
    maven.write_text(REFUSES)
    maven.chmod(0o755)
    with pytest.raises(hawkbit_server.HawkbitError) as found:
        hawkbit_server.prepared(tmp_path / "cache", (str(maven),))
    first, *errors = str(found.value).splitlines()
    assert first == "cannot fetch hawkBit's modules with Maven; is there a network, and does it let Maven through?"
    assert errors == ["[ERROR] Could not transfer artifact com.h2database:h2:jar:1.4.200: Connection refused"]
    assert not list((tmp_path / "cache").glob("hawkbit-*"))


def test_a_machine_without_maven_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(hawkbit_server.HawkbitError, match="cannot fetch hawkBit's modules with Maven"):
        hawkbit_server.prepared(tmp_path / "cache", (str(tmp_path / "mvn"),))
