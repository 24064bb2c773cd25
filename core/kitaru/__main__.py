"""The process `kitaru`, also as `python -m kitaru`: quiet from its first moment.

Ctrl-C may come while the command is still being loaded, so that happens in here.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Load the command and run the process's own command line; returns the exit code."""
    try:
        from kitaru.cli import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
