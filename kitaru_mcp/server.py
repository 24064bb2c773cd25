"""`kitaru-mcp`: its options, and the start of the server.

Options are read before anything heavy is imported, so `--help` and `--version` answer at once.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import kitaru
from kitaru_mcp import process

if TYPE_CHECKING:
    from kitaru_mcp.app import App


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Serve Kitaru's tools over MCP on stdin and stdout; never returns.

    Args:
        argv: the options; the process's own by default.
    """
    process.open_missing_streams()
    process.end_at_once_on_signals()
    parser = _parser()
    options = parser.parse_args(argv)
    from kitaru.errors import KitaruUsageError

    code = 1
    try:
        gc.disable()  # looking through what an import makes would take a fifth of the start
        app = _app(options)
        gc.freeze()
        gc.enable()
        if sys.stdin.isatty():
            print("kitaru-mcp talks to an MCP client on stdin; Ctrl-C ends it.", file=sys.stderr)
        process.run(app.serve)
        code = 0
    except KitaruUsageError as error:
        print(f"kitaru-mcp: error: {error}", file=sys.stderr)
        code = 2
    except BaseException:  # the process's edge: say why on standard error, then end for certain
        import traceback

        traceback.print_exc(file=sys.stderr)
    finally:
        process.leave(code)


def _app(options: argparse.Namespace) -> App:
    from kitaru_mcp.app import App
    from kitaru_mcp.desk import Desk
    from kitaru_mcp.policy import Policy, offered_of, resolve_roots
    from kitaru_mcp.tools import TOOLS

    policy = Policy(read_only=options.read_only, roots=resolve_roots(options.flow_root))
    offered = offered_of(TOOLS, policy, only=options.tools, without=options.exclude_tools)
    return App(Desk(home=options.home, policy=policy, offered=offered), TOOLS)


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
    parser.add_argument("--tools", metavar="A,B", help="offer only these tools")
    parser.add_argument("--exclude-tools", metavar="A,B", help="offer all tools but these")
    parser.add_argument(
        "--flow-root",
        metavar="PATH",
        action="append",
        default=[],
        help="a folder whose flows may be run; repeatable (default: the working directory)",
    )
    return parser


if __name__ == "__main__":
    main()
