"""JSON files that several processes and threads write: whoever reads finds one of them whole."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path


def replace(path: Path, data: object) -> None:
    """Write it beside the file under a name of this thread's own, then rename; not flushed to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    new.write_text(json.dumps(data, indent=1) + "\n")
    new.replace(path)
