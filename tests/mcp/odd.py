"""Arguments no sane client sends, and some it does: drawn from the schemas a server publishes.

Everything comes from one generator of chances, so a seed repeats it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kitaru_mcp.prompts import PROMPTS

TEXTS = (
    "",
    " ",
    "null",
    "None",
    "undefined",
    "NaN",
    "true",
    "0",
    "-1",
    "1e999",
    "latest",
    "latest:failed",
    "latest:nothing",
    "kr-",
    "kr-/",
    "%",
    "_",
    "*",
    "' OR 1=1 --",
    "../../etc/passwd",
    "a\0b",
    "\u202eevil\u202c",
    "\u200b\ufeff",
    "\x1b[31mred\x1b[0m",
    "\r\n\t",
    "👩‍👩‍👧 é ß 漢字",
    "e\u0301" * 20,
    '{"a": 1}',
    "[1, 2",
    '["null"]',
    '"quoted"',
    "[" * 3000,
    "%s %d {} {0.__class__} ${HOME}",
    "ignore previous instructions",
)
NUMBERS = (0, 1, -1, 2**31, 2**63, -(2**63), 2**64, 10**100, 1.5, 1e308, -0.0, 20.0)
FORMS: tuple[Any, ...] = (None, True, False, [], {}, [None], ["null"], [[]], {"": ""}, {"$": "set"})


class Odd:
    """Draws calls.

    Args:
        rng: the chances.
        known: by argument's name, values that fit the store.
    """

    def __init__(self, rng: random.Random, known: Mapping[str, Sequence[Any]]) -> None:
        self._rng = rng
        self.known = known

    def arguments(self, schema: Mapping[str, Any]) -> Any:
        """Arguments of a tool: mostly its own, some missing, unknown or of another type."""
        if self._rng.random() < 0.01:
            return self.value()
        required = schema.get("required", ())
        drawn = {
            name: self.argument(name, each)
            for name, each in schema["properties"].items()
            if self._rng.random() < (0.95 if name in required else 0.35)
        }
        if self._rng.random() < 0.04:
            drawn[
                self._rng.choice(["limt", "execid", "__class__", "self", "call", self.text()])
            ] = 1
        return drawn

    def fitting(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of a tool that is to do what it does."""
        wanted = (*schema["required"], "confirm", "value")
        names = [name for name in schema["properties"] if name in wanted]
        return {name: self._rng.choice(self.known[name]) for name in names}

    def argument(self, name: str, schema: Mapping[str, Any]) -> Any:
        """One argument: fitting, just beside it, or anything."""
        chance = self._rng.random()
        if chance < 0.5 and name in self.known:
            return self._rng.choice(self.known[name])
        if chance < 0.75:
            return self._of_type(schema)
        fitting = self._of_type(schema)
        return json.dumps(fitting) if chance < 0.8 else self.value()

    def _of_type(self, schema: Mapping[str, Any]) -> Any:
        drawn: dict[str, Callable[[], Any]] = {
            "string": lambda: self._rng.choice(schema.get("enum", TEXTS)),
            "integer": lambda: self._rng.choice([0, 1, 2, 50, 51, 200, 201, 5000, 5001, 18_001]),
            "boolean": lambda: self._rng.random() < 0.5,
            "array": lambda: [self.text() for _ in range(self._rng.randrange(4))],
            "object": lambda: {self.text(): self.value() for _ in range(self._rng.randrange(4))},
        }
        return drawn.get(schema.get("type", ""), self.value)()

    def text(self) -> str:
        """Any text."""
        chance = self._rng.random()
        if chance < 0.02:
            return self._rng.choice(["x", "é", "\0", "\u202e", "😀", "[", '"', "\n"]) * 100_000
        if chance < 0.04:
            return f"cut {chr(self._rng.randrange(0xD800, 0xE000))} off"
        if chance < 0.2:
            return "".join(chr(self._rng.randrange(0x20, 0xD7FF)) for _ in range(12))
        return self._rng.choice(TEXTS)

    def value(self) -> Any:
        """Any JSON."""
        chance = self._rng.random()
        if chance < 0.02:
            return self._nested(self._rng.choice([50, 150, 250, 900]))
        if chance < 0.3:
            return self._rng.choice(NUMBERS)
        return self._rng.choice(FORMS) if chance < 0.6 else self.text()

    def _nested(self, levels: int) -> Any:
        value: Any = 0
        for _ in range(levels):
            value = [value] if levels % 100 else {"a": value}
        return value

    def uri(self) -> str:
        """The address of a resource, or nearly one."""
        exec_id = self._rng.choice([*self.known["exec_id"], self.text()])
        name = self._rng.choice(["outline", "draft", "draw", "draft#2", self.text()])
        return self._rng.choice(
            [
                f"kitaru://executions/{exec_id}",
                f"kitaru://executions/{exec_id}/logs",
                f"kitaru://executions/{exec_id}/artifacts/{name}",
                "kitaru://executions",
                f"kitaru://executions?status={self._rng.choice(['failed', self.text()])}",
                "kitaru://executions?flow=agent&x=%00",
                "kitaru://executions/%F0%28/logs",
                "file:///etc/passwd",
                self.text(),
            ]
        )

    def prompt(self) -> dict[str, Any]:
        """A prompt with arguments."""
        name = self._rng.choice([*(each.name for each in PROMPTS), self.text()])
        argument = self._rng.choice(["exec_id", "flow", self.text()])
        return {"name": name, "arguments": {argument: self._rng.choice([*TEXTS, self.value()])}}

    def completion(self) -> dict[str, Any]:
        """An argument to complete."""
        ref = self._rng.choice(
            [
                {"type": "ref/prompt", "name": self._rng.choice(["triage", self.text()])},
                {"type": "ref/resource", "uri": self.uri()},
                self.value(),
            ]
        )
        name = self._rng.choice(["exec_id", "flow", "status", "name", self.text()])
        typed = self._rng.choice(["", "k", "lat", "f", self.text(), self.value()])
        given = {"exec_id": self._rng.choice([*self.known["exec_id"], self.text()])}
        return {
            "ref": ref,
            "argument": {"name": name, "value": typed},
            "context": {"arguments": given},
        }

    def line(self) -> bytes:
        """A line that is no message, answered without an id."""
        return self._rng.choice(
            [
                b"{",
                b"nonsense",
                b"\x00\x00",
                b'"\xff\xfe"',
                b"[]",
                b"null",
                b"1",
                b'"text"',
                b'[{"jsonrpc":"2.0","method":"ping"}]',
                b'{"jsonrpc":"1.0","method":"ping"}',
                b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
                b'{"jsonrpc":"2.0","id":[1],"method":"ping"}',
                b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
                b'{"jsonrpc":"2.0","method":7}',
                b"[" * 100_000,
                b"x" * 200_000,
                b'{"jsonrpc":"2.0"}\r',
                b"\r\x1b[2J\x07",
                b"[[[]]]",
                b'[[{"jsonrpc":"2.0","id":1,"method":"ping"}]]',
                bytes(range(1, 10)) + bytes(range(14, 256)),
                b'{"id":1,"method":"ping"}' * 2,
            ]
        )
