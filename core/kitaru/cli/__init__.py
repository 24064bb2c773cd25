"""The command `kitaru`: parses a command line, asks the client, and prints what it answers.

This module is the process's edge: it runs the command tree and turns what comes out into an exit
code: 0, 1 for a refused action, 2 for a command line that cannot be right, 130 after Ctrl-C.
Standard output carries what a command answers and nothing else; errors go to standard error.
Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import io
import itertools
import os
import sys
from collections.abc import Sequence

import click

from kitaru.cli import (
    artifacts,
    completion,
    cost,
    doctor,
    executions,
    log_store,
    mcp,
    model,
    project,
    secrets,
    stacks,
    upkeep,
    worker,
)
from kitaru.cli.command import INTERRUPTED, Group, path_of, report
from kitaru.version import VERSION

__all__ = ["main"]


@click.group(cls=Group)
@click.version_option(VERSION, prog_name="kitaru", message="%(prog)s %(version)s")
def kitaru() -> None:
    """Watch and steer durable executions.

    \b
    Example:
      kitaru executions list --status waiting
    """


kitaru.add_command(executions.group)
kitaru.add_command(cost.cost)
kitaru.add_command(artifacts.group)
kitaru.add_command(stacks.group)
kitaru.add_command(secrets.group)
kitaru.add_command(model.group)
kitaru.add_command(log_store.group)
kitaru.add_command(worker.worker)
kitaru.add_command(mcp.group)
kitaru.add_command(project.status)
kitaru.add_command(project.info)
kitaru.add_command(project.init)
kitaru.add_command(completion.completion)
kitaru.add_command(upkeep.backup)
kitaru.add_command(doctor.doctor)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        args: the arguments after the program's name; the process's own by default.

    Example:
        >>> from kitaru.cli import main
        >>> main(["--version"])
        kitaru 0.1.0
        0
    """
    given = list(sys.argv[1:] if args is None else args)
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character gets its code, not a crash.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _refuse_undecodable(given)
        code = kitaru.main(given, prog_name="kitaru", standalone_mode=False)
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as exc:
        _report_usage(exc, given)
        return exc.exit_code
    return code if isinstance(code, int) else 0


def _open_closed_streams() -> None:
    """Put nothing in the place of streams the process was started without (`>&-`).

    Else the next file that is opened, such as the store's, would be taken for one of them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _refuse_undecodable(args: list[str]) -> None:
    for number, arg in enumerate(args, 1):
        try:
            arg.encode()
        except UnicodeEncodeError:
            name, assigns, _ = arg.partition("=")  # what is assigned may be a secret
            told = f"{name}=…" if assigns else arg
            raise click.UsageError(f"Argument {number} is not UTF-8 text: {told!a}.") from None


def _report_usage(exc: click.ClickException, args: list[str]) -> None:
    if _wants_json(args):
        context = getattr(exc, "ctx", None)
        command = path_of(context) if context is not None else "kitaru"
        report("KitaruUsageError", exc.format_message(), command=command, output="json")
    else:
        exc.show()


def _wants_json(args: list[str]) -> bool:
    """Whether JSON is asked for on a command line that could not be parsed."""
    return bool({"-ojson", "--output=json"} & {*args}) or any(
        option in ("-o", "--output") and value == "json"
        for option, value in itertools.pairwise(args)
    )
