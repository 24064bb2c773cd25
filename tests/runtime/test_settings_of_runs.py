"""Settings as runs have them: who wins, what is recorded, what is refused before that."""

from __future__ import annotations

from pathlib import Path

import pytest

import kitaru
from kitaru import KitaruClient, flow
from kitaru.errors import KitaruStateError, KitaruUsageError
from tests import drives
from tests.support import query


@pytest.fixture(autouse=True)
def project(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder without settings, and a store of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("RETRIES", "CACHE", "STACK"):
        monkeypatch.delenv(f"KITARU_{name}", raising=False)
    return tmp_path


@flow
def plain() -> str:
    return "ran"


@flow(retries=1, cache=False)
def opinionated() -> str:
    return "ran"


def spec(handle: drives.Handle) -> dict[str, object]:
    """The settings an execution has, and where each came from."""
    handle.wait(20)
    frozen = drives.get(handle).frozen_execution_spec
    sources = frozen["sources"]
    return {name: (frozen[name], sources[name]) for name in ("retries", "cache", "stack")}


def test_a_run_without_settings_records_the_defaults():
    assert spec(plain.run()) == {
        "retries": (0, "default"),
        "cache": (False, "default"),
        "stack": ("local", "active stack"),
    }


def test_each_setting_is_recorded_with_where_it_came_from(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    (project / "pyproject.toml").write_text('[tool.kitaru]\nretries = 7\nstack = "local"\n')
    monkeypatch.setenv("KITARU_CACHE", "yes")
    assert spec(plain.run()) == {
        "retries": (7, f"{project}/pyproject.toml [tool.kitaru] retries"),
        "cache": (True, "KITARU_CACHE"),
        "stack": ("local", f"{project}/pyproject.toml [tool.kitaru] stack"),
    }
    assert spec(opinionated.run())["retries"] == (1, "@flow opinionated")
    assert spec(opinionated.run())["cache"] == (False, "@flow opinionated")
    assert spec(opinionated.run(retries=2, cache=True))["retries"] == (2, "run")
    assert spec(opinionated.with_options(cache=True, stack="local").run()) == {
        "retries": (1, "@flow opinionated"),
        "cache": (True, "run"),
        "stack": ("local", "run"),
    }


def test_what_configure_says_holds_until_it_is_taken_back():
    kitaru.configure(retries=3)
    try:
        assert spec(plain.run())["retries"] == (3, "configure()")
    finally:
        kitaru.configure(retries=None)
    assert spec(plain.run())["retries"] == (0, "default")


def test_a_run_that_names_options_twice_takes_the_nearer_ones():
    handle = plain.with_options(retries=1, cache=True).run(retries=2)
    assert spec(handle)["retries"] == (2, "run")
    assert spec(handle)["cache"] == (True, "run")


@pytest.mark.parametrize("how", ["run", "options", "environment"])
def test_an_unknown_stack_is_refused_before_anything_is_recorded(
    home: Path, how: str, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(KitaruStateError, match="nowhere"):  # noqa: PT012
        if how == "run":
            plain.run(stack="nowhere")
        elif how == "options":
            plain.with_options(stack="nowhere").run()
        else:
            monkeypatch.setenv("KITARU_STACK", "nowhere")
            plain.run()
    assert query(home, "SELECT * FROM executions") == []


@pytest.mark.parametrize("options", [{"retries": -1}, {"cache": "yes"}, {"stack": ""}])
def test_an_option_that_cannot_be_right_is_refused_before_anything_is_recorded(options):
    with pytest.raises(KitaruUsageError, match="run: "):
        plain.run(**options)
    assert KitaruClient().executions.list() == []


def test_a_flow_that_has_a_parameter_of_an_option_s_name_keeps_it():
    @flow
    def asks(retries: str) -> str:
        return retries

    handle = asks.run(retries="many", cache=True)
    assert handle.wait(20) == "many"
    assert spec(handle)["retries"] == (0, "default")
    assert spec(handle)["cache"] == (True, "run")
    assert spec(asks.with_options(retries=2).run("many"))["retries"] == (2, "run")


def test_a_flow_that_takes_any_keyword_keeps_them_all():
    @flow
    def takes(**inputs: str) -> list[str]:
        return sorted(inputs)

    handle = takes.run(retries="a", topic="b")
    assert handle.wait(20) == ["retries", "topic"]
    assert spec(handle)["retries"] == (0, "default")


def test_the_retries_of_a_run_hold_when_it_is_retried_too():
    ran = []

    @flow
    def fails() -> None:
        ran.append(1)
        raise ValueError("each time")

    handle = fails.run(retries=0)
    drives.error_of(handle)
    drives.error_of(drives.again("retry", fails, handle.exec_id))
    assert len(ran) == 2
