"""Usage records: how counts of providers are read, what is added up, and `record_llm_usage`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest

import kitaru
from examples.model_server import Reply
from kitaru import KitaruClient, prices, retry, usage, usage_summary
from kitaru.usage import Cost, Interaction, Tokens
from tests.models.conftest import Models
from tests.support import query

SAY: Any = [{"role": "user", "content": "x"}]


def record(**changed: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "adapter": "kitaru.llm",
        "surface": "direct_llm",
        "call_name": "llm",
        "provider": "openai",
        "model": "gpt",
        "requested_model": None,
        "resolved_model": "openai/gpt",
        "tokens": Tokens(input=11, output=7, total=18),
    }
    return Interaction(**{**fields, **changed}).record("r", call_id="llm", call_name="llm")


def recorded(*responses: Any, **options: Any) -> kitaru.Execution:
    """The execution of a checkpoint that has counted these."""

    @kitaru.checkpoint
    def ask() -> None:
        for response in responses or (None,):
            kitaru.record_llm_usage(response, **options)

    handle = kitaru.flow(name="asking")(lambda: ask()).run()
    with contextlib.suppress(Exception):
        handle.wait()
    return KitaruClient().executions.get(handle.exec_id)


def used(execution: kitaru.Execution) -> dict[str, Any]:
    assert execution.failure is None, execution.failure
    return execution.checkpoints[0].llm_usage_records[0]["usage"]


# --- counts of providers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (
            {
                "prompt_tokens": 11,
                "completion_tokens": 7,
                "total_tokens": 18,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": None},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            (11, 7, 18, 4, 3),
        ),
        (
            {
                "input_tokens": 11,
                "output_tokens": 7,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 3},
            },
            (11, 7, 18, 4, 3),
        ),
        (
            {
                "input_tokens": 5,
                "output_tokens": 7,
                "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 2,
                "output_tokens_details": {"thinking_tokens": 3},
                "service_tier": "standard",
            },
            (11, 7, 18, 4, 3),
        ),
        ({"input_tokens": 5}, (5, None, 5, None, None)),
        ({}, (None, None, None, None, None)),
        ({"prompt_tokens": True, "completion_tokens": "7"}, (None, None, None, None, None)),
    ],
    ids=["chat", "responses", "anthropic", "half", "none", "nonsense"],
)
def test_counts_of_each_provider_are_read_alike(counts: dict[str, Any], expected: Any):
    found = Tokens.of(counts)
    assert (found.input, found.output, found.total, found.cached, found.reasoning) == expected


def test_only_numbers_of_a_providers_counts_are_kept():
    found = Tokens.of({"prompt_tokens": 1, "tier": "secret", "details": {"a": 2.5, "b": "text"}})
    assert found.raw == {"prompt_tokens": 1, "details": {"a": 2.5}}


# --- costs ----------------------------------------------------------------------------------------


def test_a_cost_that_is_reported_counts_before_an_estimate():
    assert Cost(actual=0.5, estimated=0.2).display == 0.5
    assert Cost(estimated=0.2).display == 0.2
    assert Cost().display is None


def test_an_estimate_names_who_has_made_it():
    found, warning = prices.cost("openai", "gpt-5-nano", Tokens(input=1000, output=100))
    assert (found.source, found.source_label, warning) == ("calculator", "genai-prices", None)
    assert found.pricing_version
    assert found.estimated == pytest.approx(1000 * 0.05e-6 + 100 * 0.4e-6)


def test_a_model_without_a_price_has_none_and_says_so():
    found, warning = prices.cost("openai", "no-such-model-at-all", Tokens(input=1, output=1))
    assert (found.display, found.source) == (None, "none")
    assert warning == "genai-prices knows no price of openai/no-such-model-at-all"


def test_counts_that_cannot_be_priced_cost_nobody_their_answer():
    found, warning = prices.cost("openai", "gpt-5-nano", Tokens(input=1, output=1, cached=9))
    assert (found.display, found.source) == (None, "calculator_error")
    assert warning is not None


# --- sums -----------------------------------------------------------------------------------------


def test_without_records_there_is_no_summary():
    assert usage_summary.summary([]) is None


def test_sums_tell_what_was_new_and_what_was_known():
    new = record(cost=Cost(estimated=0.25))
    again = usage.reused(record(cost=Cost(actual=1.0, estimated=0.5)), "replay_reused")
    unknown = record(
        resolved_model="ollama/llama", status="interrupted", tokens=Tokens(input=5, total=5)
    )
    refused = record(status="failed", tokens=Tokens())
    found = usage_summary.summary([new, again, unknown, refused])
    assert found is not None
    assert {name: found[name] for name in usage_summary.FLAT_KEYS} == {
        "usage_record_count": 3,
        "incurred_usage_record_count": 2,
        "reused_usage_record_count": 1,
        "total_tokens": 41,
        "incurred_total_tokens": 23,
        "reused_total_tokens": 18,
        "actual_cost_usd": 0.0,
        "estimated_cost_usd": 0.25,
        "display_cost_usd": 0.25,
        "records_without_cost_count": 1,
        "input_tokens": 27,
        "output_tokens": 14,
        "incurred_input_tokens": 16,
        "incurred_output_tokens": 7,
        "reused_input_tokens": 11,
        "reused_output_tokens": 7,
    }
    assert found["failed_usage_record_count"] == 1
    assert found["models"] == ["openai/gpt", "ollama/llama"]
    assert found["by_model"]["ollama/llama"]["total_tokens"] == 5
    assert usage_summary.flat(found)["kitaru_llm_incurred_total_tokens_v1"] == 23


def test_a_summary_is_told_in_one_line():
    two = usage_summary.summary(
        [record(cost=Cost(estimated=0.000003)), record(cost=Cost(estimated=0.000003))]
    )
    assert two is not None
    assert usage_summary.told(two) == (
        "2 usage records (2 incurred, 0 reused), 36 tokens, "
        "display cost $0.000006 (actual $0.000000, estimated $0.000006)"
    )
    one = usage_summary.summary([record()])
    assert one is not None
    assert usage_summary.told(one) == (
        "1 usage record (1 incurred, 0 reused), 18 tokens, no cost known"
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: found.pop("adapter"),
        lambda found: found.update(schema_version=2),
        lambda found: found.update(usage=None),
        lambda found: found["usage"].update(total_tokens="many"),
        lambda found: found["cost"].update(display_cost_usd=[]),
    ],
)
def test_what_is_no_record_is_left_out(damage: Callable[[dict[str, Any]], Any]):
    damaged = json.loads(json.dumps(record()))
    damage(damaged)
    kept = {usage.KEY: {"a": damaged, "b": record(), "c": 3}}
    assert usage.of_call(kept, (), reuse=None) == [record()]
    assert usage.of_call({usage.KEY: "nonsense"}, (), reuse=None) == []


# --- record_llm_usage -----------------------------------------------------------------------------


def test_what_openais_sdk_returns_is_counted(models: Models):
    models.reply = lambda request: Reply("hi", input_tokens=11, output_tokens=7, cached_tokens=4)
    with openai.OpenAI() as client:
        response = client.chat.completions.create(model="gpt-5-nano", messages=SAY)
    found = recorded(response)
    (one,) = found.checkpoints[0].llm_usage_records
    assert (one["provider"], one["model"], one["adapter"]) == (
        *("openai", "gpt-5-nano-2026-01-01"),
        "sdk",
    )
    assert one["record_id"] == response.id
    assert used(found)["total_tokens"] == 18
    assert used(found)["cached_input_tokens"] == 4


def test_what_anthropics_sdk_returns_is_counted(models: Models):
    models.reply = lambda request: Reply("hi", input_tokens=11, output_tokens=7, cached_tokens=4)
    with anthropic.Anthropic() as client:
        response = client.messages.create(model="claude-haiku-4-5", messages=SAY, max_tokens=9)
    found = recorded(response, latency_ms=12.5)
    (one,) = found.checkpoints[0].llm_usage_records
    assert (one["provider"], one["latency_ms"]) == ("anthropic", 12.5)
    assert (used(found)["input_tokens"], used(found)["total_tokens"]) == (11, 18)


def test_the_json_of_a_response_is_counted_too(models: Models):
    told = {"id": "x-1", "model": "m", "usage": {"input_tokens": 3, "output_tokens": 4}}
    found = recorded(told, provider="gemini", actual_cost_usd=0.5)
    (one,) = found.checkpoints[0].llm_usage_records
    assert (one["record_id"], one["resolved_model"]) == ("x-1", "gemini/m")
    assert one["cost"]["display_cost_usd"] == 0.5
    assert one["cost"]["source"] == "provider_reported"


def test_the_same_response_counts_once(models: Models):
    told = {"id": "x-1", "model": "m", "usage": {"input_tokens": 3, "output_tokens": 4}}
    found = recorded(told, told, {**told, "id": "x-2"})
    assert found.llm_usage_summary is not None
    assert found.llm_usage_summary["usage_record_count"] == 2
    assert found.llm_usage_summary["total_tokens"] == 14


def test_numbers_that_are_given_win_over_those_of_the_response(models: Models):
    told = {"model": "m", "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}
    assert used(recorded(told, output_tokens=10))["total_tokens"] == 13
    assert used(recorded(told, total_tokens=99))["total_tokens"] == 99
    assert used(recorded(input_tokens=2))["total_tokens"] == 2


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "has nothing to count"),
        ({"response": "text"}, "has nothing to count"),
        ({"input_tokens": -1}, "input_tokens is -1"),
        ({"input_tokens": 1.5}, "input_tokens is 1.5"),
        ({"output_tokens": True}, "output_tokens is True"),
        ({"output_tokens": 10**5000}, "output_tokens is too large"),
        ({"input_tokens": 1, "latency_ms": -1}, "latency_ms is -1"),
        ({"input_tokens": 1, "actual_cost_usd": float("nan")}, "actual_cost_usd is nan"),
        ({"input_tokens": 1, "record_id": ""}, "record_id name ''"),
        ({"input_tokens": 1, "model": "a\nb"}, "model name 'a\\nb'"),
    ],
)
def test_what_cannot_be_counted_is_refused(models: Models, given: dict[str, Any], says: str):
    found = recorded(*filter(None, [given.pop("response", None)]), **given)
    assert found.failure is not None
    assert says in found.failure.message
    assert found.llm_usage_summary is None


def test_it_is_refused_outside_a_checkpoint(models: Models):
    with pytest.raises(kitaru.KitaruContextError, match=r"inside a running @checkpoint only"):
        kitaru.record_llm_usage(input_tokens=1)


@pytest.mark.parametrize(
    "key", ["llm_usage_v1", "llm_usage_summary_v1", "kitaru_llm_total_tokens_v1"]
)
def test_metadata_that_is_kitarus_own_cannot_be_logged(models: Models, key: str):
    handle = kitaru.flow(name="asking")(lambda: kitaru.log(**{key: 1})).run()
    with pytest.raises(kitaru.KitaruExecutionError, match=r"record_llm_usage"):
        handle.wait()


# --- the end of an execution ----------------------------------------------------------------------


def flat(execution: kitaru.Execution) -> dict[str, Any]:
    return {key: each for key, each in execution.metadata.items() if key.startswith("kitaru_llm")}


def test_the_flat_numbers_are_there_when_it_has_ended_and_statistics_add_them_up(
    models: Models, home: Any
):
    first = recorded(input_tokens=11, output_tokens=7, provider="openai", model="gpt-5-nano")
    recorded(input_tokens=1, output_tokens=1)
    assert first.llm_usage_summary is not None
    assert flat(first) == usage_summary.flat(first.llm_usage_summary)
    assert len(flat(first)) == 16
    found = KitaruClient().executions.statistics(
        metrics=["tokens:metadata:kitaru_llm_total_tokens_v1:sum"]
    )
    assert found.groups[0].metrics == {"tokens": 20}
    sql = "SELECT count(*) FROM execution_metadata WHERE key LIKE 'kitaru_llm%'"
    assert query(home, sql) == [(32,)]


def test_nobody_has_to_look(models: Models, home: Any):
    """The summary is in the store though no handle waits and no client reads."""

    @kitaru.checkpoint
    def ask() -> None:
        kitaru.record_llm_usage(input_tokens=1)

    handle = kitaru.flow(name="asking")(lambda: ask()).run()
    handle.wait()
    (text,) = query(home, "SELECT metadata FROM executions")[0]
    assert json.loads(text)["llm_usage_summary_v1"]["total_tokens"] == 1


def test_a_cancelled_execution_has_its_numbers_too(models: Models):
    client = KitaruClient()

    @kitaru.checkpoint
    def ask() -> None:
        kitaru.record_llm_usage(input_tokens=5)

    @kitaru.flow
    def asking() -> None:
        ask()
        kitaru.wait(name="go", timeout=0)

    handle = asking.run()
    with pytest.raises(kitaru.KitaruStateError):
        handle.wait()
    waiting = client.executions.get(handle.exec_id)
    assert waiting.llm_usage_summary is not None
    assert flat(waiting) == {}
    client.executions.cancel(handle.exec_id)
    assert flat(client.executions.get(handle.exec_id))["kitaru_llm_total_tokens_v1"] == 5


# --- pauses that are asked for --------------------------------------------------------------------


def test_a_pause_that_is_asked_for_is_kept_and_a_little_more():
    policy = retry.RetryPolicy(retries=1, delay=1)
    assert policy.pause(1, asked=20, draw=lambda: 0.0) == 20
    assert policy.pause(1, asked=20, draw=lambda: 1.0) == 22
    assert policy.pause(1, asked=None, draw=lambda: 1.0) == 1


@pytest.mark.parametrize(
    ("said", "seconds"), [(3, 3.0), (0, 0.0), (1e9, 300.0), (-1, None), ("3", None), (True, None)]
)
def test_any_exception_may_ask_for_a_pause(said: Any, seconds: float | None):
    error = RuntimeError()
    error.retry_after = said  # type: ignore[attr-defined]
    assert retry.asked_by(error) == seconds
    assert retry.asked_by(RuntimeError()) is None
    assert retry.asked_by(None) is None
