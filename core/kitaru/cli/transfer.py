"""`kitaru executions export` and `import`: executions as files, for a report or another machine."""

from __future__ import annotations

from pathlib import Path

import click

from kitaru.cli import output
from kitaru.cli.command import Answer, Command, open_client
from kitaru.cli.upkeep import bar


@click.command("export", cls=Command)
@click.argument("exec_ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--to",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="The file to make.",
)
@click.option("--raw", is_flag=True, help="Keep all values exactly as recorded, secrets too.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def export(*, exec_ids: tuple[str, ...], path: Path, raw: bool, force: bool) -> Answer:
    """Write executions with all they recorded into one file, with secrets masked.

    \b
    Example:
      kitaru executions export latest:failed --to report.kitaru
    """
    with bar("Writing executions") as progress:
        exported = open_client().executions.export(
            exec_ids, path, raw=raw, force=force, progress=progress
        )
    how = "masked where a key looks like one" if exported.redacted else "kept, as all values are"
    pairs = [
        ("File", exported.path),
        ("Executions", ", ".join(exported.exec_ids)),
        ("Size", output.size(exported.bytes)),
        ("Secrets", how),
    ]
    return Answer(
        json=lambda: {"item": exported.to_dict()},
        text=lambda: output.fields("Exported executions", pairs),
    )


@click.command("import", cls=Command)
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE")
def import_(path: Path) -> Answer:
    """Put the executions of a file into the store, as history that nothing goes on from.

    \b
    Example:
      kitaru executions import report.kitaru
    """
    imported = open_client().executions.import_file(path)
    lines = [f"Imported execution: {exec_id}" for exec_id in imported.exec_ids]
    lines += [f"Already there: {exec_id}" for exec_id in imported.already]
    return Answer(
        json=lambda: {"item": imported.to_dict()},
        text=lambda: "\n".join(map(output.line, lines or ["No executions in the file"])),
    )


COMMANDS = (export, import_)
