"""`kitaru artifacts`: the named values an execution recorded."""

from __future__ import annotations

from pathlib import Path

import click

from kitaru.cli import output
from kitaru.cli.command import Answer, Group, listed, open_client


@click.group("artifacts", cls=Group)
def group() -> None:
    """Look at what executions recorded.

    \b
    Example:
      kitaru artifacts list kr-4f1c
    """


@group.command("list")
@click.argument("exec_id", metavar="EXEC_ID")
@click.option("--kind", help="Only of this kind, such as context or response.")
@click.option("--name", help="Only with this name.")
@click.option("--producing-call", help="Only of the calls with this name, or of this call id.")
def list_(
    *, exec_id: str, kind: str | None, name: str | None, producing_call: str | None
) -> Answer:
    """List the artifacts of an execution, in the order of its calls.

    \b
    Example:
      kitaru artifacts list kr-4f1c --kind response
    """
    from kitaru import render
    from kitaru.cli import views

    refs = open_client().artifacts.list(
        exec_id, kind=kind, producing_call=producing_call, name=name
    )
    return Answer(
        json=lambda: listed([render.artifact(ref) for ref in refs]),
        text=lambda: views.artifact_table(refs),
    )


@group.command("get")
@click.argument("artifact_id", metavar="ID")
def get(artifact_id: str) -> Answer:
    """Show one artifact with its value.

    \b
    Example:
      kitaru artifacts get kr-4f1c/draft
    """
    from kitaru import render
    from kitaru.cli import views

    client = open_client()
    shown = render.artifact_value(client, client.artifacts.get(artifact_id))
    return Answer(json=lambda: {"item": shown}, text=lambda: views.artifact(shown))


@group.command("export")
@click.argument("artifact_id", metavar="ID")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def export(artifact_id: str, path: Path, force: bool) -> Answer:
    """Write one artifact's value into a file: text and bytes as they are, the rest as JSON.

    \b
    Example:
      kitaru artifacts export kr-4f1c/draft draft.txt
    """
    exported = open_client().artifacts.export(artifact_id, path, force=force)
    pairs = [
        ("File", exported.path),
        ("Format", exported.format),
        ("Size", output.size(exported.bytes)),
    ]
    return Answer(
        json=lambda: {"item": exported.to_dict()},
        text=lambda: output.fields(f"Exported artifact: {exported.artifact_id}", pairs),
    )
