"""The options of a run: which layer wins, what each may say, and how a wrong value is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import config
from kitaru.errors import KitaruUsageError
from kitaru.settings import Setting, Settings, checked, resolve


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's folder to work in; nothing is set anywhere."""
    path = tmp_path / "project"
    path.mkdir()
    monkeypatch.chdir(path)
    for name in [name for name in os.environ if name.startswith("KITARU_")]:
        monkeypatch.delenv(name)
    yield path
    kitaru.configure(retries=None, cache=None, stack=None)


def toml(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text(text)
    return path


def found(**layers: Any) -> Settings:
    return resolve(active_stack="local", flow_name="agent", **layers)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(KitaruUsageError) as caught:
        call()
    return str(caught.value)


# --- which layer wins -----------------------------------------------------------------------------


def test_where_nothing_is_set_the_defaults_and_the_active_stack_hold():
    assert resolve(active_stack="gpu") == Settings(
        retries=Setting(0, "default"),
        cache=Setting(False, "default"),
        stack=Setting("gpu", "active stack"),
    )


@pytest.mark.parametrize(
    ("name", "values", "default"),
    [
        ("retries", [1, 2, 3, 4, 5], Setting(0, "default")),
        ("cache", [True, False, True, False, True], Setting(False, "default")),
        ("stack", ["a", "b", "c", "d", "e"], Setting("local", "active stack")),
    ],
)
def test_the_first_layer_that_names_a_value_wins_and_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, values: list[Any], default: Setting
):
    run, flow, configured, environment, file = values
    variable = f"KITARU_{name.upper()}"
    path = toml(project, f"[tool.kitaru]\n{name} = {file!r}\n".replace("True", "true"))
    monkeypatch.setenv(variable, str(environment))
    kitaru.configure(**{name: configured})

    def now(**layers: Any) -> Setting:
        return getattr(found(**layers), name)

    assert now(run={name: run}, flow={name: flow}) == Setting(run, "run")
    assert now(flow={name: flow}) == Setting(flow, "@flow agent")
    assert now() == Setting(configured, "configure()")
    kitaru.configure(**{name: None})
    assert now() == Setting(environment, variable)
    monkeypatch.delenv(variable)
    assert now() == Setting(file, f"{path} [tool.kitaru] {name}")
    path.unlink()
    assert now() == default


def test_none_means_not_set_in_every_layer():
    kitaru.configure(retries=2, cache=None, stack=None)
    nothing = dict.fromkeys(("retries", "cache", "stack"))

    assert found(run=nothing, flow=nothing).to_dict() == {
        "retries": {"value": 2, "source": "configure()"},
        "cache": {"value": False, "source": "default"},
        "stack": {"value": "local", "source": "active stack"},
    }


def test_a_value_that_says_no_wins_over_one_below_it():
    kitaru.configure(retries=2, cache=True)
    settings = found(flow={"retries": 0, "cache": False})
    assert (settings.retries.value, settings.cache.value) == (0, False)


def test_each_setting_comes_from_its_own_layer(project: Path, monkeypatch: pytest.MonkeyPatch):
    toml(project, "[tool.kitaru]\nretries = 7\ncache = true\nstack = 'file'\n")
    monkeypatch.setenv("KITARU_CACHE", "no")
    settings = found(run={"stack": "mine"})
    assert settings.stack == Setting("mine", "run")
    assert settings.cache == Setting(False, "KITARU_CACHE")
    assert settings.retries.value == 7


# --- configure ------------------------------------------------------------------------------------


def test_configure_keeps_what_is_not_given():
    kitaru.configure(retries=2)
    kitaru.configure(stack="gpu")
    kitaru.configure()
    settings = found()
    assert (settings.retries.value, settings.stack.value) == (2, "gpu")


def test_a_refused_configure_sets_nothing():
    message = refusal(lambda: kitaru.configure(stack="gpu", retries=-1))
    assert message == "configure(): retries is -1; it must be a whole number >= 0."
    assert found().stack == Setting("local", "active stack")


def test_configure_holds_for_its_process_only():
    kitaru.configure(retries=2)
    program = "from kitaru.settings import resolve; print(resolve(active_stack='local').retries)"
    core = Path(kitaru.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(core)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "Setting(value=0, source='default')\n"


# --- what a value may be --------------------------------------------------------------------------

WRONG = [
    ("retries", -1, "a whole number >= 0"),
    ("retries", True, "a whole number >= 0"),
    ("retries", 1.0, "a whole number >= 0"),
    ("retries", "2", "a whole number >= 0"),
    ("cache", 1, "true or false"),
    ("cache", "yes", "true or false"),
    ("stack", "", "the name of a stack"),
    ("stack", " gpu", "the name of a stack"),
    ("stack", 3, "the name of a stack"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
@pytest.mark.parametrize("owner", ["run", "@flow agent", "configure()"])
def test_a_wrong_value_is_refused_with_who_names_it_and_what_is_allowed(
    owner: str, name: str, value: Any, allowed: str
):
    given: dict[str, Any] = {name: value}
    calls: dict[str, Callable[[], object]] = {
        "run": lambda: found(run=given),
        "@flow agent": lambda: found(flow=given),
        "configure()": lambda: kitaru.configure(**given),
    }
    assert refusal(calls[owner]) == f"{owner}: {name} is {value!r}; it must be {allowed}."


def test_an_unknown_setting_is_refused_with_those_there_are():
    message = refusal(lambda: checked("run", {"retry": 1}))
    assert message == "run: there is no setting 'retry'; there are retries, cache, stack."


def test_a_wrong_value_is_refused_even_where_another_layer_hides_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KITARU_RETRIES", "many")
    assert "KITARU_RETRIES" in refusal(lambda: found(run={"retries": 1}))


# --- the environment ------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["1", "true", "T", "Yes", "y", "ON", " on "])
def test_the_environment_says_yes(monkeypatch: pytest.MonkeyPatch, word: str):
    monkeypatch.setenv("KITARU_CACHE", word)
    assert found().cache == Setting(True, "KITARU_CACHE")


@pytest.mark.parametrize("word", ["0", "FALSE", "f", "no", "N", "Off"])
def test_the_environment_says_no(monkeypatch: pytest.MonkeyPatch, word: str):
    monkeypatch.setenv("KITARU_CACHE", word)
    assert found().cache == Setting(False, "KITARU_CACHE")


@pytest.mark.parametrize("word", ["", "maybe", "2", "tru", "nein"])
def test_another_word_for_yes_or_no_is_refused(monkeypatch: pytest.MonkeyPatch, word: str):
    monkeypatch.setenv("KITARU_CACHE", word)
    message = refusal(found)
    assert message.startswith(f"KITARU_CACHE is {word!r}; use one of 1, true, t, yes, y, on or")
    assert message.endswith("one of 0, false, f, no, n, off.")


@pytest.mark.parametrize(
    "text", ["", "-1", "many", "1.5", "true", pytest.param("9" * 5000, id="too long")]
)
def test_a_variable_that_is_no_whole_number_is_refused(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("KITARU_RETRIES", text)
    message = refusal(found)
    assert message.startswith("KITARU_RETRIES: retries is ")
    assert message.endswith("it must be a whole number >= 0.")
    assert len(message) < 200


def test_an_empty_stack_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KITARU_STACK", "")
    assert refusal(found) == "KITARU_STACK: stack is ''; it must be the name of a stack."


def test_a_variable_of_another_program_is_let_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KITARU_RUNNER", "theirs")
    assert found().stack == Setting("local", "active stack")


@pytest.mark.parametrize(("word", "allowed"), [(None, False), ("yes", True), ("0", False)])
def test_a_network_home_is_allowed_by_any_word_for_yes(
    monkeypatch: pytest.MonkeyPatch, word: str | None, allowed: bool
):
    if word is not None:
        monkeypatch.setenv("KITARU_ALLOW_NETWORK_HOME", word)
    assert config.allow_network_home() is allowed


def test_a_network_home_is_not_allowed_by_a_word_that_says_neither(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KITARU_ALLOW_NETWORK_HOME", "sure")
    assert refusal(config.allow_network_home).startswith("KITARU_ALLOW_NETWORK_HOME is 'sure'")


# --- pyproject.toml -------------------------------------------------------------------------------


def test_the_nearest_project_file_upward_counts_and_no_other(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    deep = project / "src" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    outer = toml(project, "[tool.kitaru]\nretries = 1\n")
    assert found().retries == Setting(1, f"{outer} [tool.kitaru] retries")
    (deep / "pyproject.toml").mkdir()  # not a file
    assert found().retries.value == 1
    toml(project / "src", "[project]\nname = 'inner'\n")
    assert found().retries == Setting(0, "default")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[tool.kitaru]\nretries = -1", "{path} [tool.kitaru]: retries is -1; it must be a whole"),
        ("[tool.kitaru]\nretries = '1'", "{path} [tool.kitaru]: retries is '1'; it must be"),
        ("[tool.kitaru]\ncache = 1", "{path} [tool.kitaru]: cache is 1; it must be true or false"),
        ("[tool.kitaru]\nretry = 1", "{path} [tool.kitaru]: there is no setting 'retry'; there"),
        ("[tool.kitaru.stack]\na = 1", "{path} [tool.kitaru]: stack is {{'a': 1}}; it must be"),
        ("[tool]\nkitaru = 3", "{path} [tool.kitaru] is 3; it must be a table."),
        ("tool = 3", "{path} [tool.kitaru] is 3; it must be a table."),
        ("[[tool.kitaru]]\nretries = 1", "{path} [tool.kitaru] is [{{'retries': 1}}]; it must be"),
        ("[tool.kitaru\n", "{path} cannot be read as TOML: Expected ']' "),
        pytest.param("a = " + "[" * 5000, "{path} cannot be read as TOML: ", id="too deep"),
    ],
)
def test_a_wrong_project_file_is_refused_by_name(project: Path, text: str, complaint: str):
    path = toml(project, text)
    assert refusal(found).startswith(complaint.format(path=path))


def test_a_project_file_that_is_not_text_is_refused_by_name(project: Path):
    path = project / "pyproject.toml"
    path.write_bytes(b"a = '\xff'")
    assert refusal(found).startswith(f"{path} cannot be read as TOML: 'utf-8' codec")


def test_a_project_file_without_a_table_of_ours_sets_nothing(project: Path):
    toml(project, "[tool.other]\nretries = 5\n")
    assert found().retries == Setting(0, "default")


def test_a_working_directory_that_is_gone_is_in_no_project(project: Path):
    toml(project, "[tool.kitaru]\nretries = 1\n")
    shutil.rmtree(project)
    assert found().retries == Setting(0, "default")
