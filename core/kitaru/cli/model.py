"""`kitaru model`: short names for the models of providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kitaru.cli import output
from kitaru.cli.command import Answer, Group, listed

if TYPE_CHECKING:
    from kitaru.model_aliases import ModelAlias


@click.group("model", cls=Group)
def group() -> None:
    """Give models short names.

    \b
    Example:
      kitaru model list
    """


@group.command("register")
@click.argument("alias")
@click.option("--model", required=True, metavar="PROVIDER/NAME", help="The model.")
@click.option("--secret", metavar="NAME", help="The secret that holds its credentials.")
@click.option("--default", is_flag=True, help="Make it the default; the first alias is it anyway.")
def register(*, alias: str, model: str, secret: str | None, default: bool) -> Answer:
    """Keep an alias, in the place of an earlier one of this name.

    \b
    Example:
      kitaru model register fast --model openai/gpt-5-nano --secret openai
    """
    from kitaru.model_aliases import register_model

    return _answer(
        "Saved model alias", register_model(alias, model=model, secret=secret, default=default)
    )


@group.command("list")
def list_() -> Answer:
    """List the aliases, and which one is the default.

    \b
    Example:
      kitaru model list
    """
    from kitaru.model_aliases import list_models

    found = list_models()
    pairs = [(each.alias, each.model + (" [default]" if each.is_default else "")) for each in found]
    return Answer(
        json=lambda: listed([each.to_dict() for each in found]),
        text=lambda: output.fields("Kitaru models", pairs or [("models", "none found")]),
    )


@group.command("default")
@click.argument("alias")
def default(alias: str) -> Answer:
    """Make an alias the default.

    \b
    Example:
      kitaru model default fast
    """
    from kitaru.model_aliases import use_model

    return _answer("Default model alias", use_model(alias))


@group.command("delete")
@click.argument("alias")
def delete(alias: str) -> Answer:
    """Forget an alias.

    \b
    Example:
      kitaru model delete fast
    """
    from kitaru.model_aliases import delete_model

    delete_model(alias)
    return Answer(
        json=lambda: {"item": {"alias": alias, "deleted": True}},
        text=lambda: output.line(f"Deleted model alias: {alias}"),
    )


def _answer(did: str, found: ModelAlias) -> Answer:
    facts = [f"Model: {found.model}"]
    if found.secret is not None:
        facts.append(f"Secret: {found.secret}")
    if found.is_default:
        facts.append("Default alias")
    return Answer(
        json=lambda: {"item": found.to_dict()},
        text=lambda: "\n".join(
            [output.line(f"{did}: {found.alias}"), f"  {output.line(' | '.join(facts))}"]
        ),
    )
