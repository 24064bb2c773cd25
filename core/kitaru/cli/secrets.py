"""`kitaru secrets`: named groups of values that are kept out of the database.

No value is in an answer unless `--reveal` asks for it, and none is ever in an error: `set` reads
its own options, so that nothing but the names of keys can be quoted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import output, style
from kitaru.cli.command import Answer, Command, Group, listed

if TYPE_CHECKING:
    from kitaru.secrets import SecretSummary

_PAIR = re.compile(r"--(?P<key>[^=\s]+)(?P<value>=.*)?", re.DOTALL)
_OWN = ("--output", "--replace", "--help")
_STDIN = "-"


@click.group("secrets", cls=Group)
def group() -> None:
    """Keep API keys and passwords out of flows and out of the database.

    \b
    Example:
      kitaru secrets set openai --API_KEY
    """


class _SetCommand(Command):
    """A command that takes `--KEY=VALUE` for any KEY, and quotes no value in its errors."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the pairs out, and let click read the rest."""
        pairs: dict[str, str | None] = {}
        rest = super().parse_args(ctx, [*_without_pairs(ctx, args, pairs)])
        ctx.params["pairs"] = pairs
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """What the first line of the help says."""
        return [*super().collect_usage_pieces(ctx), "--KEY[=VALUE]..."]


def _without_pairs(
    ctx: click.Context, args: list[str], pairs: dict[str, str | None]
) -> Iterator[str]:
    """The arguments that are no pairs; a pair without a value has `None`."""
    names, before = 0, ""
    for number, arg in enumerate(args, 1):
        pair = _PAIR.fullmatch(arg)
        is_format = before in ("-o", "--output") and arg in ("text", "json")
        before = arg
        if is_format or arg.startswith("-o") or arg.partition("=")[0] in _OWN:
            yield arg
        elif pair is not None:
            if pair["key"] in pairs:
                raise click.UsageError(f"--{pair['key']} is given twice.", ctx)
            pairs[pair["key"]] = pair["value"] and pair["value"][1:]
        elif arg.startswith("-") or names:
            raise click.UsageError(
                f"Argument {number} is neither the secret's name nor --KEY=VALUE. A value stands "
                "behind its key and '=', without spaces between.",
                ctx,
            )
        else:
            names += 1
            yield arg


@group.command("set", cls=_SetCommand)
@click.argument("name")
@click.option("--replace", is_flag=True, help="Forget the keys that are not given.")
def set_(*, name: str, replace: bool, pairs: dict[str, str | None]) -> Answer:
    """Keep values under the keys of a secret.

    --KEY alone asks for the value, which is not shown as it is typed; --KEY=- reads it from
    standard input. Neither leaves it in the history of your shell, as --KEY=VALUE does.

    \b
    Example:
      kitaru secrets set openai --API_KEY
    """
    from kitaru import secrets

    _refuse_unreadable(pairs)
    values = {key: _value(key, given) for key, given in pairs.items()}
    kept = secrets.set_secret(name, values, replace=replace)
    short = secrets.unmasked(values)

    def text() -> str:
        pairs = [("Keys", ", ".join(kept.keys)), ("Kept in", _place(kept))]
        if short:
            pairs.append(("Too short to be masked in text", ", ".join(short)))
        return output.fields(f"Saved secret: {kept.name}", pairs)

    return Answer(json=lambda: {"item": _item(kept) | {"unmasked_keys": short}}, text=text)


@group.command("show")
@click.argument("name")
@click.option("--reveal", is_flag=True, help="Show the values themselves.")
def show(*, name: str, reveal: bool) -> Answer:
    """Show the keys of a secret, how long their values are, and where they are kept.

    \b
    Example:
      kitaru secrets show openai
    """
    from kitaru.secrets import get_secret, list_secrets

    values = get_secret(name).values
    (kept,) = (each for each in list_secrets() if each.name == name)
    lengths = {key: len(values[key]) for key in kept.keys}

    def json() -> dict[str, Any]:
        more = {"values": {key: values[key] for key in kept.keys}} if reveal else {}
        return {"item": _item(kept) | {"lengths": lengths} | more}

    def text() -> str:
        head = output.fields("Kitaru secret", [("Name", kept.name), ("Kept in", _place(kept))])
        lines = (
            f"  {key}: {_visible(values[key]) if reveal else _length(lengths[key])}"
            for key in kept.keys
        )
        return "\n".join([head, *lines])

    return Answer(json=json, text=text)


@group.command("list")
def list_() -> Answer:
    """List the secrets and their keys.

    \b
    Example:
      kitaru secrets list
    """
    from kitaru.secrets import list_secrets

    found = list_secrets()
    return Answer(
        json=lambda: listed([_item(each) for each in found]),
        text=lambda: output.table(
            "Kitaru secrets",
            ("Name", "Keys", "Kept in"),
            [(each.name, ", ".join(each.keys), _place(each)) for each in found],
            none="secrets",
        ),
    )


@group.command("delete")
@click.argument("name")
def delete(name: str) -> Answer:
    """Forget a secret.

    \b
    Example:
      kitaru secrets delete openai
    """
    from kitaru.secrets import delete_secret

    gone = delete_secret(name)
    return Answer(
        json=lambda: {"item": {"name": gone.name, "deleted": True}},
        text=lambda: output.line(f"Deleted secret: {gone.name}"),
    )


def _refuse_unreadable(pairs: dict[str, str | None]) -> None:
    if not pairs:
        raise click.UsageError("Give at least one --KEY, --KEY=- or --KEY=VALUE.")
    if [*pairs.values()].count(_STDIN) > 1:
        raise click.UsageError("Standard input holds one value; give --KEY=- once.")
    asked = next((key for key, value in pairs.items() if value is None), None)
    if asked is not None and not style.is_terminal(sys.stdin):
        raise click.UsageError(
            f"--{asked} asks for its value on a terminal, and there is none. Give --{asked}=- and "
            "the value on standard input."
        )


def _value(key: str, given: str | None) -> str:
    if given is None:
        import getpass

        return getpass.getpass(f"{key}: ")
    if given != _STDIN:
        return given
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:  # its own text would quote what was read
        raise click.UsageError(f"--{key}: standard input is not UTF-8 text.") from None
    return text.removesuffix("\n").removesuffix("\r")


def _item(kept: SecretSummary) -> dict[str, Any]:
    return kept.to_dict() | {"location": _place(kept)}


def _place(kept: SecretSummary) -> str:
    from kitaru import config
    from kitaru.secrets import kept_at

    return kept_at(config.find_home(), kept.kept_in)


def _length(characters: int) -> str:
    return f"{characters} character{'s' if characters > 1 else ''}"


def _visible(value: str) -> str:
    """A value on one line, with what hides itself escaped, but not masked."""
    from kitaru.redaction import escaped

    return escaped(value).replace("\n", "\\n").replace("\t", "\\t")
