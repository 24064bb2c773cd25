"""Rendering: secrets masked by key, and no control character leaves unescaped."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

import kitaru
from kitaru import KitaruClient, checkpoint, flow, render
from kitaru.models import LogEntry
from tests.drives import error_of, left

ANY_TEXT = st.text(st.characters(exclude_categories=[]))
SECRETS = [
    "password",
    "DB_PASSWORD",
    "passwd",
    "client_secret",
    "api_key",
    "apiKey",
    "API-KEY",
    "authorization",
    "Authorization",
    "github_token",
    "GITHUB_TOKEN",
    "access-token",
    "accessToken",
    "sessionToken",
    "token",
    "private_key",
    "credentials",
]
NO_SECRETS = [
    "total_tokens",
    "kitaru_llm_total_tokens_v1",
    "kitaru_llm_incurred_total_tokens_v1",
    "input_tokens",
    "tokens",
    "max_tokens",
    "tokenizer",
    "author",
    "key",
    "keyboard",
    "monkey",
    "passed",
    "name",
]


class Login(BaseModel):
    api_key: str = Field(min_length=3)


@pytest.mark.parametrize("key", SECRETS)
def test_values_under_keys_of_secrets_are_masked(key):
    for value in (
        "hunter2",
        12345,
        ["hunter2", ["hunter2"]],
        {"inner": "hunter2"},
        [{"a": "hunter2"}],
    ):
        shown = json.dumps(render.shown({"outer": [{key: value}]}))
        assert "hunter2" not in shown
        assert "12345" not in shown
        assert "[redacted]" in shown
    assert render.shown({key: None}) == {key: None}
    assert render.shown({key: True}) == {key: True}


@pytest.mark.parametrize("key", NO_SECRETS)
def test_values_under_other_keys_are_shown(key):
    assert render.shown({key: 12, "b": {key: "text"}}) == {key: 12, "b": {key: "text"}}


def test_a_list_of_access_tokens_is_no_count_of_tokens():
    assert render.shown({"access_tokens": ["t1"], "secret_tokens": "t2"}) == {
        "access_tokens": ["[redacted]"],
        "secret_tokens": "[redacted]",
    }
    assert render.shown({"access_tokens": 3}) == {"access_tokens": 3}


def test_the_schema_of_a_question_shows_what_a_secret_field_must_be(home: Path):
    @flow
    def asking() -> None:
        kitaru.wait(name="login", schema=Login, metadata={"api_key": "hunter2"}, timeout=0)

    execution = left(asking.run().exec_id)
    for shown in (render.full(execution), render.summary(execution)):
        assert shown["pending_wait"]["schema"]["properties"]["api_key"]["minLength"] == 3
        assert shown["pending_wait"]["metadata"] == {"api_key": "[redacted]"}


@given(ANY_TEXT)
def test_no_control_or_format_character_leaves(text):
    shown = render.safe_text(text)
    assert all(
        char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs") for char in shown
    )
    shown.encode()


@given(st.text(st.characters(exclude_categories=["C"])))
def test_other_text_is_shown_as_it_is(text):
    assert render.safe_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\rb\0", "a\\x0db\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("two\nlines\t", "two\nlines\t"),
        ("ไทย é 🔬", "ไทย é 🔬"),
    ],
)
def test_characters_that_deceive_are_shown_escaped(text, shown):
    assert render.safe_text(text) == shown


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=5,
)


@given(st.dictionaries(ANY_TEXT, JSON))
def test_what_is_shown_is_json_with_safe_text_only(data):
    shown = json.dumps(render.shown(data), ensure_ascii=False)
    shown.encode()
    assert all(unicodedata.category(char) not in ("Cc", "Cf", "Cs") for char in shown)


def test_a_line_is_shown_with_time_level_and_checkpoint():
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)
    entry = LogEntry(at, "INFO", "step", "draft", "hello\x1b")
    assert render.log_line(entry) == "2026-11-20T12:00:00+00:00 INFO [draft] hello\\x1b"
    assert render.log_entry(entry) == {
        "timestamp": "2026-11-20T12:00:00+00:00",
        "level": "INFO",
        "source": "step",
        "checkpoint_name": "draft",
        "message": "hello\\x1b",
    }


@checkpoint
def leaky(api_key: str) -> dict[str, Any]:
    kitaru.log(api_key=api_key, seen="\x07")
    kitaru.save("login", {"user": "ada", "password": api_key})
    print(f"bell \x07 {len(api_key)}")
    return {"api_key": api_key, "total_tokens": 7}


@flow
def leaking(api_key: str) -> dict[str, Any]:
    return leaky(api_key)


def test_an_execution_is_shown_without_its_secrets_and_kept_with_them(home: Path):
    handle = leaking.run("hunter2")
    assert handle.wait(20) == {"api_key": "hunter2", "total_tokens": 7}
    client = KitaruClient()
    execution = client.executions.get(handle.exec_id)
    full = render.full(execution)
    assert "hunter2" not in json.dumps([full, render.summary(execution)])
    assert full["result"] == {"api_key": "[redacted]", "total_tokens": 7}
    assert full["inputs"] == {"api_key": "[redacted]"}
    assert full["checkpoints"][0]["metadata"] == {"api_key": "[redacted]", "seen": "\\x07"}
    login, result = client.artifacts.list(handle.exec_id)
    assert render.artifact_value(client, login)["value"] == {
        "user": "ada",
        "password": "[redacted]",
    }
    assert result.load()["api_key"] == "hunter2"
    assert "value" not in render.artifact(login)


def test_a_summary_leaves_out_what_is_large(home: Path):
    error = error_of(flow(name="failing")(lambda: 1 // 0).run())
    execution = KitaruClient().executions.get(str(getattr(error, "exec_id", "")))
    summary = render.summary(execution)
    assert summary["failure"]["message"].startswith("ZeroDivisionError")
    for left_out in ("inputs", "result", "checkpoints", "artifacts", "frozen_execution_spec"):
        assert left_out not in summary
        assert left_out in render.full(execution)
