"""Checkpoints: values, attempts, failures and options, as the flow sees them."""

from __future__ import annotations

import sys
import threading
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import kitaru
from kitaru import KitaruClient, checkpoint, clock, config, flow
from kitaru.errors import FailureOrigin
from kitaru.retry import RetryPolicy
from tests.drives import error_of
from tests.support import QuickClock

ran: list[Any] = []


@pytest.fixture(autouse=True)
def fresh(home: object) -> None:
    ran.clear()


class Row(NamedTuple):
    name: str
    size: int


class Report(BaseModel):
    rows: list[Row]


class RateLimited(Exception):
    def __init__(self, message: str, *, after: float) -> None:
        super().__init__(message)
        self.after = after


class Stubborn(Exception):
    """Its text depends on what a record does not hold."""

    def __init__(self, connection: object) -> None:
        super().__init__("lost")
        self.connection = connection


def run(body: Any) -> Any:
    """What a flow with this body gives."""
    return flow(name="body")(body).run().wait(30)


def calls(handle: Any) -> tuple[kitaru.CheckpointCall, ...]:
    return KitaruClient().executions.get(handle.exec_id).checkpoints


def caught(call: Any) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """What an `except Exception` in a flow sees of a failing call."""
    try:
        call()
    except Exception as exc:
        return type(exc).__qualname__, exc.args, vars(exc)
    raise AssertionError("it did not fail")


@checkpoint
def echo(value: Any) -> Any:
    return value


@checkpoint
def raising(exc_name: str) -> None:
    if exc_name == "unicode":
        b"\xff".decode("utf-8")
    if exc_name == "file":
        open("/no/such/file").close()
    if exc_name == "exit":
        sys.exit("bye")
    raise {
        "rate": RateLimited("slow down", after=2.5),
        "key": KeyError("name"),
        "stubborn": Stubborn(threading.Lock()),
        "timeout": TimeoutError("its own"),
    }[exc_name]


def test_a_call_returns_the_value_and_not_a_handle():
    def body() -> bool:
        value = echo([1, "a", None])
        return type(value) is list and value == [1, "a", None]

    assert run(body)


def test_the_value_is_that_of_the_record_on_the_first_run_too():
    kept: list[Any] = []

    @checkpoint
    def make() -> dict[str, Any]:
        kept.append({"a": (1, {2}), 3: b"x"})
        return kept[0]

    def body() -> Any:
        first = make()
        first["mine"] = True
        return first

    assert run(body) == {"a": (1, {2}), 3: b"x", "mine": True}
    assert "mine" not in kept[0]


def test_arguments_that_do_not_fit_are_a_type_error_that_names_the_checkpoint():
    seen = run(lambda: caught(lambda: echo(1, 2)))
    told = "Checkpoint echo(value: 'Any') -> 'Any': too many positional arguments"
    assert seen == ("TypeError", (told,), {})


def test_types_of_annotations_that_are_text_are_rebuilt():
    @checkpoint
    def report(size: int) -> Report:
        return Report(rows=[Row("a", size)])

    @flow
    def reporting() -> Report:
        return report(2)

    result = reporting.run().wait(20)
    assert result == Report(rows=[Row("a", 2)])
    assert type(result.rows[0]) is Row


def test_what_a_checkpoint_does_to_its_arguments_does_not_reach_the_flow_or_its_next_attempt():
    @checkpoint(retries=1)
    def drain(items: list[int], *, box: dict[str, list[int]]) -> int:
        count = len(items) + len(box["in"])
        items.clear()
        box["in"].clear()
        ran.append(count)
        if len(ran) == 1:
            raise ValueError
        return count

    def body() -> Any:
        items, box = [1, 2], {"in": [3]}
        future = drain.submit(items, box=box)
        items.append(9)
        return future.result(), items, box

    with clock.use(QuickClock()):
        assert run(body) == (3, [1, 2, 9], {"in": [3]})
    assert ran == [3, 3]


@given(
    st.floats(0, 1e6), st.floats(1, 1e3), st.integers(1, 10_000), st.floats(0, 1, exclude_max=True)
)
def test_pauses_grow_within_their_bounds_up_to_the_ceiling(delay, backoff, attempt, drawn):
    policy = RetryPolicy(10_000, delay, backoff)
    ceiling = config.RETRY_DELAY_MAX_SECONDS

    def pause(number: int, draw: float = drawn) -> float:
        return policy.pause(number, draw=lambda: draw)

    assert 0 <= pause(attempt) <= min(ceiling, delay * backoff ** min(attempt - 1, 64))
    assert pause(attempt) >= 0.5 * min(ceiling, delay)
    assert pause(attempt) <= pause(attempt + 1)
    assert pause(attempt, 0.0) * 2 == pytest.approx(policy.pause(attempt, draw=lambda: 1.0))


def test_every_attempt_is_recorded_under_its_one_call_with_growing_pauses():
    @checkpoint(retries=3, retry_delay=10, retry_backoff=4)
    def unsteady() -> int:
        current = kitaru.current_checkpoint()
        assert current is not None
        ran.append((current.attempt, current.idempotency_key))
        kitaru.log(attempt=current.attempt)
        if current.attempt < 3:
            raise RateLimited("slow", after=current.attempt)
        return current.attempt

    @flow
    def trying() -> int:
        return unsteady()

    with clock.use(QuickClock()) as quick:
        handle = trying.run()
        assert handle.wait(20) == 3
    assert isinstance(quick, QuickClock)
    first, second = quick.pauses
    assert 5 <= first <= 10
    assert 20 <= second <= 40
    (call,) = calls(handle)
    assert (call.status, call.failure, call.metadata) == ("completed", None, {"attempt": 3})
    assert [a.status for a in call.attempts] == ["failed", "failed", "completed"]
    assert [a.failure.message[-4:] if a.failure else "" for a in call.attempts] == [
        "slow",
        "slow",
        "",
    ]
    assert call.attempts[1].metadata == {"attempt": 2}
    key = f"{handle.exec_id}/unsteady"
    assert [a.attempt_id for a in call.attempts] == [f"{key}@1", f"{key}@2", f"{key}@3"]
    assert {key for _, key in ran} == {key}


def test_the_last_failure_reaches_the_flow_when_retries_are_used_up():
    @checkpoint(retries=2)
    def hopeless() -> None:
        ran.append(1)
        raise RateLimited("slow down", after=len(ran))

    with clock.use(QuickClock()):
        seen = run(lambda: caught(hopeless))
    assert seen == ("RateLimited", ("slow down",), {"after": 3})


@pytest.mark.parametrize(
    ("name", "kind", "args", "attributes"),
    [
        ("rate", "RateLimited", ("slow down",), {"after": 2.5}),
        ("key", "KeyError", ("name",), {}),
        ("file", "FileNotFoundError", (2, "No such file or directory"), {}),
        ("unicode", "UnicodeDecodeError", ("utf-8", b"\xff", 0, 1, "invalid start byte"), {}),
    ],
)
def test_the_flow_catches_the_exception_the_checkpoint_raised(name, kind, args, attributes):
    assert run(lambda: caught(lambda: raising(name))) == (kind, args, attributes)


def test_a_missing_file_is_named_in_the_exception_the_flow_catches():
    def body() -> Any:
        try:
            raising("file")
        except FileNotFoundError as exc:
            return exc.filename, exc.errno, str(exc)

    assert run(body) == (
        "/no/such/file",
        2,
        "[Errno 2] No such file or directory: '/no/such/file'",
    )


@pytest.mark.parametrize(("name", "told"), [("stubborn", "Stubborn: lost"), ("exit", "bye")])
def test_an_exception_that_cannot_be_rebuilt_is_a_user_code_error(name, told):
    def body() -> Any:
        try:
            raising(name)
        except kitaru.KitaruUserCodeError as exc:
            return exc.failure_origin == FailureOrigin.USER_CODE, exc.exec_id, str(exc)

    @flow
    def catching() -> Any:
        return body()

    handle = catching.run()
    known, exec_id, text = handle.wait(20)
    assert (known, exec_id) == (True, handle.exec_id)
    assert text.startswith(f"{exec_id}/raising failed: ")
    assert told in text


def plain() -> None: ...
def generator() -> Any:
    yield


async def async_generator() -> Any:
    yield


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"retries": -1}, "whole number"),
        ({"retries": True}, "whole number"),
        ({"retries": 1.0}, "whole number"),
        ({"retry_delay": float("nan")}, "retry_delay"),
        ({"retry_delay": -0.1}, "retry_delay"),
        ({"retry_delay": float("inf")}, "retry_delay"),
        ({"retry_delay": "1"}, "retry_delay"),
        ({"retry_backoff": 0.5}, "retry_backoff"),
        ({"type": 3}, "type"),
        *[({"name": name}, "name") for name in ("a#1", "a/b", "a\nb", "", " a", "a\u202eb", 7)],
        ({"name": "n" * 129}, "128"),
    ],
)
def test_options_that_cannot_be_right_are_refused(options, told):
    with pytest.raises(kitaru.KitaruUsageError, match=told):
        checkpoint(**options)(plain)


@pytest.mark.parametrize("fn", [lambda: 1, generator, async_generator, len, 3, Report, print])
@pytest.mark.parametrize("decorator", [checkpoint, flow])
def test_only_plain_named_functions_are_decorated(decorator, fn):
    with pytest.raises(kitaru.KitaruUsageError):
        decorator(fn)


@pytest.mark.parametrize("name", ["ค้นคว้า", "🔬 research", "naïve-step.v2"])
def test_names_may_be_in_any_script(name):
    named = checkpoint(name=name, type="tool_call")(lambda: 1)

    @flow
    def naming() -> int:
        return named() + named()

    handle = naming.run()
    assert handle.wait(20) == 2
    assert [call.call_id for call in calls(handle)] == [name, f"{name}#2"]
    assert {call.checkpoint_type for call in calls(handle)} == {"tool_call"}
    assert len(KitaruClient().executions.get(handle.exec_id).artifacts) == 2


@pytest.mark.parametrize("way", [echo, echo.submit, lambda value: echo.map([value])])
def test_a_checkpoint_outside_a_flow_is_refused(way):
    with pytest.raises(kitaru.KitaruContextError, match=r"'echo' works inside a running @flow"):
        way(1)


def test_a_checkpoint_inside_a_checkpoint_is_refused_and_not_tried_again():
    @checkpoint(retries=5)
    def outer() -> Any:
        ran.append(1)
        return echo(1)

    seen = run(lambda: caught(outer))
    assert seen[0] == "KitaruContextError"
    assert "not inside checkpoint 'outer'" in seen[1][0]
    assert ran == [1]


def test_a_return_value_that_cannot_be_recorded_fails_with_the_path_to_it():
    @checkpoint(retries=5)
    def locks() -> Any:
        ran.append(1)
        return {"locks": [1, threading.Lock()]}

    error = error_of(flow(name="body")(lambda: locks()).run())
    assert isinstance(error.__cause__, kitaru.KitaruSerializationError)
    assert 'result["locks"][1] is a _thread.lock' in str(error.__cause__)
    assert (getattr(error, "status", None), ran) == ("failed", [1])


def test_a_value_of_an_undeclared_type_is_refused_with_what_to_declare():
    with pytest.raises(kitaru.KitaruExecutionError, match="return value with Report"):
        run(lambda: echo(Report(rows=[])))


def test_a_big_result_comes_back_whole():
    text = "kitaru €" * 650_000

    @checkpoint
    def big(size: int) -> list[str]:
        return [text[:size], text]

    handle = flow(name="body")(lambda: big(10)).run()
    assert handle.wait(30) == [text[:10], text]
    (ref,) = KitaruClient().artifacts.list(handle.exec_id)
    assert ref.size > 5_000_000
    assert ref.load() == [text[:10], text]


def test_a_long_message_is_shown_by_its_beginning_and_kept_whole_in_the_exception():
    @checkpoint
    def wordy() -> None:
        raise ValueError("x" * 1_000_000)

    @flow
    def listening() -> int:
        try:
            wordy()
        except ValueError as exc:
            return len(exc.args[0])
        return 0

    handle = listening.run()
    assert handle.wait() == 1_000_000
    (call,) = calls(handle)
    assert call.failure is not None
    assert len(call.failure.message) < 9000
    assert call.failure.message.endswith(" characters left out")
