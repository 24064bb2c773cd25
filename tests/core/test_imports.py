"""What `import kitaru` costs and loads, and that its names are what they say."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kitaru
from tests.support import ROOT

#: Nothing of these is loaded before it is needed.
HEAVY = [
    "anthropic",
    "anyio",
    "asyncio",
    "click",
    "concurrent",
    "genai_prices",
    "httpx",
    "httpx2",
    "inspect",
    "jsonschema",
    "logging",
    "mcp",
    "openai",
    "platformdirs",
    "pydantic",
    "pydantic_core",
    "sqlite3",
    "sqlite_utils",
    "subprocess",
    "tomllib",
    "typing_extensions",
    "unittest",
]


def python(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter that has loaded nothing else of ours."""
    path = f"{ROOT / 'core'}{os.pathsep}{ROOT}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path, "KITARU_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done


def loaded(code: str, home: Path) -> set[str]:
    """The modules that code has loaded, beside those the interpreter starts with."""
    text = f"import sys\nbefore = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    return set(python(text, home).stdout.splitlines()[-1].split())


def test_importing_kitaru_loads_nothing_heavy(tmp_path: Path):
    modules = loaded("import kitaru", tmp_path)
    assert "kitaru" in modules
    assert {name.partition(".")[0] for name in modules}.isdisjoint(HEAVY)
    assert not any(name.startswith("kitaru.") for name in modules)
    assert not list(tmp_path.iterdir())


def test_importing_kitaru_costs_far_less_than_a_tenth_of_a_second(tmp_path: Path):
    text = (
        "import os\nstart = os.times()\nimport kitaru\nend = os.times()\n"
        "print(end.user + end.system - start.user - start.system)"
    )
    seconds = min(float(python(text, tmp_path).stdout) for _ in range(5))
    print(f"import kitaru: {seconds * 1000:.0f} ms of CPU")
    assert seconds <= 0.1


def test_the_decorators_load_neither_servers_nor_models(tmp_path: Path):
    modules = loaded("from kitaru import checkpoint, flow, wait, KitaruClient", tmp_path)
    for heavy in ("mcp", "pydantic", "click", "jsonschema", "anyio", "sqlite_utils.cli"):
        assert heavy not in modules


@pytest.mark.parametrize("code", ["import kitaru.llm", "from kitaru import llm"])
def test_no_providers_sdk_is_loaded_before_a_model_is_asked(code: str, tmp_path: Path):
    modules = loaded(code, tmp_path)
    assert "kitaru.llm" in modules
    sdks = {"anthropic", "genai_prices", "httpx", "httpx2", "openai", "pydantic"}
    assert {name.partition(".")[0] for name in modules}.isdisjoint(sdks)


def test_a_first_flow_loads_neither_mcp_nor_the_clis(tmp_path: Path):
    path = tmp_path / "first.py"
    path.write_text(
        "import kitaru\n@kitaru.checkpoint\ndef one(): return 1\n"
        "@kitaru.flow\ndef first(): return one()\n"
    )
    code = (
        f"sys.path.insert(0, {str(tmp_path)!r})\nimport first\nassert first.first.run().wait() == 1"
    )
    modules = loaded(code, tmp_path / "home")
    assert "kitaru.runtime" in modules
    unwanted = {
        "socket",
        "subprocess",
        "mcp",
        "sqlite_utils.cli",
        "kitaru.cli",
        "kitaru_mcp",
        "pydantic",
        "jsonschema",
    }
    assert modules.isdisjoint(unwanted)


def test_plain_inputs_and_answers_are_taken_without_what_checks_others(tmp_path: Path):
    modules = loaded(
        "from kitaru import answers, inputs, waits\n"
        "assert inputs.conform('text', str, what='a') == 'text'\n"
        "for kind, data in ((bool, b'true'), (int, b'7'), (str, b'\"a\"')):\n"
        "    schema, load = waits._type(kind, name='w')\n"
        "    answers.validate(data, schema, wait='w')\n"
        "    assert type(load(data, 'w')) is kind",
        tmp_path,
    )
    assert modules.isdisjoint({"pydantic", "pydantic_core", "jsonschema", "referencing"})


@pytest.mark.parametrize(
    "first",
    [
        "import kitaru.flow",
        "import kitaru.checkpoint",
        "import kitaru.runtime, kitaru.checkpoint",
        "from kitaru.flow import Flow",
        "from kitaru import Flow, Checkpoint",
        "import importlib; importlib.import_module('kitaru.flow')",
        "import kitaru.client, kitaru.render, kitaru.cli",
    ],
)
def test_flow_and_checkpoint_are_the_decorators_in_any_import_order(first: str, tmp_path: Path):
    code = (
        f"{first}\nimport sys, kitaru\nfrom kitaru import checkpoint, flow\n"
        "assert callable(flow) and callable(checkpoint)\n"
        "assert kitaru.flow is flow and kitaru.checkpoint is checkpoint\n"
        "assert flow is sys.modules['kitaru.flow'].flow\n"
        "from kitaru.flow import flow as same\nassert same is flow\n"
    )
    python(code, tmp_path)


def test_every_public_name_is_there_and_listed():
    assert dir(kitaru) == kitaru.__all__ == sorted(kitaru.__all__)
    for name in kitaru.__all__:
        assert getattr(kitaru, name) is not None
    assert not hasattr(kitaru, "no_such_name")


def test_type_checkers_and_the_interpreter_see_the_same_names():
    source = Path(kitaru.__file__).read_text(encoding="utf-8")
    imported = {
        alias.asname: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert imported == {name: f"kitaru.{module}" for name, module in kitaru._MODULES.items()}


def test_every_error_is_importable_from_the_package():
    from kitaru import errors

    for name, cls in errors.ERROR_TYPES.items():
        assert getattr(kitaru, name) is cls
        assert issubclass(cls, kitaru.KitaruError)
        assert cls.__doc__


def test_a_star_import_gives_the_public_names(tmp_path: Path):
    python("from kitaru import *\nassert callable(flow) and KitaruClient and wait", tmp_path)
