"""`log`, `save` and `load` in flows, and artifacts as the client lists and loads them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import pytest

import kitaru
from kitaru import ArtifactRef, KitaruClient, checkpoint, clock, flow
from tests.drives import error_of
from tests.support import QuickClock


@pytest.fixture(autouse=True)
def fresh(home: object) -> None:
    """Every test here has a store of its own."""


@dataclass
class Outline:
    heads: tuple[str, ...]


@checkpoint(type="llm_call")
def draft(topic: str) -> Outline:
    kitaru.save("prompt", f"about {topic}", type=" Prompt ")
    kitaru.save("notes", {"n": (1, 2)}, tags=["raw", "v1"])
    return Outline((topic,))


@checkpoint
def twice() -> int:
    kitaru.save("notes", 1)
    kitaru.save("notes", 2)
    return 3


@flow
def writing(topic: str = "dogs") -> Outline:
    first = draft(topic)
    twice()
    return first


def finished(definition: Any, *args: Any) -> kitaru.Execution:
    """An execution that has ended, well or not."""
    handle = definition.run(*args)
    with contextlib.suppress(kitaru.KitaruExecutionError):
        handle.wait(20)
    return KitaruClient().executions.get(handle.exec_id)


def loading(exec_id: str, name: str, as_type: Any = None) -> Any:
    """What a checkpoint of another execution loads, or the error that flow meets."""

    @checkpoint
    def load() -> Any:
        value = kitaru.load(exec_id, name, as_type=as_type)
        return value if not isinstance(value, Outline) else list(value.heads)

    def body() -> Any:
        try:
            return load()
        except kitaru.KitaruError as exc:
            return type(exc).__name__, str(exc)

    return flow(body).run().wait(20)


def names(refs: Any) -> list[str]:
    return [ref.artifact_id.partition("/")[2] for ref in refs]


def test_artifacts_are_what_calls_saved_and_then_what_they_returned():
    execution = finished(writing)
    assert names(execution.artifacts) == [
        "draft/prompt",
        "draft/notes",
        "draft",
        "twice/notes",
        "twice/notes#2",
        "twice",
    ]
    shown = [(ref.name, ref.kind, ref.save_type, ref.producing_call) for ref in execution.artifacts]
    assert shown[:3] == [
        ("prompt", "prompt", "manual", "draft"),
        ("notes", "output", "manual", "draft"),
        ("draft", "response", "step_output", "draft"),
    ]
    notes = execution.artifacts[1]
    assert notes.metadata["tags"] == ["raw", "v1"]
    assert notes.size == notes.metadata["storage_size"] > 0
    assert notes.created_at.utcoffset() is not None
    assert execution.checkpoints[0].artifacts == execution.artifacts[:3]
    assert execution.list_artifacts() == execution.artifacts
    assert execution.artifact_count == 6


def test_artifacts_are_filtered_by_kind_call_name_and_limit():
    exec_id = finished(writing).exec_id
    listed = KitaruClient().artifacts.list
    assert names(listed(exec_id, kind="prompt")) == ["draft/prompt"]
    assert names(listed(exec_id[:9], producing_call="twice", limit=1)) == ["twice/notes"]
    assert names(listed(exec_id, name="notes")) == ["draft/notes", "twice/notes", "twice/notes#2"]
    assert listed(exec_id, name="nothing") == []
    for bad in (0, -1, True):
        with pytest.raises(kitaru.KitaruUsageError, match="limit"):
            listed(exec_id, limit=bad)
    with pytest.raises(kitaru.KitaruNotFoundError):
        listed("kr-none")


def test_a_reference_loads_the_exact_value():
    client = KitaruClient()
    refs = {ref.artifact_id.partition("/")[2]: ref for ref in finished(writing).artifacts}
    assert refs["draft/notes"].load() == {"n": (1, 2)}
    assert [refs["twice/notes"].load(), refs["twice/notes#2"].load()] == [1, 2]
    assert client.artifacts.get(refs["draft"].artifact_id).load(Outline) == Outline(("dogs",))
    assert refs["draft"].load(as_type=Outline | None) == Outline(("dogs",))
    with pytest.raises(kitaru.KitaruSerializationError, match="Outline"):
        refs["draft"].load()


def test_a_reference_of_nowhere_says_so():
    ref = finished(writing).artifacts[0]
    loose = ArtifactRef(**{**ref.to_dict(), "created_at": ref.created_at})
    with pytest.raises(kitaru.KitaruUsageError, match="not bound"):
        loose.load()
    assert loose == ref


def test_an_unknown_artifact_is_not_found_and_the_known_ones_are_named():
    exec_id = finished(writing).exec_id
    with pytest.raises(
        kitaru.KitaruNotFoundError, match=f"has: {exec_id}/draft/prompt, "
    ) as caught:
        KitaruClient().artifacts.get(f"{exec_id}/draft/nope")
    assert isinstance(caught.value, LookupError)
    with pytest.raises(kitaru.KitaruNotFoundError):
        KitaruClient().artifacts.get("nope")


def test_load_finds_results_by_checkpoint_name_and_saved_values_by_theirs():
    exec_id = finished(writing).exec_id
    assert loading(exec_id, "twice") == 3
    assert loading(exec_id[:10], "prompt") == "about dogs"
    assert loading(exec_id.removeprefix("kr-")[:10], f"{exec_id}/twice/notes#2") == 2
    assert loading(exec_id, "draft", Outline) == ["dogs"]


def test_load_of_an_ambiguous_name_lists_the_ids():
    exec_id = finished(writing).exec_id
    error, message = loading(exec_id, "notes")
    assert error == "KitaruStateError"
    for rest in ("draft/notes", "twice/notes", "twice/notes#2"):
        assert f"{exec_id}/{rest}" in message


def test_load_of_a_checkpoint_that_was_called_twice_is_ambiguous():
    @checkpoint
    def step(n: int) -> int:
        return n

    exec_id = finished(flow(name="steps")(lambda: [step(1), step(2)])).exec_id
    assert loading(exec_id, "step#2") == 2
    error, message = loading(exec_id, "step")
    assert (error, f"{exec_id}/step, {exec_id}/step#2" in message) == ("KitaruStateError", True)
    assert loading(exec_id, f"{exec_id}/step") == 1


def test_load_of_what_is_not_there_says_what_is():
    exec_id = finished(writing).exec_id
    error, message = loading(exec_id, "nope")
    assert (error, "It has: prompt, notes, draft, twice." in message) == (
        "KitaruNotFoundError",
        True,
    )
    assert loading("kr-none", "draft")[0] == "KitaruNotFoundError"
    error, message = loading(exec_id, "draft")
    assert (error, "Outline" in message) == ("KitaruSerializationError", True)


def test_the_successful_attempt_replaces_what_a_failed_one_saved():
    @checkpoint(retries=1)
    def unsteady() -> str:
        current = kitaru.current_checkpoint()
        assert current is not None
        kitaru.save("try", current.attempt)
        if current.attempt == 1:
            kitaru.save("only first", "x" * 100_000)
            raise ValueError
        return "done"

    with clock.use(QuickClock()):
        execution = finished(flow(name="body")(lambda: unsteady()))
    assert [(ref.name, ref.load()) for ref in execution.artifacts] == [
        ("try", 2),
        ("unsteady", "done"),
    ]


def test_what_a_failed_call_saved_is_kept_to_look_at():
    @checkpoint
    def failing() -> None:
        kitaru.save("evidence", [1])
        raise ValueError

    execution = finished(flow(name="body")(lambda: failing()))
    assert execution.status == "failed"
    assert [(ref.name, ref.load()) for ref in execution.artifacts] == [("evidence", [1])]


def test_a_saved_value_is_the_one_at_the_time_of_the_call():
    @checkpoint
    def changing() -> None:
        items = [1]
        kitaru.save("items", items)
        items.append(2)

    execution = finished(flow(name="body")(lambda: changing()))
    assert execution.artifacts[0].load() == [1]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "told"),
    [
        (("a", 1), {"type": "bogus"}, "UsageError", "blob, context, input, output, prompt, respo"),
        (("a", 1), {"type": None}, "UsageError", "unknown type None"),
        (("", 1), {}, "UsageError", "name"),
        (("a#2", 1), {}, "UsageError", "name"),
        (("a\nb", 1), {}, "UsageError", "name"),
        ((7, 1), {}, "UsageError", "name"),
        (("n" * 129, 1), {}, "UsageError", "128"),
        (("a", 1), {"tags": "word"}, "UsageError", "list of words"),
        (("a", 1), {"tags": [1]}, "UsageError", "list of words"),
        (("a", {"x": object()}), {}, "SerializationError", 'a["x"] is a builtins.object'),
    ],
)
def test_a_save_that_cannot_be_right_fails_the_checkpoint(arguments, options, error, told):
    @checkpoint(retries=3)
    def saving() -> None:
        kitaru.save(*arguments, **options)

    failure = error_of(flow(name="body")(lambda: saving()).run()).__cause__
    assert type(failure).__name__ == f"Kitaru{error}"
    assert told in str(failure)


@pytest.mark.parametrize("name", ["docs/plan.md", "แผน 1", "🔬"])
def test_names_of_artifacts_may_be_in_any_script_and_hold_slashes(name):
    @checkpoint
    def saving() -> None:
        kitaru.save(name, 1)
        kitaru.save(name, 2)

    exec_id = finished(flow(name="body")(lambda: saving())).exec_id
    get = KitaruClient().artifacts.get
    assert get(f"{exec_id}/saving/{name}").load() == 1
    assert get(f"{exec_id}/saving/{name}#2").load() == 2


def test_metadata_goes_to_the_checkpoint_that_runs_or_to_the_execution():
    @checkpoint
    def step() -> None:
        kitaru.log(cost={"usd": 0.1, "deep": {"a": 1}}, model="x", steps=[1])
        kitaru.log(cost={"eur": 0.2, "deep": {"b": 2}}, model="y", steps=[2])

    def body() -> None:
        kitaru.log(tier="gold", of={"a": 1})
        step()
        kitaru.log(of={"b": None}, tier={"now": "a dict"})

    execution = finished(flow(body))
    assert execution.metadata == {"tier": {"now": "a dict"}, "of": {"a": 1, "b": None}}
    assert execution.checkpoints[0].metadata == {
        "cost": {"usd": 0.1, "eur": 0.2, "deep": {"a": 1, "b": 2}},
        "model": "y",
        "steps": [2],
    }


@pytest.mark.parametrize("value", [(1,), {1}, float("nan"), float("inf"), Outline(()), {1: 2}, b""])
def test_metadata_that_is_not_json_is_refused(value):
    error = error_of(flow(name="body")(lambda: kitaru.log(key=value)).run())
    assert isinstance(error.__cause__, (kitaru.KitaruUsageError, kitaru.KitaruSerializationError))


def test_metadata_is_the_one_at_the_time_of_the_call():
    def body() -> None:
        items = [1]
        kitaru.log(items=items)
        items.append(2)

    assert finished(flow(body)).metadata == {"items": [1]}


@pytest.mark.parametrize(
    "call",
    [lambda: kitaru.log(a=1), lambda: kitaru.save("a", 1), lambda: kitaru.load("kr-1", "a")],
)
def test_outside_a_flow_they_are_refused(call):
    with pytest.raises(kitaru.KitaruContextError):
        call()


@pytest.mark.parametrize("call", [lambda: kitaru.save("a", 1), lambda: kitaru.load("kr-1", "a")])
def test_in_the_body_of_a_flow_save_and_load_are_refused(call):
    error = error_of(flow(name="body")(call).run())
    assert isinstance(error.__cause__, kitaru.KitaruContextError)
    assert "@checkpoint only" in str(error)


def test_current_ids_name_the_execution_and_the_call():
    @checkpoint
    def here() -> list[Any]:
        current = kitaru.current_checkpoint()
        assert current is not None
        return [kitaru.current_execution_id(), current.call_id, current.name, current.attempt]

    def body() -> list[Any]:
        assert kitaru.current_checkpoint() is None
        here()
        return here()

    execution = finished(flow(body))
    assert execution.result == [execution.exec_id, "here#2", "here", 1]
    assert (kitaru.current_execution_id(), kitaru.current_checkpoint()) == (None, None)
