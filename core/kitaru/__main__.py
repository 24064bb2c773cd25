"""The process `kitaru`, also as `python -m kitaru`: quiet from its first moment.

Ctrl-C may come while the command is still being loaded, so that happens in here.
"""

from __future__ import annotations

import gc
import sys

#: New objects between two collections: most commands end before the first.
_COLLECT_AFTER = 20_000


def main() -> int:
    """Load the command and run the process's own command line; returns the exit code."""
    gc.set_threshold(_COLLECT_AFTER)
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
    finally:
        gc.freeze()  # else Python's last act is to look through all that was loaded


if __name__ == "__main__":
    sys.exit(main())
