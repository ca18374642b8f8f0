"""What the hooks of this tree answer to each verb: samples, since a device's hook is as old as the device."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from twinslot.bootloader.env_lines import make_script

HOOKS: Final = Path(__file__).parents[2] / "bootloader_hooks"
CHANGES: Final = {
    "slot": "b",
    "slot_a": "good",
    "slot_b": "trial",
    "upgrade_available": "1",
    "ts_back": "a",
    "note": "a b",
}
VERBS: Final = (
    "describe",
    "get-environment",
    "set-environment",
    "get-environment",
    "get-primary",
    "get-state a",
    "get-state b",
)
REPLAY: Final = """#!/bin/sh
# Answers as a hook did that was recorded.
exec {python} - "$@" <<'END'
import json, sys
for call in json.load(open({calls!r})):
    if call["verb"] == " ".join(sys.argv[1:]) and call["status"] != 3:
        sys.stdout.write(call["stdout"])
        sys.exit(call["status"])
sys.exit(2)
END
"""


def calls_of(hook: str, folder: Path) -> list[dict[str, Any]]:
    """Each verb's answer, in an empty folder: lost at first, then with a slot on trial."""
    calls = []
    for verb in VERBS:
        stdin = make_script(CHANGES).decode() if verb == "set-environment" else ""
        done = subprocess.run(
            [HOOKS / hook / "twinslot-hook", *verb.split()],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"TWINSLOT_HOOK_DIR": str(folder)},
        )
        calls.append({"verb": verb, "stdin": stdin, "status": done.returncode, "stdout": done.stdout})
    return calls


def replayed(calls: Path, folder: Path, python: str) -> Path:
    """A hook that answers as these calls did."""
    hook = folder / "replayed-hook"
    hook.write_text(REPLAY.format(python=python, calls=str(calls)))
    hook.chmod(0o755)
    return hook


def write_calls(folder: Path) -> None:
    """A file for each hook of this tree, into a new folder."""
    folder.mkdir()
    for hook in ("two-files", "grub-once"):
        (store := folder / "store").mkdir()
        calls = calls_of(hook, store)
        (folder / f"{hook}.json").write_text(json.dumps(calls, indent=1) + "\n")
        for path in store.iterdir():
            path.unlink()
        store.rmdir()
