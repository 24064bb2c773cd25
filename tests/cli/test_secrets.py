"""`kitaru secrets`."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import kitaru
from tests.terminals import Terminal

VALUE = "canary-5f1e9b/07"


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Gives commands their standard input."""

    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    give(b"")
    return give


def test_a_secret_is_set_shown_listed_and_deleted(cli):
    place = cli.home / "secrets.json"
    assert cli.good("secrets", "set", "openai", f"--API_KEY={VALUE}", "--PIN=0815") == (
        f"Saved secret: openai\n  Keys: API_KEY, PIN\n  Kept in: {place}\n"
        "  Too short to be masked in text: PIN\n"
    )
    assert cli.good("secrets", "show", "openai") == (
        f"Kitaru secret\n  Name: openai\n  Kept in: {place}\n"
        "  API_KEY: 16 characters\n  PIN: 4 characters\n"
    )
    assert f"\n  API_KEY: {VALUE}\n" in cli.good("secrets", "show", "openai", "--reveal")
    listed = cli.good("secrets", "list").splitlines()
    assert listed[-1].split("   ") == ["  openai", "API_KEY, PIN", str(place)]
    assert cli.good("secrets", "delete", "openai") == "Deleted secret: openai\n"
    assert cli.good("secrets", "list") == "Kitaru secrets\n  secrets: none found\n"


def test_json_has_values_only_when_they_are_to_be_revealed(cli):
    kept = {"name": "a", "keys": ["K"], "kept_in": "file"} | {
        "location": str(cli.home / "secrets.json")
    }
    made = cli.json("secrets", "set", "a", f"--K={VALUE}")
    assert made.document == {"command": "secrets.set", "item": kept | {"unmasked_keys": []}}
    assert cli.json("secrets", "list").items == [kept]
    assert cli.json("secrets", "show", "a").item == kept | {"lengths": {"K": 16}}
    assert cli.json("secrets", "show", "a", "--reveal").item["values"] == {"K": VALUE}
    gone = cli.json("secrets", "delete", "a")
    assert gone.document == {"command": "secrets.delete", "item": {"name": "a", "deleted": True}}


def test_setting_merges_unless_it_replaces(cli):
    cli.good("secrets", "set", "a", "--ONE=1=2 3", "--TWO=2")
    cli.good("secrets", "set", "--THREE=3", "a", "-o", "json")
    assert dict(kitaru.get_secret("a").values) == {"ONE": "1=2 3", "TWO": "2", "THREE": "3"}
    cli.good("secrets", "set", "a", "--replace", "--output=json", "--FOUR=line\nline")
    assert dict(kitaru.get_secret("a").values) == {"FOUR": "line\nline"}


def test_a_value_comes_from_standard_input(cli, stdin):
    stdin(f"{VALUE}\n\n".encode())
    cli.good("secrets", "set", "a", "--K=-")
    assert kitaru.get_secret("a")["K"] == f"{VALUE}\n"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["a"], "at least one --KEY"),
        ([f"--K={VALUE}"], "Missing argument 'NAME'"),
        (["a", f"K={VALUE}"], "Argument 2 is neither"),
        (["a", "--K", VALUE], "Argument 3 is neither"),
        (["a", f"-K={VALUE}"], "Argument 2 is neither"),
        (["a", f"--={VALUE}"], "Argument 2 is neither"),
        (["a", f"--K={VALUE}", f"--K={VALUE}"], "--K is given twice"),
        (["a", "--K=-", "--L=-"], "give --KEY=- once"),
        (["a", "--K"], "there is none. Give --K=-"),
        (["a", f"--K={VALUE}", "-o"], "'-o' requires an argument"),
        (["a", "-o", f"--K={VALUE}"], "'-o' requires an argument"),
        (["a", f"--K={VALUE}\udcff"], "not UTF-8"),
        (["a", "--K=-"], "is not UTF-8"),
    ],
)
def test_a_command_line_that_cannot_be_right_exits_with_2_and_quotes_no_value(
    cli, stdin, args, says
):
    stdin(b"\xff" + VALUE.encode())
    refused = cli("secrets", "set", *args)
    assert refused.code == 2
    assert says in refused.err
    assert VALUE not in refused.err + refused.out
    assert not [*cli.home.iterdir()]


@pytest.mark.parametrize(
    ("args", "error", "says"),
    [
        (["set", "a b", f"--K={VALUE}"], "KitaruUsageError", "name"),
        (["set", "a", f"--9K={VALUE}"], "KitaruUsageError", "'9K' cannot be a key"),
        (["set", "a", "--K="], "KitaruUsageError", "the value of K has 0 characters"),
        (["show", "a"], "KitaruNotFoundError", "No secret 'a'"),
        (["delete", "a"], "KitaruNotFoundError", "No secret 'a'"),
    ],
)
def test_what_cannot_be_done_is_refused_with_1(cli, args, error, says):
    refused = cli.json("secrets", *args)
    assert refused.code == 1
    assert refused.error["type"] == error
    assert says in refused.error["message"]
    assert VALUE not in refused.err


def test_a_value_is_asked_for_on_a_terminal_and_not_shown(home):
    command = [sys.executable, "-m", "kitaru.cli", "secrets", "set", "a", "--K"]
    terminal = Terminal(command, columns=200)
    terminal.expect("K: ")
    terminal.type(f"{VALUE}\n")
    shown = terminal.all()
    terminal.close()
    assert "Saved secret: a" in shown
    assert VALUE not in shown
    assert kitaru.get_secret("a")["K"] == VALUE


def test_ctrl_c_at_the_question_keeps_nothing(home):
    terminal = Terminal([sys.executable, "-m", "kitaru.cli", "secrets", "set", "a", "--K"])
    terminal.expect("K: ")
    terminal.process.send_signal(signal.SIGINT)
    terminal.all()
    terminal.close()
    assert terminal.process.returncode == 130
    assert not (home / "secrets.json").exists()


def test_registered_values_are_masked_in_every_answer(cli):
    exec_id = cli.completed(topic=VALUE)
    cli.good("secrets", "set", "a", f"--K={VALUE}")
    for args in (
        ["executions", "get", exec_id],
        ["executions", "logs", exec_id],
        ["artifacts", "get", f"{exec_id}/research"],
        ["artifacts", "get", f"{exec_id}/research/sources"],
    ):
        for how in ("text", "json"):
            shown = cli(*args, "-o", how)
            assert shown.code == 0
            assert VALUE not in shown.out
        assert "[redacted]" in shown.out
    refused = cli("executions", "get", VALUE)
    assert "No execution '[redacted]'" in refused.err
