"""`kitaru.llm`: what reaches the provider, what comes back, what is recorded, and when it is not
asked again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from datetime import datetime
from typing import Any, Generic, TypeVar

import pytest
from pydantic import BaseModel

import kitaru
from examples.model_server import Reply
from kitaru import KitaruClient, clock, config, model_aliases
from tests.isolated import ask_a_model
from tests.models.conftest import KEY, Models
from tests.support import QuickClock, until

GPT, CLAUDE = "openai/gpt-5-nano", "anthropic/claude-haiku-4-5"
BOTH = pytest.mark.parametrize("model", [GPT, CLAUDE])


T = TypeVar("T")


class Person(BaseModel):
    name: str
    age: int


def ran(body: Any, **options: Any) -> kitaru.Execution:
    """The execution of a flow with this body, which has ended, one way or the other."""
    handle = kitaru.flow(name="asking", **options)(body).run()
    with contextlib.suppress(Exception):
        handle.wait()
    return KitaruClient().executions.get(handle.exec_id)


def result(body: Any) -> Any:
    return kitaru.flow(name="asking")(body).run().wait()


def call_of(execution: kitaru.Execution, call_id: str) -> kitaru.CheckpointCall:
    return next(call for call in execution.checkpoints if call.call_id == call_id)


# --- what is asked --------------------------------------------------------------------------------


def test_a_text_is_a_message_of_the_user(models: Models):
    assert result(lambda: kitaru.llm("hello", model=GPT)) == "re: hello"
    assert models.requests[0].body["messages"] == [{"role": "user", "content": "hello"}]
    assert models.requests[0].body["model"] == "gpt-5-nano"


def test_openai_gets_the_system_first_and_its_own_names(models: Models):
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    talk.append({"role": "user", "content": "c"})
    result(lambda: kitaru.llm(talk, model=GPT, system="s", temperature=0.5, max_tokens=9))
    body = models.requests[0].body
    assert body["messages"] == [{"role": "system", "content": "s"}, *talk]
    assert (body["temperature"], body["max_completion_tokens"]) == (0.5, 9)
    assert "max_tokens" not in body


def test_anthropic_gets_the_system_apart_and_always_a_longest_answer(models: Models):
    talk = [{"role": "system", "content": "t"}, {"role": "user", "content": "a"}]
    result(lambda: kitaru.llm(talk, model=CLAUDE, system="s", temperature=0))
    body = models.requests[0].body
    assert body["messages"] == [{"role": "user", "content": "a"}]
    assert (body["system"], body["max_tokens"], body["temperature"]) == ("s\n\nt", 16_384, 0)
    # The version of the API that knows a temperature; newer ones, and their SDKs, refuse it.
    assert models.requests[0].headers["anthropic-version"] == "2023-06-01"


def test_ollama_and_openrouter_speak_as_openai_but_with_the_older_name(models: Models):
    for model in ("ollama/llama3", "openrouter/meta/llama-4"):
        result(lambda model=model: kitaru.llm("x", model=model, max_tokens=9))
    first, second = (request.body for request in models.requests)
    assert (first["model"], first["max_tokens"]) == ("llama3", 9)
    assert (second["model"], second["usage"]) == ("meta/llama-4", {"include": True})


def test_what_is_changed_after_the_call_is_not_asked(models: Models):
    talk: list[dict[str, Any]] = [{"role": "user", "content": "before"}]

    @kitaru.flow
    async def asking() -> str:
        asked = kitaru.llm_async(talk, model=GPT)
        talk[0]["content"] = "after"
        return await asked

    assert asking.run().wait() == "re: before"


# --- which model ----------------------------------------------------------------------------------


def test_the_argument_wins_then_the_variable_then_the_default_alias(
    models: Models, monkeypatch: pytest.MonkeyPatch
):
    model_aliases.register_model("fast", model="openai/one")
    model_aliases.register_model("deep", model="anthropic/two")
    result(lambda: kitaru.llm("x"))
    monkeypatch.setenv("KITARU_DEFAULT_MODEL", "deep")
    result(lambda: kitaru.llm("x"))
    result(lambda: kitaru.llm("x", model="openai/three"))
    assert [request.model for request in models.requests] == ["one", "two", "three"]


def test_a_record_names_what_was_asked_for_and_what_answered(models: Models):
    model_aliases.register_model("fast", model=GPT)
    (record,) = ran(lambda: kitaru.llm("x", model="fast")).checkpoints[0].llm_usage_records
    assert record["requested_model"] == "fast"
    assert record["resolved_model"] == GPT
    assert (record["provider"], record["model"]) == ("openai", "gpt-5-nano-2026-01-01")


def test_the_key_of_an_aliases_secret_is_used_and_not_that_of_the_environment(models: Models):
    kitaru.create_secret("creds", {"OPENAI_API_KEY": "sk-of-the-secret"})
    kitaru.create_secret("other", {"api_key": "sk-of-the-other"})
    model_aliases.register_model("fast", model=GPT, secret="creds")
    model_aliases.register_model("deep", model=CLAUDE, secret="other")
    result(lambda: kitaru.llm("x", model="fast") + kitaru.llm("x", model="deep"))
    first, second = (request.headers for request in models.requests)
    assert first["authorization"] == "Bearer sk-of-the-secret"
    # Where it is told changed between releases of the SDK.
    told = second.get("x-api-key") or second["authorization"].removeprefix("Bearer ")
    assert told == "sk-of-the-other"


def test_a_setting_for_openai_alone_is_sent_to_nobody_else(
    models: Models, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: one\nX-Other: two")
    for name in ("OPENAI_API_KEY", "OPENROUTER_API_KEY"):  # another client than before
        monkeypatch.setenv(name, f"sk-for-this-test-{name}")
    result(lambda: kitaru.llm("x", model="openrouter/a/b") + kitaru.llm("x", model=GPT))
    others, its_own = (request.headers for request in models.requests)
    assert not {"openai-organization", "x-gateway", "x-other"} & {*others}
    assert its_own["openai-organization"] == "org-1"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (None, "No model is named"),
        ("fsat", "No model alias 'fsat'. The nearest: fast"),
        ("mistral/x", "there is no provider 'mistral'"),
        ("openai/", "is no model; write provider/name"),
    ],
)
def test_a_model_that_is_none_is_told(models: Models, model: str | None, says: str):
    if model is not None:
        model_aliases.register_model("fast", model=GPT)
    found = ran(lambda: kitaru.llm("x", model=model))
    assert found.failure is not None
    assert says in found.failure.message
    assert models.requests == []


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        (GPT, "OPENAI_API_KEY"),
        (CLAUDE, "ANTHROPIC_API_KEY"),
        ("openrouter/a/b", "OPENROUTER_API_KEY"),
    ],
)
def test_a_missing_key_is_told_with_its_setting(
    models: Models, monkeypatch: pytest.MonkeyPatch, model: str, variable: str
):
    monkeypatch.delenv(variable)
    found = ran(lambda: kitaru.llm("x", model=model), retries=3)
    assert found.failure is not None
    assert f"set {variable} in the environment" in found.failure.message
    assert len(found.checkpoints[0].attempts) == 1  # no repetition can mend it


def test_a_secret_without_a_key_is_told(models: Models):
    kitaru.create_secret("creds", {"OTHER": "sk-of-something"})
    model_aliases.register_model("fast", model=GPT, secret="creds")
    found = ran(lambda: kitaru.llm("x", model="fast"))
    assert found.failure is not None
    assert "kitaru secrets set creds --OPENAI_API_KEY" in found.failure.message


# --- what comes back ------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_gives_its_class_also_on_a_replay(models: Models, model: str, stream: bool):
    models.reply = lambda request: Reply('{"name": "Ann", "age": 3}')

    @kitaru.flow
    def asking() -> Person:
        return kitaru.llm("who?", model=model, schema=Person, stream=stream)

    handle = asking.run()
    assert handle.wait() == Person(name="Ann", age=3)
    again = asking.replay(
        handle.exec_id, from_="llm", overrides={"checkpoint.llm": {"name": "Bob", "age": 4}}
    )
    assert again.wait() == Person(name="Bob", age=4)
    assert len(models.requests) == 1


def test_openai_is_told_the_strict_form_of_a_schema(models: Models):
    models.reply = lambda request: Reply('{"name": "Ann", "age": 3}')
    result(lambda: kitaru.llm("who?", model=GPT, schema=Person).name)
    form = models.requests[0].body["response_format"]["json_schema"]
    assert (form["name"], form["strict"]) == ("Person", True)
    assert form["schema"]["additionalProperties"] is False


def test_anthropic_is_told_the_schema_too(models: Models):
    models.reply = lambda request: Reply('{"name": "Ann", "age": 3}')
    result(lambda: kitaru.llm("who?", model=CLAUDE, schema=Person).name)
    form = models.requests[0].body["output_config"]["format"]
    assert form["type"] == "json_schema"
    assert form["schema"]["required"] == ["name", "age"]


def test_what_anthropics_answers_cannot_hold_is_refused_before_it_is_asked(models: Models):
    class Tagged(BaseModel):
        tags: dict[str, int]

    found = ran(lambda: kitaru.llm("x", model=CLAUDE, schema=Tagged).tags)
    assert found.failure is not None
    assert "'tags' of Tagged is a dict with keys of any name" in found.failure.message
    assert (models.requests, found.llm_usage_summary) == ([], None)


@BOTH
def test_an_answer_that_does_not_fit_is_asked_for_again(models: Models, model: str):
    models.in_turn(Reply('{"name": "Ann"}'), Reply('{"name": "Ann", "age": 3}'))
    with clock.use(QuickClock()):
        found = ran(lambda: kitaru.llm("who?", model=model, schema=Person).age)
    assert found.result == 3
    first, second = found.checkpoints[0].attempts
    assert first.failure is not None
    assert "does not fit Person: age: Field required" in first.failure.message
    assert second.failure is None
    assert found.llm_usage_summary is not None
    assert found.llm_usage_summary["total_tokens"] == sum(models.tokens)


class Box(BaseModel, Generic[T]):
    due: datetime
    item: T
    additionalProperties: str = "a name as any other"


@BOTH
def test_any_schema_comes_back_as_its_class_also_where_a_record_holds_no_such_type(
    models: Models, model: str
):
    models.reply = lambda request: Reply('{"due": "2024-01-01T00:00:00Z", "item": 3}')

    @kitaru.flow
    def asking() -> str:
        first = kitaru.llm("x", model=model, schema=Box[int])
        kitaru.llm("y", model=model, schema=Box[int], name="again")
        return f"{first.due.isoformat()} {first.item}"

    handle = asking.run()
    assert handle.wait() == "2024-01-01T00:00:00+00:00 3"
    assert asking.replay(handle.exec_id, from_="again").wait() == handle.get()
    if model == GPT:  # no brackets in a name
        assert models.requests[0].body["response_format"]["json_schema"]["name"] == "Box_int_"
    kept = {ref.name: ref.load() for ref in KitaruClient().artifacts.list(handle.exec_id)}
    assert kept["llm"] == {"due": "2024-01-01T00:00:00Z", "item": 3}


def test_an_unknown_alias_is_a_failed_call_with_a_cache_too(models: Models):
    def body() -> str:
        try:
            return kitaru.llm("q", model="nope")
        except kitaru.KitaruError:
            return "caught"

    found = ran(body, cache=True)
    assert (found.result, str(found.checkpoints[0].status)) == ("caught", "failed")


def test_in_a_forked_child_nothing_is_asked(models: Models):
    @kitaru.checkpoint
    def forking() -> str:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            said = b"nothing"
            try:
                kitaru.llm("x", model=GPT)
            except BaseException as exc:
                said = str(exc).encode()
            os.write(write, said)
            os._exit(0)
        os.waitpid(child, 0)
        return os.read(read, 1000).decode()

    found = ran(lambda: forking())
    assert "from which nothing can be recorded" in found.result
    assert models.requests == []


def test_a_divergence_shows_what_else_was_asked(models: Models):
    state = {"system": "one"}

    def body() -> None:
        kitaru.llm("q", model=GPT, system=state["system"])
        if state["system"] == "one":
            state["system"] = "two"
            raise RuntimeError("once")

    with clock.use(QuickClock()):
        found = ran(body, retries=1)
    assert found.failure is not None
    assert "system='one'" in found.failure.message
    assert "system='two'" in found.failure.message


def test_an_answer_that_was_cut_off_is_not_asked_for_again_and_says_what_to_do(models: Models):
    models.reply = lambda request: Reply('{"name": "A', finish="length")
    found = ran(lambda: kitaru.llm("who?", model=GPT, schema=Person, max_tokens=5))
    assert found.failure is not None
    assert "give a larger max_tokens" in found.failure.message
    assert len(models.requests) == 1


@pytest.mark.parametrize(("model", "finish"), [(GPT, "length"), (CLAUDE, "max_tokens")])
def test_a_text_that_was_cut_off_comes_with_a_warning_in_the_log(
    models: Models, model: str, finish: str
):
    models.reply = lambda request: Reply("half a", finish=finish)
    found = ran(lambda: kitaru.llm("x", model=model))
    assert found.result == "half a"
    (line,) = KitaruClient().executions.logs(found.exec_id)
    assert (line.level, line.checkpoint_name) == ("WARNING", "llm")
    assert "was cut off at its longest; give a larger max_tokens" in line.message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "finish", "says"),
    [
        (CLAUDE, "refusal", "I will not"),
        (GPT, "content_filter", "its content filter has stopped the answer"),
    ],
)
def test_a_refusal_is_an_error(models: Models, model: str, finish: str, says: str, stream: bool):
    models.reply = lambda request: Reply("I will not", finish=finish)
    found = ran(lambda: kitaru.llm("x", model=model, stream=stream))
    assert found.failure is not None
    assert f"refused to answer: {says}" in found.failure.message
    assert len(models.requests) == 1


@BOTH
def test_streamed_text_is_in_the_log_line_by_line_before_the_answer_is_whole(
    models: Models, model: str
):
    models.reply = lambda request: Reply("first line\nsecond line\n\n" + "word " * 60)
    found = ran(lambda: kitaru.llm("x", model=model, stream=True))
    lines = [line.message for line in KitaruClient().executions.logs(found.exec_id)]
    assert lines[:3] == ["first line", "second line", ""]
    assert " ".join(lines[3:]) == ("word " * 60)
    assert all(len(line) <= config.LLM_LINE_CHARACTERS + 8 for line in lines)
    assert found.result == "first line\nsecond line\n\n" + "word " * 60


# --- in a flow's body -----------------------------------------------------------------------------


@BOTH
def test_in_a_flows_body_it_is_a_call_with_prompt_and_response(models: Models, model: str):
    found = ran(lambda: kitaru.llm("one", model=model) + kitaru.llm("two", model=model))
    first, second = found.checkpoints
    assert (first.call_id, second.call_id) == ("llm", "llm#2")
    assert first.checkpoint_type == "llm_call"
    kept = {ref.name: (ref.kind, ref.load()) for ref in found.artifacts}
    assert kept["llm_prompt"] == ("prompt", "one")
    assert kept["llm_response"] == ("response", "re: one")
    assert kept["llm#2_prompt"] == ("prompt", "two")
    assert kept["llm#2"] == ("response", "re: two")


def test_messages_are_kept_as_they_were_given(models: Models):
    talk = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]
    found = ran(lambda: kitaru.llm(talk, model=CLAUDE, name="ask"))
    kept = {ref.name: ref.load() for ref in found.artifacts}
    assert kept["ask_prompt"] == talk


def test_a_flow_that_is_driven_again_pays_nothing_again(models: Models):
    drives: list[int] = []

    def body() -> str:
        answer = kitaru.llm("paid once", model=GPT)
        drives.append(1)
        if len(drives) == 1:
            raise RuntimeError("once")
        return answer

    with clock.use(QuickClock()):
        found = ran(body, retries=1)
    assert (found.result, models.prompts) == ("re: paid once", ["paid once"])
    assert found.llm_usage_summary is not None
    assert found.llm_usage_summary["usage_record_count"] == 1


def test_failures_that_may_pass_are_attempts_of_the_call(models: Models):
    models.in_turn(Reply(status=429), Reply(status=503), Reply("at last"))
    quick = QuickClock()
    with clock.use(quick):
        found = ran(lambda: kitaru.llm("x", model=GPT))
    assert found.result == "at last"
    attempts = found.checkpoints[0].attempts
    assert [str(each.status) for each in attempts] == ["failed", "failed", "completed"]
    assert attempts[0].failure is not None
    assert attempts[0].failure.exception_type == "kitaru.errors.KitaruLLMTransientError"
    assert "HTTP 429" in attempts[0].failure.message
    records = found.checkpoints[0].llm_usage_records
    assert [record["status"] for record in records] == ["failed", "failed", "completed"]
    assert [record["billing_effect"] for record in records] == 2 * ["not_incurred"] + ["incurred"]
    assert found.llm_usage_summary is not None
    assert found.llm_usage_summary["usage_record_count"] == 1
    assert found.llm_usage_summary["failed_usage_record_count"] == 2
    assert len(quick.pauses) == 2


@pytest.mark.parametrize("place", ["body", "checkpoint"])
def test_a_provider_is_left_alone_as_long_as_it_asks(models: Models, place: str):
    models.in_turn(
        Reply(status=429, headers={"retry-after": "17"}),
        Reply(status=529, headers={"retry-after-ms": "2500"}),
        Reply("at last"),
    )
    asked = kitaru.checkpoint(name="ask")(lambda: kitaru.llm("x", model=CLAUDE))
    body = asked if place == "checkpoint" else lambda: kitaru.llm("x", model=CLAUDE)
    quick = QuickClock()
    with clock.use(quick):
        found = ran(lambda: body())
    assert found.result == "at last"
    first, second = quick.pauses
    assert 17 <= first <= 17 * 1.1
    assert 2.5 <= second <= 2.5 * 1.1


def test_who_asks_for_too_long_a_pause_has_failed(models: Models):
    models.reply = lambda request: Reply(status=429, headers={"retry-after": "3600"})
    found = ran(lambda: kitaru.llm("x", model=GPT))
    assert found.failure is not None
    assert "asks to be left alone for 3600 seconds" in found.failure.message
    assert len(models.requests) == 1


def test_attempts_are_used_up(models: Models):
    models.reply = lambda request: Reply(status=500, text="the machine is on fire")
    with clock.use(QuickClock()):
        found = ran(lambda: kitaru.llm("x", model=GPT, retries=2))
    assert found.failure is not None
    assert "openai/gpt-5-nano did not answer: HTTP 500: the machine is on fire" in (
        found.failure.message
    )
    assert len(models.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_not_repeated(models: Models, status: int):
    models.reply = lambda request: Reply(status=status, text="no")
    found = ran(lambda: kitaru.llm("x", model=CLAUDE))
    assert found.failure is not None
    assert found.failure.exception_type == "kitaru.errors.KitaruLLMError"
    assert len(models.requests) == 1


def test_a_flow_can_catch_a_failure_and_ask_another_model(models: Models):
    models.reply = lambda request: (
        Reply(status=404) if request.dialect == "openai" else Reply("from the other")
    )

    def body() -> str:
        try:
            return kitaru.llm("x", model=GPT)
        except kitaru.KitaruLLMError as exc:
            told = f"{exc.provider} {exc.model} {exc.status_code}, "
            return told + kitaru.llm("x", model=CLAUDE)

    assert ran(body).result == "openai gpt-5-nano 404, from the other"


def test_cached_answers_are_reused_and_cost_nothing(models: Models):
    def body() -> str:
        return kitaru.llm("same", model=GPT)

    first, second = ran(body, cache=True), ran(body, cache=True)
    assert (first.result, second.result, len(models.requests)) == ("re: same", "re: same", 1)
    (record,) = second.checkpoints[0].llm_usage_records
    assert record["billing_effect"] == "reused_not_incurred"
    assert record["cache_status"] == "checkpoint_cache_hit"
    summary = second.llm_usage_summary
    assert summary is not None
    assert summary["incurred_total_tokens"] == 0
    assert summary["reused_total_tokens"] == sum(models.tokens)
    assert summary["display_cost_usd"] == 0


def test_another_model_behind_an_alias_is_no_cache_hit(models: Models):
    model_aliases.register_model("fast", model=GPT)
    ran(lambda: kitaru.llm("same", model="fast"), cache=True)
    model_aliases.register_model("fast", model="openai/other")
    ran(lambda: kitaru.llm("same", model="fast"), cache=True)
    assert [request.model for request in models.requests] == ["gpt-5-nano", "other"]


def test_a_replay_reuses_answers_before_its_point(models: Models):
    @kitaru.flow
    def asking() -> str:
        return kitaru.llm("one", model=GPT) + kitaru.llm("two", model=GPT)

    handle = asking.run()
    handle.wait()
    replayed = asking.replay(handle.exec_id, from_="llm#2")
    replayed.wait()
    assert models.prompts == ["one", "two", "two"]
    first, second = KitaruClient().executions.get(replayed.exec_id).checkpoints
    assert first.llm_usage_records[0]["cache_status"] == "replay_reused"
    assert first.metadata["llm_usage_v1"]["llm@1:1"]["billing_effect"] == "reused_not_incurred"
    assert second.llm_usage_records[0]["billing_effect"] == "incurred"


def test_an_alias_may_mean_another_model_when_a_flow_goes_on(models: Models):
    """What is recorded is compared with what the code says, not with what that means today."""
    model_aliases.register_model("fast", model=GPT)

    @kitaru.flow
    def asking() -> str:
        return kitaru.llm("one", model="fast") + kitaru.llm("two", model="fast")

    handle = asking.run()
    handle.wait()
    model_aliases.register_model("fast", model="openai/other")
    asking.replay(handle.exec_id, from_="llm#2").wait()
    assert [request.model for request in models.requests] == ["gpt-5-nano", "gpt-5-nano", "other"]


# --- inside a checkpoint --------------------------------------------------------------------------


def test_inside_a_checkpoint_it_is_an_event_of_that(models: Models):
    @kitaru.checkpoint
    def research(topic: str) -> str:
        first = kitaru.llm(topic, model=GPT)
        second = kitaru.llm(first, model=CLAUDE)
        return second + kitaru.llm(second, model=CLAUDE, name="polish")

    found = ran(lambda: research("dogs"))
    (call,) = found.checkpoints
    assert [record["call_name"] for record in call.llm_usage_records] == ["llm", "llm#2", "polish"]
    assert [record["checkpoint_id"] for record in call.llm_usage_records] == ["research"] * 3
    assert {*call.metadata["llm_usage_v1"]} == {f"research@1:{n}" for n in (1, 2, 3)}
    assert [ref.name for ref in call.artifacts] == [
        *("llm_prompt", "llm_response", "llm#2_prompt", "llm#2_response"),
        *("polish_prompt", "polish_response", "research"),
    ]


def test_a_checkpoint_that_fails_after_it_has_paid_is_counted_with_each_attempt(models: Models):
    tried: list[int] = []

    @kitaru.checkpoint(retries=2, retry_delay=0)
    def research() -> str:
        answer = kitaru.llm("x", model=GPT)
        tried.append(1)
        if len(tried) < 3:
            raise ValueError("after the bill")
        return answer

    found = ran(lambda: research())
    assert found.llm_usage_summary is not None
    assert found.llm_usage_summary["incurred_usage_record_count"] == 3
    assert found.llm_usage_summary["total_tokens"] == sum(models.tokens)
    assert [len(each.metadata["llm_usage_v1"]) for each in found.checkpoints[0].attempts] == [1] * 3


def test_an_isolated_checkpoint_counts_too(models: Models):
    found = ran(lambda: ask_a_model("x"))
    assert found.result == "re: x"
    assert found.llm_usage_summary is not None
    assert found.llm_usage_summary["total_tokens"] == sum(models.tokens)


def test_what_answers_after_its_time_is_counted_though_the_execution_has_ended(models: Models):
    hold = threading.Event()
    models.reply = lambda request: Reply("late", hold=hold)

    @kitaru.checkpoint(timeout=0.1)
    def slow() -> str:
        return kitaru.llm("x", model=GPT)

    found = ran(lambda: slow())
    assert str(found.status) == "failed"
    assert found.llm_usage_summary is None
    hold.set()

    def summed() -> dict[str, Any] | None:
        return KitaruClient().executions.get(found.exec_id).llm_usage_summary

    summary = until(summed, "the late answer is counted")
    assert summary is not None
    assert summary["total_tokens"] == sum(models.tokens) > 0


def test_what_was_used_by_now_is_known_while_the_execution_runs(models: Models):
    known, go = threading.Event(), threading.Event()

    @kitaru.checkpoint
    def research() -> str:
        kitaru.llm("x", model=GPT)
        known.set()
        assert go.wait(60)
        return "done"

    handle = kitaru.flow(name="asking")(lambda: research()).run()
    assert known.wait(60)
    found = KitaruClient().executions.get(handle.exec_id)
    assert found.llm_usage_summary is not None
    assert found.llm_usage_summary["total_tokens"] == sum(models.tokens)
    (listed,) = KitaruClient().executions.list()
    assert listed.llm_usage_summary == found.llm_usage_summary
    assert found.checkpoints[0].llm_usage_records[0]["status"] == "completed"
    go.set()
    handle.wait()


# --- async ----------------------------------------------------------------------------------------


def test_async_flows_and_checkpoints_await_it(models: Models):
    @kitaru.checkpoint
    async def research(topic: str) -> str:
        return await kitaru.llm_async(topic, model=CLAUDE, stream=True)

    @kitaru.flow
    async def asking() -> list[str]:
        return await asyncio.gather(
            research("a"), kitaru.llm_async("b", model=GPT), kitaru.llm_async("c", model=GPT)
        )

    handle = asking.run()
    assert handle.wait() == ["re: a", "re: b", "re: c"]
    summary = KitaruClient().executions.get(handle.exec_id).llm_usage_summary
    assert summary is not None
    assert summary["total_tokens"] == sum(models.tokens)


def test_async_failures_that_may_pass_are_repeated(models: Models):
    models.in_turn(
        Reply(status=429, headers={"retry-after": "0"}),
        Reply("one", breaks_after=0),
        Reply(status=429, headers={"retry-after": "0"}),
        Reply("two"),
    )

    @kitaru.checkpoint
    async def research() -> str:
        return await kitaru.llm_async("x", model=GPT)

    @kitaru.flow
    async def asking() -> str:
        return await research()

    assert asking.run().wait() == "two"
    assert len(models.requests) == 4


# --- where it cannot be ---------------------------------------------------------------------------


def test_outside_a_flow_it_is_refused(models: Models):
    with pytest.raises(kitaru.KitaruContextError, match=r"inside a running @flow only"):
        kitaru.llm("x", model=GPT)


def test_the_async_form_is_refused_where_nothing_is_async(models: Models):
    found = ran(lambda: kitaru.llm_async("x", model=GPT))
    assert found.failure is not None
    assert "use kitaru.llm(…)" in found.failure.message


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"prompt_or_messages": ""}, None),
        ({"prompt_or_messages": 3}, "is no prompt"),
        ({"prompt_or_messages": []}, "is no prompt"),
        ({"prompt_or_messages": ["hi"]}, "message 0 is 'hi'"),
        ({"prompt_or_messages": [{"role": "user", "content": object()}]}, "message 0"),
        ({"prompt_or_messages": [{"role": "user", "content": ("a",)}]}, "no JSON data"),
        ({"model": 3}, "model is 3"),
        ({"system": 3}, "system is 3"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"schema": dict}, "give a class of pydantic.BaseModel"),
        ({"stream": 1}, "stream is 1"),
        ({"retries": -1}, "retries is -1"),
        ({"name": "a#b"}, "name 'a#b' cannot be used"),
    ],
)
def test_arguments_that_cannot_be_right_are_refused_before_anything_is_asked(
    models: Models, given: dict[str, Any], says: str | None
):
    found = ran(lambda: kitaru.llm(**{"prompt_or_messages": "x", "model": GPT, **given}))
    if says is None:
        assert found.failure is None
        return
    assert found.failure is not None
    assert says in found.failure.message
    assert models.requests == []


def test_a_key_that_a_provider_repeats_is_masked_in_what_is_said(models: Models):
    models.reply = lambda request: Reply(status=401, text=f"Incorrect API key provided: {KEY}.")
    found = ran(lambda: kitaru.llm("x", model=GPT))
    assert found.failure is not None
    assert "Incorrect API key provided: [redacted]." in found.failure.message
