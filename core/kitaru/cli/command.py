"""What every command is: a function from its parameters to an `Answer`, printed as text or JSON.

`Command` adds `-o/--output` to each command, prints the answer, and reports a refusal (Kitaru's or
the system's) on standard error with exit code 1. Commands themselves print nothing and choose no
format.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from kitaru.cli import parameters, signals, style
from kitaru.errors import KitaruError

if TYPE_CHECKING:
    from kitaru.client import KitaruClient

REFUSED = 1
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command says; only the form that is asked for is made.

    `error` is reported after the answer, for a command that can say something all the same;
    `interrupted` exits as Ctrl-C does, for one that still says what it has done.
    """

    json: Callable[[], Mapping[str, Any]]
    text: Callable[[], str]
    error: KitaruError | None = None
    interrupted: bool = False


class Said(NamedTuple):
    """A line of a stream, as text and as a JSON object.

    `code` is what the command exits with where this was its last line. An aside goes to standard
    error.
    """

    text: str
    json: Mapping[str, Any]
    code: int = 0
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """What a command says as it comes.

    `live` takes the place of the lines where somebody looks on at a terminal: it draws there and
    returns the exit code. A command that only looks on gives the list into which signals are
    noted, ends by itself once there is one, and says `interrupted` last where that is JSON.
    """

    lines: Iterator[Said]
    live: Callable[[], int] | None = None
    signals: list[int] | None = None
    interrupted: Mapping[str, Any] | None = None


def listed(items: Sequence[Any], **more: Any) -> dict[str, Any]:
    """The JSON of an answer that is a list."""
    return {"items": [*items], "count": len(items), **more}


def open_client() -> KitaruClient:
    """The client of the store that `kitaru status` names."""
    from kitaru.client import KitaruClient

    client = KitaruClient()
    if style.is_terminal(sys.stderr) and client.is_to_be_upgraded():
        with style.progress("Upgrading the store"):
            client.version()  # opens it
    return client


class Command(click.Command):
    """A command whose function returns an `Answer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["-o", "--output"],
                type=click.Choice(["text", "json"]),
                default="text",
                show_default=True,
                help="How to print the answer.",
            )
        )
        parameters.complete(self.params)

    def invoke(self, ctx: click.Context) -> None:
        """Run the command, print what it answers, and exit with 1 where it is refused."""
        output, command = ctx.params.pop("output"), path_of(ctx)
        try:
            answer: Answer | Stream = super().invoke(ctx)
            if isinstance(answer, Stream):
                ctx.exit(_say(answer, as_json=output == "json"))
            if output == "json":
                say(_document({"command": command, **answer.json()}))
            else:
                say(answer.text())
            if answer.error is not None:
                raise answer.error
            if answer.interrupted:
                ctx.exit(INTERRUPTED)
        except KitaruError as exc:
            report(type(exc).__name__, str(exc), command=command, output=output)
            ctx.exit(REFUSED)
        except BrokenPipeError:
            raise  # whoever read the answer has seen enough
        except OSError as exc:
            # The process's edge: a full disk or a folder that is gone is no fault of Kitaru's.
            message = f"The system refused: {exc}. Check the folder or file, and try again."
            report("KitaruBackendError", message, command=command, output=output)
            _drop_unwritten()
            ctx.exit(REFUSED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def _say(stream: Stream, *, as_json: bool) -> int:
    """Print a stream to its end; return the exit code."""
    if stream.signals is None:
        return _print(stream, as_json=as_json)
    live = stream.live if not as_json and style.is_live() else None
    with signals.noted(stream.signals):
        code = _print(stream, as_json=as_json) if live is None else live()
    if not stream.signals:
        return code
    number = stream.signals[0]
    if number not in (signal.SIGINT, signal.SIGTERM):
        raise BrokenPipeError(errno.EPIPE, "nobody reads standard output")
    if as_json:
        say(json.dumps(stream.interrupted))
    elif live is None:
        say("", err=True)  # what comes next does not stand behind the terminal's ^C
    return 128 + number


def _print(stream: Stream, *, as_json: bool) -> int:
    code = 0
    for said in stream.lines:
        say(json.dumps(said.json) if as_json else said.text, err=said.aside)
        code = said.code
        if stream.signals:
            break
    return code


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


def path_of(ctx: click.Context) -> str:
    """The command as JSON names it: `executions.list`."""
    program, *path = ctx.command_path.split()
    return ".".join(path) or program


def report(error_type: str, message: str, *, command: str, output: str) -> None:
    """Say on standard error what went wrong."""
    from kitaru.render import safe_message

    message = safe_message(message)
    if output == "json":
        error = {"type": error_type, "message": message}
        say(_document({"command": command, "error": error}), err=True)
    else:
        say(f"Error: {message}", err=True)


def say(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Write to standard output, or to standard error; what that cannot show, as its code."""
    # Named: of itself click writes UTF-8 to a terminal that says it has ASCII only.
    click.echo(f"{text}{end}", file=sys.stderr if err else sys.stdout, nl=False)


def _drop_unwritten() -> None:
    """Let go of what standard output does not take, or the interpreter would fail on it again."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _document(data: Mapping[str, Any]) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or ""
    readable = encoding.lower() in ("utf-8", "utf8")
    return json.dumps(data, indent=2, ensure_ascii=not readable, allow_nan=False)
