"""docs/guide-tokens.md, word for word: its commands are run in this order, with SoftHSM as the module."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from twinslot.core.pkcs11_uri import parse_uri

pytestmark = pytest.mark.slow

pytest.importorskip("pkcs11", reason="the library is an extra of the image tool, and not in Debian's packages")
PAGE = Path(__file__).parents[2] / "docs/guide-tokens.md"
BLOCK = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_guide_works_from_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/store\nobjectstore.backend = file\n")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf")}
    script = "\n".join(text for language, _, text in BLOCK.findall(PAGE.read_text()) if language == "sh")
    done = subprocess.run(["bash", "-eu", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "keys/2.root.json").exists()
    assert not list((tmp_path / "keys/private").glob("root.*")), "no private key of root was ever in a file"


def test_the_uri_that_the_guide_shows_is_one() -> None:
    (shown,) = [text for language, _, text in BLOCK.findall(PAGE.read_text()) if language == "text"]
    assert parse_uri(shown.strip()).label == "clinical"
