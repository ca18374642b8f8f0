"""`python3 -m twinslot` is `twinslot`."""

from __future__ import annotations

import sys

from twinslot.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
