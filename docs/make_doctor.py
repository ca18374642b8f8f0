"""Prints docs/doctor.md: `python docs/make_doctor.py > docs/doctor.md`."""

from __future__ import annotations

import sys

from twinslot.queries.doctor import page

if __name__ == "__main__":
    sys.stdout.write(page())
