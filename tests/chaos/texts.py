"""Text of every kind, wherever people put it: kept exactly, and shown so that it harms nobody.

It goes in as an input, a result, an artifact's value and name, metadata, a line, a question's name
and its answer. The SDK gives it back as it was; the command line and the MCP server show the same
in JSON, and on their lines nothing that could steer a terminal or hide.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any

import kitaru
from kitaru import KitaruClient, checkpoint, codec, flow
from kitaru.cli import main as command_line
from kitaru.errors import KitaruUsageError
from kitaru.redaction import is_storable
from tests import drives
from tests.chaos.trial import Scope, Trial
from tests.chaos.values import TEXTS, Drawing
from tests.mcp.serving import Place, Served, served


@checkpoint
def tell(text: str) -> str:
    """Put a text wherever a checkpoint can."""
    logging.getLogger("texts").warning("%s", text)
    with contextlib.suppress(KitaruUsageError):
        kitaru.save(text, text, tags=[])
    kitaru.save("value", [text, {text: 1}])
    return text


@flow
def telling(text: str) -> list[str]:
    """The same for a flow's body, and ask for it back."""
    with contextlib.suppress(KitaruUsageError):  # no UTF-8, so no JSON that others read
        kitaru.log(text=text, more={"in": [text]})
    said = tell(text)
    try:
        return [said, kitaru.wait(name=text, schema=str, timeout=0)]
    except KitaruUsageError:
        return [said, kitaru.wait(name="plain", schema=str, timeout=0)]


def is_harmless(shown: str) -> bool:
    """Whether it holds no character that steers a terminal, turns direction, or hides."""
    return not any(
        unicodedata.category(each) in ("Cc", "Cf", "Cs") for each in shown if each != "\n"
    )


def said_by(*arguments: str) -> str:
    """What a command prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert command_line(arguments) == 0
    return output.getvalue()


def judge(text: str, server: Served) -> Counter[str]:
    """Send one text everywhere, and see how it comes back."""
    client, counted = KitaruClient(), Counter[str]()
    exec_id = telling.run(text).exec_id
    drives.left(exec_id)
    (asked,) = client.executions.pending_waits(exec_id)
    counted["names"] += asked.name == text
    # Half of a character is no answer: the flow's type refuses it, and it is asked again.
    answer = text if is_storable(text) else "whole"
    client.executions.input(exec_id, wait=asked.name, value=answer)
    assert drives.again("resume", telling, exec_id).wait(60) == [text, answer]
    found = client.executions.get(exec_id)
    values = {ref.name: ref.load() for ref in found.artifacts if ref.save_type == "manual"}
    counted["names"] += text in values
    assert values.pop("value") == [text, {text: 1}]
    assert all(pair == (text, text) for pair in values.items()), values
    shown = codec.plain(codec.encode(text))
    assert (found.inputs, found.result) == ({"text": shown}, [shown, answer])
    assert found.metadata in ({"text": text, "more": {"in": [text]}}, {})
    counted["metadata"] += bool(found.metadata)
    (line,) = client.executions.logs(exec_id)
    assert line.message == text.encode("utf-8", "backslashreplace").decode()
    _judge_shown(exec_id, text, server)
    return counted


def _judge_shown(exec_id: str, text: str, server: Served) -> None:
    """The command line and the MCP server show the same, and nothing that harms."""
    for command in ("get", "logs", "list"):
        which = () if command == "list" else (exec_id,)
        assert is_harmless(said_by("executions", command, *which)), command
    document = json.loads(said_by("executions", "get", exec_id, "-o", "json"))
    result = document["item"]["result"]
    assert len(result) == 2
    replies: tuple[Callable[[], Any], ...] = (
        lambda: server.reply("kitaru_executions_get", exec_id=exec_id),
        lambda: server.reply("get_execution_logs", exec_id=exec_id),
        lambda: server.reply("kitaru_artifacts_list", exec_id=exec_id),
    )
    for ask in replies:
        reply = ask()
        assert not reply.is_error, reply.text
        assert is_harmless(reply.text), reply.text
    if (
        text.isprintable() and is_storable(text) and len(text) < 1000
    ):  # what is escaped or cut is shown otherwise
        assert result == [text, text]
        assert replies[0]().data["result"] == [text, text]


def run(scope: Scope) -> str:
    """Send the known odd texts, and as many drawn ones."""
    drawing = Drawing(random.Random(scope.rng.getrandbits(64)))
    texts = [*TEXTS, "latest", "kr-", "--help", "a/b", "x#2", " ", "\n"]
    texts = texts[: scope.times(len(texts))]
    texts += [drawing.text() for _ in range(scope.times(30))]
    place, counted = Place.under(scope.home), Counter[str]()
    os.environ |= {"KITARU_HOME": str(place.home), "KITARU_DURABILITY": "normal"}
    with served(place) as server:
        for text in texts:
            counted += judge(text, server)
    return (
        f"{len(texts)} texts as values, {counted['metadata']} as metadata, {counted['names']} as "
        "names (the others were refused), by SDK, command line and MCP: 0 changed, 0 shown that "
        "steer or hide"
    )


TRIALS = (Trial(name="texts", run=run),)
