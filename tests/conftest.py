"""What every test shares."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["twinslot_lab.plugin"]  # for those who name it, in this project as in others

# The machines are shared and slow at times; a test is wrong for what it finds, not for how long it takes.
settings.register_profile("twinslot", deadline=None)
settings.load_profile("twinslot")
