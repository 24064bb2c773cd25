"""`kitaru executions` for steering: input, run, resume, retry, replay and cancel.

Flows run in runner processes; these commands return once a runner has taken the execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import click

from kitaru.cli.command import Answer, Command, open_client
from kitaru.cli.options import Json, json_object, json_value

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru.models import Execution


@click.command("input", cls=Command)
@click.argument("exec_id", metavar="[ID]", required=False)
@click.option("--wait", help="The wait's name or id; the only one that is open by default.")
@click.option("--value", type=json_value, metavar="JSON", help="The answer, as JSON.")
@click.option("--abort", is_flag=True, help="Close the wait, which cancels the execution.")
@click.option(
    "--interactive",
    is_flag=True,
    help="Show each open question and ask what to do; of all executions without an ID.",
)
def input_(
    *, exec_id: str | None, wait: str | None, value: Json | None, abort: bool, interactive: bool
) -> Answer:
    """Answer the question an execution waits for.

    \b
    Example:
      kitaru executions input kr-4f1c --wait approve --value true
      kitaru executions input --interactive
    """
    if [value is not None, abort, interactive].count(True) != 1:
        raise click.UsageError("Give one of --value JSON, --abort and --interactive.")
    if interactive:
        return _ask(exec_id, wait)
    if exec_id is None:
        raise click.UsageError("Missing argument 'ID'.")
    client = open_client()
    name = _only_wait(client, exec_id) if wait is None else wait
    if value is None:
        return _outcome(
            "Aborted wait for execution", client.executions.abort_wait(exec_id, wait=name)
        )
    found, continues = client.executions.answer(exec_id, wait=name, value=value.value)
    return _outcome("Resolved wait input for execution", found, continues_by_itself=continues)


def _ask(exec_id: str | None, wait: str | None) -> Answer:
    """Let a person decide, at a terminal."""
    from kitaru.cli import interactive

    if exec_id is None and wait is not None:
        raise click.UsageError("--wait needs the ID of its execution.")
    if not interactive.can_ask():
        raise click.UsageError(
            "--interactive asks at a terminal, and standard input is none. Give --value JSON."
        )
    client = open_client()
    if exec_id is None:
        return interactive.go_through(client, client.executions.open_waits(), sweeps=True)
    asked = client.executions.pending_waits(exec_id)
    chosen = [each for each in asked if wait in (None, each.name, each.wait_id)]
    if not chosen:
        _refuse(client, exec_id, wait)
    return interactive.go_through(client, chosen, sweeps=False)


def _only_wait(client: KitaruClient, exec_id: str) -> str:
    from kitaru.errors import KitaruStateError

    waits = client.executions.pending_waits(exec_id)
    if len(waits) == 1:
        return waits[0].name
    if waits:
        names = ", ".join(wait.name for wait in waits)
        found = client.executions.summary(exec_id)
        raise KitaruStateError(
            f"Execution {found.exec_id} has several open waits: {names}. Choose one with --wait."
        )
    _refuse(client, exec_id, None)


def _refuse(client: KitaruClient, exec_id: str, wait: str | None) -> NoReturn:
    """Say why an execution has no such open wait."""
    from kitaru.errors import KitaruNotFoundError, KitaruStateError
    from kitaru.models import move

    found = client.executions.get(exec_id)
    if found.pending_waits:
        names = ", ".join(each.name for each in found.pending_waits)
        raise KitaruNotFoundError(
            f"Execution {found.exec_id} has no open wait {wait!r:.60}. Open: {names}."
        )
    move("input", exec_id=found.exec_id, status=found.status)
    reason = client.executions.obstacle(found.exec_id) or (
        "its answer is already in. If it does not go on by itself, "
        f"`kitaru executions resume {found.exec_id}`."
    )
    raise KitaruStateError(f"Execution {found.exec_id} has no open wait: {reason}")


_key = click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Act only once with this key: given again, it shows what it started.",
)


@click.command("run", cls=Command)
@click.argument("target")
@click.option(
    "--args", type=json_object, metavar="JSON", help="The flow's inputs, as a JSON object."
)
@_key
def run(target: str, args: dict[str, Any] | None, idempotency_key: str | None) -> Answer:
    """Start a flow, named as module:flow or path/to/file.py:flow.

    \b
    Example:
      kitaru executions run agent.py:agent --args '{"topic": "dogs"}'
    """
    found = open_client().executions.run(target, args, idempotency_key=idempotency_key)
    return _begun("Started", found)


@click.command("resume", cls=Command)
@click.argument("exec_id", metavar="ID")
def resume(exec_id: str) -> Answer:
    """Continue an execution that was answered, or whose runner died.

    \b
    Example:
      kitaru executions resume kr-4f1c
    """
    return _outcome("Resumed execution", open_client().executions.resume(exec_id))


@click.command("retry", cls=Command)
@click.argument("exec_id", metavar="ID")
@_key
def retry(exec_id: str, idempotency_key: str | None) -> Answer:
    """Run a failed execution again from where it failed.

    \b
    Example:
      kitaru executions retry kr-4f1c
    """
    found = open_client().executions.retry(exec_id, idempotency_key=idempotency_key)
    return _begun("Retried", found)


@click.command("replay", cls=Command)
@click.argument("exec_id", metavar="ID")
@click.option(
    "--from", "from_", metavar="NAME", required=True, help="The checkpoint to run again from."
)
@click.option(
    "--args", type=json_object, metavar="JSON", help="Flow inputs to replace, as a JSON object."
)
@click.option(
    "--overrides",
    type=json_object,
    metavar="JSON",
    help='Results to replace, as a JSON object {"checkpoint.NAME": value}.',
)
@_key
def replay(
    *,
    exec_id: str,
    from_: str,
    args: dict[str, Any] | None,
    overrides: dict[str, Any] | None,
    idempotency_key: str | None,
) -> Answer:
    """Start a new execution that reuses the record of one up to a checkpoint.

    \b
    Example:
      kitaru executions replay kr-4f1c --from draft --args '{"topic": "cats"}'
    """
    found = open_client().executions.replay_with(
        exec_id,
        from_=from_,
        overrides=overrides,
        flow_inputs=args,
        idempotency_key=idempotency_key,
    )
    return _begun("Replayed", found)


@click.command("cancel", cls=Command)
@click.argument("exec_id", metavar="ID")
def cancel(exec_id: str) -> Answer:
    """Stop an execution: at once, or at its next durable call while it is driven.

    \b
    Example:
      kitaru executions cancel kr-4f1c
    """
    found = open_client().executions.cancel(exec_id)
    # A driven execution still runs, until its driver has seen the request.
    did = "Cancelled execution" if found.status == "cancelled" else "Cancelling execution"
    return _outcome(did, found)


def _begun(did: str, found: Execution) -> Answer:
    said = f"Already {did.lower()}" if found.repeated else did
    return _outcome(f"{said} execution", found, repeated=found.repeated)


def _outcome(did: str, found: Execution, **more: bool) -> Answer:
    from kitaru import render
    from kitaru.cli import views

    continues = more.get("continues_by_itself", True)
    return Answer(
        json=lambda: {"item": render.summary(found), **more},
        text=lambda: views.outcome(did, found, continues=continues),
    )


COMMANDS = (input_, run, resume, retry, replay, cancel)
