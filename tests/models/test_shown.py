"""Tokens and money wherever an execution or a call is shown."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import kitaru
from examples.model_server import ModelServer, Reply, Request
from kitaru import KitaruClient, clock, config, pictures, render
from kitaru.cli.tree import View
from kitaru.client.watching import Progress
from kitaru.models import Execution
from kitaru.timeline import Usage, rows
from kitaru_mcp import views
from tests import support
from tests.cli.conftest import Cli

_gate = threading.Event()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], home: Path) -> Cli:
    return Cli(capsys, home)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(config, "LOOK_SECONDS", 0.02)
    _gate.clear()
    yield
    _gate.set()


def spend(cost: float | None, *, tokens: int = 36) -> None:
    kitaru.record_llm_usage(
        provider="mine", model="small", input_tokens=tokens, actual_cost_usd=cost
    )


@kitaru.checkpoint
def ask(*costs: float | None) -> str:
    for cost in costs:
        spend(cost)
    return "yes"


@kitaru.checkpoint
def patient() -> None:
    spend(0.25)
    assert _gate.wait(60)


@kitaru.checkpoint
def large() -> None:
    spend(125.0, tokens=1_234_567)
    spend(None)


@kitaru.checkpoint(retries=1, retry_delay=0.001)
def unlucky() -> None:
    spend(0.5)
    if kitaru.current_checkpoint().attempt == 1:
        raise ValueError("no")


@kitaru.checkpoint
def plain() -> None: ...


@kitaru.flow
def asking(*costs: Any) -> str:
    plain()
    return ask(*costs)


@kitaru.flow
def twice() -> str:
    unlucky()
    return ask(None)


@kitaru.flow
def holding() -> None:
    patient()


def found(exec_id: str) -> Execution:
    return KitaruClient().executions.get(exec_id)


def ran(flow: Any = asking, *costs: float | None) -> str:
    handle = flow.run(*costs)
    handle.wait()
    return str(handle.exec_id)


def lines(cli: Cli, command: str, exec_id: str) -> dict[str, str]:
    """What is told of each call, by its name."""
    told = cli.good("executions", command, exec_id).splitlines()
    return {line.split()[0 if command == "timeline" else 1].rstrip(":"): line for line in told}


def usage_line(cli: Cli, exec_id: str) -> str:
    (line,) = [
        each for each in cli.good("executions", "get", exec_id).splitlines() if "LLM usage" in each
    ]
    return line.partition(": ")[2]


# --- one execution --------------------------------------------------------------------------------


def test_get_has_one_line_of_it_also_while_the_execution_runs(cli: Cli):
    assert usage_line(cli, ran()) == "none"
    assert usage_line(cli, ran(asking, 0.25, 0.5)) == (
        "2 usage records (2 incurred, 0 reused), 72 tokens, display cost $0.7500 "
        "(actual $0.7500, estimated $0.000000)"
    )
    running = holding.run()
    support.until(lambda: found(running.exec_id).llm_usage_summary, "it has asked")
    assert usage_line(cli, running.exec_id).startswith("1 usage record (1 incurred, 0 reused), 36")
    (row,) = [each for each in cli.json("executions", "list").items if each["status"] == "running"]
    assert row["llm_usage_summary"]["total_tokens"] == 36
    _gate.set()
    running.wait()


def test_json_has_the_records_of_the_execution_of_calls_and_of_attempts(cli: Cli):
    item = cli.json("executions", "get", ran(twice)).item
    first, second = item["checkpoints"]
    by_attempt = [each["llm_usage_records"] for each in first["attempts"]]
    assert [len(each) for each in by_attempt] == [1, 1]
    assert first["llm_usage_records"] == [record for each in by_attempt for record in each]
    assert item["llm_usage_records"] == first["llm_usage_records"] + second["llm_usage_records"]
    assert item["llm_usage_summary"]["usage_record_count"] == 3
    assert item["metadata"]["kitaru_llm_total_tokens_v1"] == 108


def test_a_summary_that_is_damaged_is_made_again(unchecked_home: Path):
    exec_id = ran(asking, 0.25)
    whole = found(exec_id).llm_usage_summary
    path = "$.llm_usage_summary_v1.total_tokens"
    support.query(
        unchecked_home, "UPDATE executions SET metadata = json_set(metadata, ?, 'many')", path
    )
    assert found(exec_id).llm_usage_summary == whole


# --- its calls ------------------------------------------------------------------------------------


def test_each_call_has_its_tokens_and_its_cost_where_it_has_any(cli: Cli):
    exec_id = ran(asking, 0.25, 0.5)
    for command in ("watch", "timeline"):
        told = lines(cli, command, exec_id)
        assert told["ask"].endswith(", 72 tokens $0.7500")
        assert "tokens" not in told["plain"]


def test_a_cost_that_is_not_known_is_no_zero(cli: Cli):
    nothing, some = ran(asking, None), ran(asking, None, 0.25)
    for command in ("watch", "timeline"):
        assert lines(cli, command, nothing)["ask"].endswith(", 36 tokens")
        assert lines(cli, command, some)["ask"].endswith(", 72 tokens $0.2500+")
    (event,) = [
        json.loads(line)
        for line in cli.json("executions", "watch", nothing).out.splitlines()
        if '"call_id": "ask"' in line
    ]
    assert event["item"]["usage"] == {
        "usage_record_count": 1,
        "reused_usage_record_count": 0,
        "total_tokens": 36,
        "reused_total_tokens": 0,
        "display_cost_usd": None,
        "records_without_cost_count": 1,
    }


def test_each_attempt_has_its_own(cli: Cli):
    exec_id = ran(twice)
    told = lines(cli, "timeline", exec_id)
    assert told["unlucky@1"].endswith(", 36 tokens $0.5000")
    assert told["unlucky@2"].endswith(", 36 tokens $0.5000")
    assert lines(cli, "watch", exec_id)["unlucky"].endswith(", attempt 2, 72 tokens $1.00")
    spans = cli.json("executions", "timeline", exec_id).item["spans"]
    assert [span["usage"]["total_tokens"] for span in spans] == [36, 36, 36]


def test_what_was_reused_is_said_and_costs_nothing(cli: Cli):
    again = asking.replay(ran(asking, 0.25), from_="ask", overrides={"checkpoint.plain": None})
    again.wait()
    assert lines(cli, "watch", again.exec_id)["ask"].endswith(", 36 tokens $0.2500")

    @kitaru.flow
    def ending() -> None:
        ask(0.25)
        plain()

    first = ending.run()
    first.wait()
    replayed = ending.replay(first.exec_id, from_="plain")
    replayed.wait()
    assert lines(cli, "watch", replayed.exec_id)["ask"].endswith("reused, 36 tokens reused")
    assert overview(replayed.exec_id)["llm_usage"] == {
        "total_tokens": 36,
        "reused_total_tokens": 36,
        "display_cost_usd": 0.0,
    }
    shown = cli.good("executions", "timeline", replayed.exec_id)
    assert "  Models: 36 tokens reused." in shown
    assert "$" not in shown


def test_what_a_provider_has_refused_is_not_counted(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    def answer(request: Request) -> Reply:
        if request.number:
            return Reply("yes", input_tokens=11, output_tokens=7, cost=0.25)
        return Reply(status=429)

    talk = kitaru.flow(lambda: kitaru.llm("One", model="openrouter/any/model"), name="talk")
    with ModelServer(answer) as server, clock.use(support.QuickClock()):
        for name, value in server.settings().items():
            monkeypatch.setenv(name, value)
        exec_id = ran(talk)
    spans = cli.json("executions", "timeline", exec_id).item["spans"]
    assert [span["usage"] and span["usage"]["total_tokens"] for span in spans] == [None, 18]
    assert lines(cli, "watch", exec_id)["llm"].endswith(", 18 tokens $0.2500")
    assert render.used(found(exec_id).llm_usage_summary) == {
        "total_tokens": 18,
        "display_cost_usd": 0.25,
        "failed_usage_record_count": 1,
    }


def drawn(progress: Progress) -> str:
    screen = Console(file=io.StringIO(), width=100, height=40)
    view = View(screen)
    view.see(progress)
    with screen.capture() as capture:
        screen.print(view.draw())
    return capture.get()


@pytest.mark.usefixtures("home")
def test_a_tree_has_them_beside_the_execution_and_its_calls():
    (progress,) = KitaruClient().executions.watch(ran(asking, 0.25, None))
    head, plain_line, ask_line = drawn(progress).splitlines()
    assert head.rstrip().endswith("  72 tokens $0.2500+")
    assert ask_line.rstrip().endswith("  72 tokens $0.2500+")
    assert "tokens" not in plain_line


@pytest.mark.usefixtures("home")
def test_a_picture_has_room_for_them():
    timeline = KitaruClient().executions.timeline(ran(asking, 0.25))
    text = pictures.svg(timeline)
    assert ", 36 tokens $0.2500</text>" in text
    assert "Models: 36 tokens $0.2500." in text
    folded, _ = rows(replace(timeline, spans=timeline.spans * 200))
    assert [row.usage.told for row in folded if row.usage] == ["7,200 tokens $50.00"]


# --- for assistants -------------------------------------------------------------------------------


def overview(exec_id: str) -> dict[str, Any]:
    client = KitaruClient()
    return views.overview(client.executions.get(exec_id), offered=(), home=client.home)


@kitaru.flow
def noting(**metadata: Any) -> None:
    kitaru.log(**metadata)
    ask(0.25, None)


@pytest.mark.usefixtures("home")
def test_an_overview_tells_them_and_leaves_the_flat_numbers_out():
    handle = noting.run(tier="gold", total_tokens=7, api_key="sk-12345678")
    handle.wait()
    shown = overview(handle.exec_id)
    assert shown["llm_usage"] == {
        "total_tokens": 72,
        "display_cost_usd": 0.25,
        "records_without_cost_count": 1,
    }
    assert shown["checkpoints"]["last"][0]["llm_usage"] == shown["llm_usage"]
    assert shown["metadata"] == {"tier": "gold", "total_tokens": 7, "api_key": "[redacted]"}
    whole = render.full(found(handle.exec_id), repeats=False)
    assert whole["metadata"]["kitaru_llm_total_tokens_v1"] == 72
    assert whole["llm_usage_summary"]["total_tokens"] == 72
    assert "[redacted]" not in json.dumps(whole["llm_usage_records"])
    assert json.dumps(whole).count('"latency_ms"') == 4  # with the call, and with the whole


@pytest.mark.usefixtures("home")
def test_an_overview_of_what_runs_tells_what_it_has_used_so_far():
    running = holding.run()
    support.until(lambda: found(running.exec_id).llm_usage_summary, "it has asked")
    assert overview(running.exec_id)["llm_usage"] == {
        "total_tokens": 36,
        "display_cost_usd": 0.25,
    }
    progress = next(KitaruClient().executions.watch(running.exec_id))
    assert [each.usage and each.usage.told for each in progress.calls] == ["36 tokens $0.2500"]
    assert overview(ran())["checkpoints"]["last"][0].keys() == {"call_id", "status", "took"}
    _gate.set()
    running.wait()


def row(exec_id: str) -> dict[str, Any]:
    shown = views.row(found(exec_id))
    size = len(json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode())
    assert size <= views.ROW_BYTES
    return shown


@pytest.mark.usefixtures("home")
def test_a_row_of_a_list_has_them_within_its_bytes():
    assert row(ran(asking, 0.25))["used"] == "36 tokens $0.2500"
    assert "used" not in row(ran())

    @kitaru.flow(name="a-flow-" + "é" * 60)
    def long() -> None:
        large()

    shown = row(ran(long))
    assert shown["used"] == "1,234,603 tokens $125.00+"
    assert shown["flow"].startswith("a-flow-")
    assert shown["flow"].endswith("…")


@pytest.mark.usefixtures("home")
def test_in_a_row_what_went_wrong_comes_before_what_was_used():
    @kitaru.flow
    def failing() -> None:
        ask(0.25)
        raise ValueError("there is no such file anywhere")

    handle = failing.run()
    with pytest.raises(kitaru.KitaruError):
        handle.wait()
    assert row(handle.exec_id)["note"].startswith("ValueError: ")


def test_nothing_that_counts_has_no_usage():
    assert Usage.of(None) is None
    assert Usage.of({"usage_record_count": 0}) is None
    assert render.used(None) == {}


@pytest.mark.usefixtures("home")
def test_a_name_that_cannot_be_shown_is_refused_with_what_would_do():
    @kitaru.flow
    def odd() -> None:
        odd_model()

    @kitaru.checkpoint
    def odd_model() -> None:
        kitaru.record_llm_usage(provider="mine", model="x\x1b[2J", input_tokens=1)

    with pytest.raises(kitaru.KitaruError, match="printable characters, and no outer spaces"):
        odd.run().wait()
