"""Where a store may be: in a local folder that is its owner's; made so, or refused.

Whoever can write the folder can replace the store and the flows' targets in it, so what is in one
that all users may write is nobody's word.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kitaru import config
from kitaru.errors import KitaruBackendError

_NETWORK_FILE_SYSTEMS = (
    *("nfs", "cifs", "smb", "9p", "afs", "ceph", "gluster", "lustre"),
    *("sshfs", "davfs", "s3fs", "rclone", "gcsfuse"),
)
_MOUNTS = Path("/proc/mounts")


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


def refuse_network(path: Path) -> None:
    """Refuse a folder on a network file system, unless a setting permits it.

    Raises:
        KitaruBackendError: it is on one.
    """
    if config.allow_network_home() or not _MOUNTS.exists():
        return
    best, kind = "", ""
    for line in _MOUNTS.read_text(errors="replace").splitlines():
        fields = line.split()
        point = fields[1].replace("\\040", " ")
        if len(point) >= len(best) and path.is_relative_to(point):
            best, kind = point, fields[2]
    if kind.removeprefix("fuse.").startswith(_NETWORK_FILE_SYSTEMS):
        raise KitaruBackendError(
            f"The store's folder {path} is on a network file system ({kind}), where SQLite's locks "
            "are not safe. Use a local folder, or set KITARU_ALLOW_NETWORK_HOME=1 at your own risk."
        )
