"""`kitaru stack`: the places where executions run, and which of them is the active one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kitaru import config
from kitaru.cli import output
from kitaru.cli.command import Answer, Group, listed
from kitaru.cli.parameters import STACK

if TYPE_CHECKING:
    from kitaru.models import StackInfo


@click.group("stack", cls=Group)
def group() -> None:
    """Choose where executions run.

    \b
    Example:
      kitaru stack list
    """


@group.command("list")
def list_() -> Answer:
    """List the stacks.

    \b
    Example:
      kitaru stack list
    """
    from kitaru.stacks import list_stacks

    found = list_stacks()
    return Answer(
        json=lambda: listed([stack.to_dict() for stack in found]),
        text=lambda: output.fields("Kitaru stacks", [(each.name, _kind(each)) for each in found]),
    )


@group.command("current")
def current() -> Answer:
    """Show the active stack.

    \b
    Example:
      kitaru stack current
    """
    from kitaru.stacks import current_stack

    return _answer("Active stack", current_stack())


@group.command("create")
@click.argument("name")
@click.option(
    "--type",
    "type_",
    default=config.LOCAL_STACK_TYPE,
    show_default=True,
    help="What it is; local, this machine, is the only type.",
)
def create(name: str, type_: str) -> Answer:
    """Add a stack.

    \b
    Example:
      kitaru stack create nightly
    """
    from kitaru.stacks import create_stack

    return _answer("Created stack", create_stack(name, type=type_))


@group.command("use")
@click.argument("name", type=STACK)
def use(name: str) -> Answer:
    """Make a stack the active one.

    \b
    Example:
      kitaru stack use nightly
    """
    from kitaru.stacks import use_stack

    return _answer("Activated stack", use_stack(name))


@group.command("delete")
@click.argument("name", type=STACK)
def delete(name: str) -> Answer:
    """Remove a stack that is not the active one; executions that ran there stay.

    \b
    Example:
      kitaru stack delete nightly
    """
    from kitaru.stacks import delete_stack

    delete_stack(name)
    return Answer(
        json=lambda: {"item": {"name": name, "deleted": True}},
        text=lambda: output.line(f"Deleted stack: {name}"),
    )


def _answer(did: str, stack: StackInfo) -> Answer:
    return Answer(
        json=lambda: {"item": stack.to_dict()},
        text=lambda: output.fields(f"{did}: {stack.name}", [("Type", _kind(stack))]),
    )


def _kind(stack: StackInfo) -> str:
    return f"{stack.type} (active)" if stack.is_active else stack.type
