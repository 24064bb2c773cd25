"""`python -m kitaru.cli` is the command `kitaru`."""

from __future__ import annotations

import sys

from kitaru.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
