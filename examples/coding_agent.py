"""A coding agent: a model mends a module whose test fails, with tools, until the test passes.

    python examples/model_server.py -- python examples/coding_agent.py    # offline
    ANTHROPIC_API_KEY=… python examples/coding_agent.py

The model is asked through Anthropic's own SDK (`pip install 'kitaru-mcp[anthropic]'`), and what it
takes is counted with `kitaru.record_llm_usage`. Each turn and each use of a tool is a checkpoint:
with `--crash` the process dies on the way, and `--resume ID` goes on behind what is recorded, which
is not asked for, or paid for, again. The tools read and write in one temporary folder only; the
tests that they run there are code, which a model may have written.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import kitaru

MODEL = "claude-haiku-4-5"
MOST_TURNS = 20
TASK = "`test_stats.py` fails. Mend `stats.py`, leave the test alone, and see that it passes."
FILES = {
    "stats.py": "def median(numbers):\n    return sorted(numbers)[len(numbers) // 2]\n",
    "test_stats.py": """from unittest import TestCase
from stats import median

class TestMedian(TestCase):
    def test_of_an_even_number(self):
        self.assertEqual(median([4, 1, 3, 2]), 2.5)
""",
}


def inside(folder: str, path: str) -> Path:
    """A path that a model gives, in the folder that it may use."""
    found = Path(folder, path).resolve()
    if not found.is_relative_to(Path(folder).resolve()):
        raise PermissionError(f"{path} is outside of the folder")
    return found


@kitaru.checkpoint(type="tool_call")
def read_file(folder: str, path: str) -> str:
    return inside(folder, path).read_text(encoding="utf-8")


@kitaru.checkpoint(type="tool_call")
def write_file(folder: str, path: str, content: str) -> str:
    inside(folder, path).write_text(content, encoding="utf-8")
    return f"wrote {path}"


@kitaru.checkpoint(type="tool_call")
def run_tests(folder: str) -> str:
    command = [sys.executable, "-B", "-m", "unittest"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


CHECKPOINTS: dict[str, Any] = {each.name: each for each in (read_file, write_file, run_tests)}


def tool(name: str, description: str, *parameters: str) -> dict[str, Any]:
    """What the model is told of a tool; all it gives to one is text."""
    texts = {each: {"type": "string"} for each in parameters}
    schema = {"type": "object", "properties": texts, "required": [*parameters]}
    return {"name": name, "description": description, "input_schema": schema}


TOOLS: list[Any] = [
    tool("read_file", "Read a file.", "path"),
    tool("write_file", "Write a file as a whole.", "path", "content"),
    tool("run_tests", "Run the tests, and see what they print."),
]


@kitaru.checkpoint(type="llm_call")
def think(messages: list[Any], model: str) -> list[dict[str, Any]]:
    """The model's next turn, as plain data."""
    try:
        from anthropic import Anthropic
    except ModuleNotFoundError:
        install = "pip install 'kitaru-mcp[anthropic]'"
        raise kitaru.KitaruUsageError(f"There is no Anthropic SDK here: {install}.") from None
    asked: Any = {"model": model, "max_tokens": 4096, "messages": messages, "tools": TOOLS}
    with Anthropic() as client:
        response = client.messages.create(**asked)
    kitaru.record_llm_usage(response)
    if response.stop_reason == "max_tokens":
        raise ValueError("The model's turn was cut off at its longest.")
    return [block.to_dict(mode="json") for block in response.content]


def use(call: dict[str, Any], folder: str) -> dict[str, Any]:
    """Use a tool as the model asks; an error is an answer, too."""
    result = {"type": "tool_result", "tool_use_id": call["id"]}
    try:
        return {**result, "content": CHECKPOINTS[call["name"]](folder, **call["input"])}
    except Exception as error:
        return {**result, "content": f"{type(error).__name__}: {error}", "is_error": True}


@kitaru.flow
def coding_agent(folder: str, model: str = MODEL) -> str:
    messages: list[dict[str, Any]] = [{"role": "user", "content": TASK}]
    for _ in range(MOST_TURNS):
        said = think(messages, model)
        calls = [block for block in said if block["type"] == "tool_use"]
        if not calls:
            return "\n".join(block["text"] for block in said if block["type"] == "text")
        results = [use(call, folder) for call in calls]
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": results}]
    raise RuntimeError(f"It is not done after {MOST_TURNS} turns.")


def main() -> int:
    parser = argparse.ArgumentParser(description="Have a model mend a module.")
    parser.add_argument("--model", default=MODEL, help="one of Anthropic's")
    parser.add_argument("--crash", action="store_true", help="die on the way")
    parser.add_argument("--resume", metavar="ID", help="go on with an execution")
    options = parser.parse_args()
    executions = kitaru.KitaruClient().executions
    if options.resume:
        exec_id = executions.resume(options.resume).exec_id
    else:
        folder = tempfile.mkdtemp(prefix="kitaru-coding-")
        for name, text in FILES.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        exec_id = coding_agent.run(folder, options.model).exec_id
    print(f"Execution {exec_id}", flush=True)
    while not (found := executions.get(exec_id)).status.is_finished:
        if options.crash and len(found.checkpoints) > 2:
            os._exit(1)  # with nothing put in order, as when it is killed
        time.sleep(0.05)
    for call in found.checkpoints:
        tokens = sum(record["usage"]["total_tokens"] for record in call.llm_usage_records)
        print(f"{call.call_id}: {call.status}{f', {tokens} tokens' if tokens else ''}")
    print(found.result if found.failure is None else found.failure.message)
    return 0 if found.failure is None else 1


if __name__ == "__main__":
    sys.exit(main())
