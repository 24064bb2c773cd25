"""Commands that act: run, input, resume, retry, replay, cancel."""

from __future__ import annotations

import json

import pytest

from kitaru.store import executions, open_store, waits

from .conftest import FLOWS


def test_run_starts_a_flow_and_returns(cli):
    text = cli.good("executions", "run", f"{FLOWS}:pipeline", "--args", '{"topic": "cats"}')
    head, status = text.splitlines()
    assert head.startswith("Started execution: kr-")
    assert status.startswith("  Status: ")
    done = cli.until(head.split()[-1], "completed")
    assert done.result == "draft from notes about cats!"


def test_an_idempotency_key_makes_a_command_act_once(cli):
    once = ("--idempotency-key", "once")
    run = ("executions", "run", f"{FLOWS}:pipeline", "--args", '{"topic": "cats"}', *once)
    started = cli.json(*run).document
    exec_id = started["item"]["exec_id"]
    assert started["repeated"] is False
    cli.until(exec_id, "completed")
    assert cli.good(*run) == f"Already started execution: {exec_id}\n  Status: completed\n"
    assert cli.json(*run).document["repeated"] is True
    for other in (("retry", exec_id), ("replay", exec_id, "--from", "draft")):
        refused = cli.json("executions", *other, *once)
        assert (refused.code, refused.error["type"]) == (1, "KitaruUsageError")
        assert f"a run, which gave execution {exec_id}" in refused.error["message"]


@pytest.mark.parametrize(
    ("target", "args"),
    [
        ("nonsense", "{}"),
        (f"{FLOWS}:nothing", "{}"),
        (f"{FLOWS}:research", "{}"),
        ("no_such_module:flow", "{}"),
        ("no/such/file.py:flow", "{}"),
        (f"{FLOWS}:pipeline", "{}"),
        (f"{FLOWS}:pipeline", '{"topic": "a", "other": 1}'),
        (f"{FLOWS}:pipeline", '{"topic": ["a"]}'),
    ],
)
def test_a_flow_that_cannot_be_run_is_refused_and_leaves_nothing(cli, target, args):
    refused = cli.json("executions", "run", target, "--args", args)
    assert refused.code == 1
    assert refused.error["type"] == "KitaruUsageError"
    assert cli.json("executions", "list").items == []


def test_an_answer_that_nobody_takes_up_says_how_to_continue(cli):
    exec_id = cli.waiting()
    text = cli.good("executions", "input", exec_id, "--value", "true")
    hint = f"Continue it with: kitaru executions resume {exec_id}\n"
    assert text == f"Resolved wait input for execution: {exec_id}\n  Status: waiting\n{hint}"
    assert cli.good("executions", "get", exec_id).endswith(hint)
    text = cli.good("executions", "resume", exec_id[:12])
    assert text.startswith(f"Resumed execution: {exec_id}\n  Status: ")
    assert cli.until(exec_id, "completed").result == "draft from notes about dogs"


def test_an_answer_as_json_says_whether_the_execution_goes_on_by_itself(cli):
    let_go, held = cli.waiting(), cli.waiting("patient")
    result = cli.json("executions", "input", let_go, "--wait", "approve", "--value", "false")
    assert result.document["command"] == "executions.input"
    assert result.document["continues_by_itself"] is False
    assert result.item["status"] == "waiting"
    result = cli.json("executions", "input", held, "--value", "3")
    assert result.document["continues_by_itself"] is True
    assert cli.until(held, "completed").result == 3
    resumed = cli.json("executions", "resume", let_go)
    assert resumed.document["command"] == "executions.resume"
    assert cli.until(let_go, "completed").result == "rejected"


def test_an_answer_that_does_not_fit_leaves_the_wait_open(cli):
    exec_id = cli.waiting()
    refused = cli.json("executions", "input", exec_id, "--value", '"yes"')
    assert refused.code == 1
    assert refused.error["type"] == "KitaruWaitValidationError"
    assert cli.client.executions.get(exec_id).pending_wait is not None


def test_a_second_answer_is_refused(cli):
    exec_id = cli.waiting()
    cli.good("executions", "input", exec_id, "--value", "true")
    for wait in ([], ["--wait", "approve"]):
        refused = cli.json("executions", "input", exec_id, "--value", "false", *wait)
        assert refused.code == 1
        assert refused.error["type"] == "KitaruStateError"
        assert f"kitaru executions resume {exec_id}" in refused.error["message"]


def test_an_unknown_wait_is_refused_with_those_that_are_open(cli):
    exec_id = cli.waiting()
    result = cli("executions", "input", exec_id, "--wait", "other", "--value", "true")
    assert result.code == 1
    assert "Open: approve" in result.err


def test_one_of_several_waits_has_to_be_named(cli):
    exec_id = cli.waiting()
    with open_store(cli.client.home).write() as conn:
        row = executions.find(conn, exec_id)
        waits.ask(conn, row.id, waits.Question(99, "budget", "budget", None, None, {}))
    result = cli("executions", "input", exec_id, "--value", "true")
    assert (result.code, result.out) == (1, "")
    assert "approve, budget" in result.err
    assert "--wait" in result.err
    assert cli("executions", "input", exec_id, "--wait", "budget", "--value", "null").code == 0


def test_an_aborted_wait_cancels(cli):
    exec_id = cli.waiting()
    text = cli.good("executions", "input", exec_id, "--abort")
    assert text == f"Aborted wait for execution: {exec_id}\n  Status: cancelled\n"
    again = cli("executions", "input", exec_id, "--abort")
    assert again.code == 1
    assert "it is cancelled" in again.err


def test_resume_is_refused_before_the_answer_and_after_the_end(cli):
    asking, done = cli.waiting(), cli.completed(topic="a")
    for exec_id in (asking, done):
        refused = cli.json("executions", "resume", exec_id)
        assert refused.code == 1
        assert refused.error["type"] == "KitaruStateError"
    assert f"kitaru executions input {asking}" in cli("executions", "resume", asking).err
    assert cli("executions", "retry", done).code == 1


def test_a_dead_runner_shows_as_stalled_and_resume_goes_on(cli, fifo):
    exec_id = cli.run("blocked", fifo=str(fifo))
    cli.until(exec_id, lambda found: bool(found.checkpoints))
    refused = cli("executions", "resume", exec_id)
    assert refused.code == 1
    assert "alive" in refused.err
    cli.kill_runner(exec_id)
    cli.until(exec_id, lambda found: found.stalled)
    text = cli.good("executions", "get", exec_id)
    assert "  Status: running (stalled)\n" in text
    assert text.endswith(f"\nContinue it with: kitaru executions resume {exec_id}\n")
    assert "   running (stalled)   " in cli.good("executions", "list")
    assert cli.json("executions", "get", exec_id).item["stalled"] is True
    cli.good("executions", "resume", exec_id)
    fifo.write_text("data")
    assert cli.until(exec_id, "completed").result == "draft from data"


def test_retry_runs_a_failed_execution_again(cli, tmp_path):
    path = tmp_path / "input.txt"
    exec_id = cli.run("flaky", path=str(path))
    cli.until(exec_id, "failed")
    path.write_text("there now")
    text = cli.good("executions", "retry", exec_id)
    assert text.startswith(f"Retried execution: {exec_id}\n  Status: ")
    assert cli.until(exec_id, "completed").result == "there now"


def test_replay_takes_inputs_and_overrides(cli):
    exec_id = cli.completed(topic="dogs")
    result = cli.json(
        *("executions", "replay", exec_id, "--from", "draft", "--args", '{"mark": "?"}'),
        *("--overrides", '{"checkpoint.research": "other notes"}'),
    )
    assert result.document["command"] == "executions.replay"
    assert result.item["original_exec_id"] == exec_id
    replayed = cli.until(result.item["exec_id"], "completed")
    assert replayed.result == "draft from other notes?"
    text = cli.good("executions", "replay", exec_id, "--from", "research")
    assert text.startswith("Replayed execution: kr-")
    assert exec_id not in text


@pytest.mark.parametrize(
    ("options", "type_"),
    [
        (["--from", "nothing"], "KitaruStateError"),
        (["--from", "draft", "--overrides", '{"draft": 1}'], "KitaruUsageError"),
        (["--from", "draft", "--overrides", '{"checkpoint.x": 1}'], "KitaruStateError"),
        (["--from", "draft", "--args", '{"other": 1}'], "KitaruUsageError"),
    ],
)
def test_a_replay_that_cannot_be_is_refused(cli, options, type_):
    exec_id = cli.completed(topic="dogs")
    refused = cli.json("executions", "replay", exec_id, *options)
    assert refused.code == 1
    assert refused.error["type"] == type_


def test_a_replay_takes_inputs_that_are_named_like_its_own_arguments(cli):
    exec_id = cli.completed("taken_names")
    replayed = cli(
        "executions", "replay", exec_id, "--from", "draft", "--args", '{"overrides": "a"}'
    )
    assert replayed.code == 0, replayed.err


def test_cancel_is_done_at_once_for_what_waits(cli):
    exec_id = cli.waiting()
    text = cli.good("executions", "cancel", exec_id)
    assert text == f"Cancelled execution: {exec_id}\n  Status: cancelled\n"
    refused = cli.json("executions", "cancel", exec_id)
    assert refused.code == 1
    assert refused.error["type"] == "KitaruStateError"


def test_cancel_of_a_driven_execution_says_that_it_still_runs(cli, fifo):
    exec_id = cli.run("blocked", fifo=str(fifo))
    cli.until(exec_id, lambda found: bool(found.checkpoints))
    text = cli.good("executions", "cancel", exec_id)
    assert text == f"Cancelling execution: {exec_id}\n  Status: running\n"
    fifo.write_text("data")
    cli.until(exec_id, "cancelled")


def test_acting_commands_give_a_summary(cli):
    exec_id = cli.waiting()
    item = cli.json("executions", "cancel", exec_id).item
    assert item == json.loads(json.dumps(cli.json("executions", "list").items[0]))
