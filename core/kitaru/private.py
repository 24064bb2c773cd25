"""The store's folder is its owner's: made so, and refused where anybody may put files into it.

Whoever can write the folder can replace the store and the flows' targets in it, so what is in one
that all users may write is nobody's word.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kitaru.errors import KitaruBackendError


def make(path: Path) -> None:
    """Make a folder that only its owner can use, and those above it that are missing.

    Raises:
        KitaruBackendError: it is there, and all users may write it.
        OSError: it cannot be made.
    """
    if not path.exists():
        for missing in reversed([each for each in path.parents if not each.exists()]):
            missing.mkdir(mode=0o755, exist_ok=True)
            missing.chmod(missing.stat().st_mode & ~0o022)  # without a umask all could write it
        path.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "geteuid"):  # elsewhere the mode says nothing
        _refuse_open(path)


def _refuse_open(path: Path) -> None:
    if path.stat().st_mode & stat.S_IWOTH:
        raise KitaruBackendError(
            f"Every user of this machine may write the store's folder {path}, and so replace what "
            f"is in it. Make it your own (chmod o-w '{path}'), after you have seen that its files "
            "are, or set KITARU_HOME to another folder."
        )
