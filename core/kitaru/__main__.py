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
    except RuntimeError as exc:
        # Before Python 3.12, Ctrl-C comes wrapped up where it came while a class was made.
        if isinstance(exc.__cause__, KeyboardInterrupt):
            return 130
        raise


if __name__ == "__main__":
    sys.exit(main())
