"""`kitaru-mcp`: its options, and the start of the server.

Options are read before anything heavy is imported, so `--help` and `--version` answer at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import kitaru
from kitaru.errors import KitaruUsageError
from kitaru_mcp import stdio
from kitaru_mcp.policy import Policy, resolve_roots


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Serve Kitaru's tools over MCP on stdin and stdout; never returns.

    Args:
        argv: the options; the process's own by default.
    """
    stdio.end_at_once_on_signals()
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        policy = Policy(read_only=options.read_only, roots=resolve_roots(options.flow_root))
    except KitaruUsageError as error:
        parser.error(str(error))
    _serve(options.home, policy)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kitaru-mcp",
        description="Kitaru's MCP server on stdin and stdout: watch and steer durable executions.",
    )
    parser.add_argument("--version", action="version", version=f"kitaru-mcp {kitaru.__version__}")
    parser.add_argument(
        "--home", metavar="PATH", help="the store's folder (default: as `kitaru status` finds it)"
    )
    parser.add_argument(
        "--read-only", action="store_true", help="offer only tools that change nothing"
    )
    parser.add_argument(
        "--flow-root",
        metavar="PATH",
        action="append",
        default=[],
        help="a folder whose flows may be run; repeatable (default: the working directory)",
    )
    return parser


def _serve(home: str | None, policy: Policy) -> NoReturn:
    from kitaru_mcp.app import KitaruServer
    from kitaru_mcp.registry import Desk
    from kitaru_mcp.tools import TOOLS

    if sys.stdin.isatty():
        print("kitaru-mcp talks to an MCP client on stdin; Ctrl-C ends it.", file=sys.stderr)
    server = KitaruServer(Desk(home=home, policy=policy), TOOLS)
    code = 1
    try:
        stdio.serve(server)
        code = 0
    except BaseException:  # the process's edge: say why on standard error, then end for certain
        import traceback

        traceback.print_exc(file=sys.stderr)
    finally:
        stdio.leave(code)


if __name__ == "__main__":
    main()
