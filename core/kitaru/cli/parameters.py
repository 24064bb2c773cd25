"""What parameters of one name are in every command: their help, and how shells complete them.

A parameter that says nothing about itself gets what its name says here. Completing never makes a
store and never fails: where nothing can be found, nothing is suggested.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kitaru.client.suggestions import Suggestion, Suggestions

Suggest = Callable[["Suggestions", "str | None", str], "list[Suggestion]"]


class Suggested(click.types.StringParamType):
    """A text that the store has suggestions for.

    Args:
        suggest: gets the store's suggestions, the execution that stands on the command line if
            one does, and what is typed.
    """

    def __init__(self, suggest: Suggest) -> None:
        self._suggest = suggest

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What the store has that begins like this."""
        from click.shell_completion import CompletionItem

        from kitaru.client import KitaruClient

        # Where an option's value is missing, the parser has left the arguments unread.
        exec_id = ctx.params.get("exec_id") or next(iter(ctx.args), None)
        try:
            found = self._suggest(KitaruClient().suggestions, exec_id, incomplete)
        except Exception:  # whatever it is: a shell in the middle of a line has no place for it
            return []
        return [CompletionItem(_word(each.value), help=each.about or None) for each in found]


#: What a shell does not take as it stands; `#` is only special where a word begins.
_SPECIAL = re.compile(r"[\s|&;()<>$`\\\"'*?\[\]{}!~^]")


def _word(value: str) -> str:
    """A value as it is put on the line: bash, unlike other shells, does not quote it."""
    is_bash = os.environ.get("_KITARU_COMPLETE", "").startswith("bash")
    return shlex.quote(value) if is_bash and _SPECIAL.search(value) else value


class FlowTarget(click.types.StringParamType):
    """A flow's target, of which shells can complete the file."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The shell's own files."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


EXECUTION = Suggested(lambda store, exec_id, typed: store.executions(typed))
FLOW = Suggested(lambda store, exec_id, typed: store.flows(typed))
STACK = Suggested(lambda store, exec_id, typed: store.stacks(typed))
WAIT = Suggested(lambda store, exec_id, typed: store.waits(exec_id, typed))
CHECKPOINT = Suggested(lambda store, exec_id, typed: store.checkpoints(exec_id, typed))
ARTIFACT = Suggested(lambda store, exec_id, typed: store.artifacts(typed))

#: How shells complete the values of parameters with these names, unless they have another type.
TYPES: dict[str, click.types.StringParamType] = {
    "exec_id": EXECUTION,
    "exec_ids": EXECUTION,
    "flow": FLOW,
    "stack": STACK,
    "wait": WAIT,
    "checkpoint": CHECKPOINT,
    "from_": CHECKPOINT,
    "producing_call": CHECKPOINT,
    "artifact_id": ARTIFACT,
    "target": FlowTarget(),
}
#: What arguments with these names are, unless they say it themselves.
ARGUMENTS = {
    "exec_id": "An execution: its id, a unique prefix, latest, latest:STATUS or latest:FLOW.",
    "exec_ids": "Executions: ids, unique prefixes, latest, latest:STATUS or latest:FLOW.",
    "artifact_id": "An artifact's id, as `kitaru artifacts list` shows it.",
    "target": "The flow: module:flow or path/to/file.py:flow.",
    "alias": "A short name for a model.",
    "backend": "jsonl, a file, or otlp, a collector.",
    "name": "Its name.",
    "path": "The file or folder.",
    "shell": "Which shell.",
}


def complete(parameters: Iterable[click.Parameter]) -> None:
    """Give parameters the types and the help that their names have."""
    for each in parameters:
        name = each.name or ""
        if each.type is click.STRING and name in TYPES:
            each.type = TYPES[name]
        if isinstance(each, click.Argument) and not getattr(each, "help", None):
            each.help = ARGUMENTS.get(name)
