"""A registered secret is in no text that is shown, and a warning tells of it where it is recorded.

`python3 dev chaos canary` lets it out in every way there is, and looks everywhere.
"""

from __future__ import annotations

import base64
import urllib.parse
from pathlib import Path

import pytest

import kitaru
from kitaru import KitaruBackendError, KitaruClient, config, masks, redaction
from kitaru.models import LogEntry
from tests import drives
from tests.chaos import canary

SECRET = "sk-5f1e9b/\"07'é-and-more"


@kitaru.checkpoint
def gives(text: str) -> str:
    return text


@kitaru.checkpoint
def breaks(text: str) -> None:
    raise ValueError(text)


@kitaru.flow
def hands_on(text: str) -> str:
    kitaru.log(note=[text])
    print(text)
    return gives(text)


@kitaru.flow
def goes_on(text: str) -> str:
    try:
        breaks(f"401 for {text}")
    except ValueError as exc:
        return gives(str(exc))
    return "never"


def _away(home: Path) -> None:
    raise KitaruBackendError("The keyring is away.")


def warnings_of(exec_id: str) -> list[LogEntry]:
    lines = KitaruClient().executions.logs(exec_id)
    return [line for line in lines if "holds the registered secret" in line.message]


def test_the_search_finds_a_secret_in_any_form() -> None:
    found = canary.Canary("0123456789abcdefghij/é+klmnopqrstuvwxyz0123")
    for text in (found.secret, repr(found.secret), urllib.parse.quote(found.secret)):
        assert found.is_in(text.encode())
    for before in ("", "u", "us", "use"):
        assert found.is_in(base64.b64encode(f"{before}{found.secret}".encode()))
    assert not found.is_in(b"0123456789abcdef, and other text")


@pytest.mark.parametrize("before", ["", "u", "us", "use"])
@pytest.mark.parametrize("after", ["", "x", "xy"])
def test_its_base64_is_masked_wherever_it_begins(home: Path, before: str, after: str) -> None:
    kitaru.create_secret("a", {"K": SECRET})
    data = f"{before}{SECRET}{after}".encode()
    for encoded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
        shown = redaction.safe_text(f"Basic {encoded.decode()} and on")
        assert redaction.MASK in shown
        assert shown.startswith("Basic ")
        assert shown.endswith(" and on")
        left = shown.removeprefix("Basic ").removesuffix(" and on").split(redaction.MASK)
        assert max(map(len, left)) <= 6, "no more than what holds its neighbours' bits"


def test_it_is_masked_as_a_part_of_an_address(home: Path) -> None:
    kitaru.create_secret("a", {"K": SECRET})
    for encoded in (
        urllib.parse.quote(SECRET),
        urllib.parse.quote(SECRET, safe=""),
        urllib.parse.urlencode({"k": SECRET}).removeprefix("k="),
    ):
        assert redaction.safe_text(f"https://a/?k={encoded}&b") == "https://a/?k=[redacted]&b"


def test_one_in_a_recorded_value_is_kept_and_told_without_it(home: Path) -> None:
    kitaru.create_secret("bank", {"PIN": SECRET})
    handle = hands_on.run(SECRET)
    assert handle.wait() == SECRET
    told = warnings_of(handle.exec_id)
    assert [(line.level, line.checkpoint_name) for line in told] == [
        ("WARNING", None),
        ("WARNING", "gives"),
        ("WARNING", None),
    ]
    assert [
        line.message.partition(" holds the registered secret PIN of 'bank'")[0] for line in told
    ] == [
        "The flow's input",
        "The result of 'gives'",
        "The flow's result",
    ]
    assert SECRET not in "".join(line.message for line in told)


def test_no_warning_without_a_secret_and_none_for_what_is_masked(home: Path) -> None:
    handle = hands_on.run("nothing")
    handle.wait()
    assert not warnings_of(handle.exec_id)
    kitaru.create_secret("bank", {"PIN": SECRET})
    handle = goes_on.run("nothing")
    handle.wait()
    assert not warnings_of(handle.exec_id)


def test_a_flow_that_catches_an_error_gets_it_masked_then_and_in_a_replay(home: Path) -> None:
    kitaru.create_secret("bank", {"PIN": SECRET})
    handle = goes_on.run(SECRET)
    assert handle.wait() == "401 for [redacted]"
    assert goes_on.replay(handle.exec_id, from_="gives").wait() == "401 for [redacted]"


def test_a_warning_is_told_once_however_often_a_flow_is_driven(home: Path) -> None:
    kitaru.create_secret("bank", {"PIN": SECRET})
    failing = kitaru.flow(lambda text: breaks(text), name="failing")
    handle = failing.run(SECRET)
    drives.error_of(handle)
    drives.error_of(drives.again("retry", failing, handle.exec_id))
    assert len(warnings_of(handle.exec_id)) == 1


def test_what_is_shown_only_is_recorded_masked(home: Path) -> None:
    kitaru.create_secret("bank", {"PIN": SECRET})
    handle = hands_on.run(SECRET)
    handle.wait()
    found = KitaruClient().executions.get(handle.exec_id)
    assert found.metadata == {"note": [redaction.MASK]}
    lines = KitaruClient().executions.logs(handle.exec_id)
    assert redaction.MASK in [line.message for line in lines]


def test_a_keyring_that_is_away_stops_neither_lines_nor_failures(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitaru.create_secret("bank", {"PIN": SECRET})
    monkeypatch.setattr(masks, "_values", _away)
    masks.watch(config.find_home())
    handle = hands_on.run("text")
    assert handle.wait() == "text"
    drives.error_of(kitaru.flow(lambda: breaks("text"), name="failing").run())
