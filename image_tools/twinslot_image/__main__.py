"""`python -m twinslot_image`."""

import sys

from twinslot_image.cli import main

if __name__ == "__main__":
    sys.exit(main())
