"""`kitaru executions delete` and `prune`, and `kitaru backup`: what keeps a store small and safe.

What takes long shows a bar on a terminal's standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kitaru.cli import output, style
from kitaru.cli.command import Answer, Command, open_client
from kitaru.cli.options import point_in_time
from kitaru.models import ExecutionStatus

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru.upkeep import Compacted, Deleted, Pruned

#: How many of those that stay are told in text.
_TOLD = 10


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told how much is done, and of how much."""
    with ExitStack() as opened:
        advance: Callable[[int], None] | None = None
        shown = 0

        def tell(done: int, total: int) -> None:
            nonlocal advance, shown
            if advance is None:
                advance = opened.enter_context(style.progress(what, total))
            advance(done - shown)
            shown = done

        yield tell


@click.command("delete", cls=Command)
@click.argument("exec_ids", metavar="ID...", nargs=-1, required=True)
def delete(exec_ids: tuple[str, ...]) -> Answer:
    """Delete finished executions with all they recorded: all of these, or none.

    \b
    Example:
      kitaru executions delete kr-4f1c
    """
    deleted = open_client().executions.delete(*exec_ids)
    return Answer(json=lambda: {"item": deleted.to_dict()}, text=lambda: _deleted(deleted))


@click.command("prune", cls=Command)
@click.option(
    "--older-than",
    type=point_in_time,
    metavar="TIME",
    help="Only those that ended so long ago (12h, 30d), or before this ISO 8601 time.",
)
@click.option("--flow", help="Only of the flow with this name or id.")
@click.option(
    "--status",
    type=click.Choice([each for each in ExecutionStatus if each.is_finished], case_sensitive=False),
    help="Only in this status.",
)
@click.option("--keep-failed", is_flag=True, help="Leave failed ones, which could be retried.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; say what would go.")
@click.option(
    "--vacuum",
    is_flag=True,
    help="Then make the file smaller: nobody else can write to the store meanwhile.",
)
def prune(
    *,
    older_than: datetime | None,
    flow: str | None,
    status: str | None,
    keep_failed: bool,
    dry_run: bool,
    vacuum: bool,
) -> Answer:
    """Delete old finished executions with all they recorded, beside whatever runs.

    \b
    Example:
      kitaru executions prune --older-than 30d --keep-failed --dry-run
    """
    if older_than is None and flow is None and status is None:
        raise click.UsageError("Say which executions: --older-than, --flow or --status.")
    if vacuum and dry_run:
        raise click.UsageError("--dry-run changes nothing: leave out --vacuum.")
    client = open_client()
    with bar("Deleting executions") as progress:
        pruned = client.executions.prune(
            older_than,
            flow=flow,
            status=status,
            keep_failed=keep_failed,
            dry_run=dry_run,
            progress=progress,
        )
    compacted = _compacted(client) if vacuum else None
    more = {} if compacted is None else {"compacted": compacted.to_dict()}
    return Answer(
        json=lambda: {"item": pruned.to_dict() | more}, text=lambda: _pruned(pruned, compacted)
    )


def _compacted(client: KitaruClient) -> Compacted:
    if style.is_terminal(sys.stderr):
        seconds = client.store.seconds_to_compact()
        click.echo(f"Compacting the store: whoever writes waits about {seconds} s.", err=True)
    return client.store.compact()


@click.command("backup", cls=Command)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def backup(path: Path, force: bool) -> Answer:
    """Copy the whole store into one file, while flows run, and check the copy.

    \b
    Example:
      kitaru backup kitaru-backup.db
    """
    with bar("Copying pages") as progress:
        made = open_client().store.backup(path, force=force, progress=progress)
    pairs = [
        ("File", made.path),
        ("Size", output.size(made.bytes)),
        ("Executions", made.executions),
    ]
    return Answer(
        json=lambda: {"item": made.to_dict()},
        text=lambda: output.fields("Backed up the store", pairs),
    )


def _deleted(deleted: Deleted) -> str:
    lines = [f"Deleted execution: {exec_id}" for exec_id in deleted.exec_ids]
    lines.append(f"  Size: {output.size(deleted.bytes)}")
    if deleted.children:
        lines.append(f"  Children that stay: {', '.join(deleted.children)}")
    return "\n".join(map(output.line, lines))


def _pruned(pruned: Pruned, compacted: Compacted | None) -> str:
    did = "Would delete" if pruned.dry_run else "Deleted"
    noun = "execution" if pruned.count == 1 else "executions"
    lines = [f"{did} {pruned.count} {noun}", f"  Size: {output.size(pruned.bytes)}"]
    lines += [f"  Kept {exec_id}: {why}" for exec_id, why in [*pruned.kept.items()][:_TOLD]]
    if len(pruned.kept) > _TOLD:
        lines.append(f"  Kept {len(pruned.kept) - _TOLD} more; -o json names them all")
    if compacted is not None:
        sizes = f"{output.size(compacted.bytes_before)} to {output.size(compacted.bytes)}"
        lines.append(f"  Compacted from {sizes}; others waited {compacted.seconds:.1f} s")
    return "\n".join(map(output.line, lines))


COMMANDS = (delete, prune)
