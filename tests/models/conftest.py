"""A scripted model server for each test, to which all providers' settings lead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from examples.model_server import ModelServer, Reply, Request

KEY = "sk-canary-0123456789abcdef"


class Models:
    """What the server answers, to be set by the test, and what it was asked."""

    def __init__(self) -> None:
        self.reply: Callable[[Request], Reply] = lambda request: Reply(f"re: {request.prompt}")
        self.server = ModelServer(lambda request: self.reply(request))

    def in_turn(self, *replies: Reply) -> None:
        """Answer these, one after the other; the last one again and again."""
        left = [*replies]
        self.reply = lambda request: left.pop(0) if len(left) > 1 else left[0]

    @property
    def requests(self) -> list[Request]:
        return self.server.requests

    @property
    def prompts(self) -> list[str]:
        return [request.prompt for request in self.server.requests]

    @property
    def tokens(self) -> tuple[int, int]:
        return self.server.tokens()


@pytest.fixture
def models(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Models]:
    """The server, and a fresh store."""
    found = Models()
    with found.server:
        for name, value in found.server.settings(KEY).items():
            monkeypatch.setenv(name, value)
        for name in ("KITARU_DEFAULT_MODEL", "ANTHROPIC_AUTH_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield found
