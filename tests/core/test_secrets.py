"""Secrets: kept out of the database, masked wherever text is shown, recorded exactly."""

from __future__ import annotations

import json
import os
import pickle
import stat
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import (
    KitaruBackendError,
    KitaruClient,
    KitaruCorruptionError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    masks,
    redaction,
    render,
    secrets,
)
from tests import drives, support
from tests.support import TurnedClock

CANARY = "canary-5f1e9b/07"


class Keyring:
    """A keyring as the library offers it."""

    priority = 5.0

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def _check(self, value: str = "") -> None:
        if self.locked:
            raise RuntimeError(f"locked, with {value}")

    def get_password(self, service: str, key: str) -> str | None:
        self._check()
        return self.kept.get((service, key))

    def set_password(self, service: str, key: str, value: str) -> None:
        self._check(value)
        self.kept[service, key] = value

    def delete_password(self, service: str, key: str) -> None:
        self._check()
        del self.kept[service, key]


def install(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    """Let the library `keyring` be installed, with this backend."""
    module = types.ModuleType("keyring")
    module.get_keyring = lambda: backend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Keyring:
    installed = Keyring()
    install(monkeypatch, installed)
    return installed


def test_a_secret_is_made_read_listed_and_deleted(home: Path) -> None:
    made = kitaru.create_secret("openai", {"API_KEY": CANARY, "ORG": "me"})
    assert made == kitaru.SecretSummary("openai", ("API_KEY", "ORG"), "file")
    found = kitaru.get_secret("openai")
    assert (found["API_KEY"], found["ORG"], found.keys()) == (CANARY, "me", ["API_KEY", "ORG"])
    assert {**found} == dict(found.values)
    assert "ORG" in found
    assert kitaru.list_secrets() == [made]
    assert kitaru.delete_secret("openai") == made
    assert kitaru.list_secrets() == []


def test_the_file_is_private_and_gone_with_the_last_secret_and_no_store_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "new"
    monkeypatch.setenv("KITARU_HOME", str(home))
    kitaru.create_secret("a", {"K": CANARY})
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "secrets.json").stat().st_mode) == 0o600
    kitaru.delete_secret("a")
    assert sorted(path.name for path in home.iterdir()) == ["secrets.lock"]


def test_a_secret_shows_its_keys_only_and_cannot_be_changed_pickled_or_recorded(
    home: Path,
) -> None:
    kitaru.create_secret("openai", {"API_KEY": CANARY})
    found = kitaru.get_secret("openai")
    for text in (repr(found), str(found), f"{found}", f"{[found]}"):
        assert text.strip("[]") == "Secret(name='openai', keys=['API_KEY'])"
    with pytest.raises(AttributeError):
        found.name = "other"
    with pytest.raises(TypeError):
        found.values["API_KEY"] = "other"  # type: ignore[index]
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(found)

    @kitaru.checkpoint
    def leaks() -> Any:
        return kitaru.get_secret("openai")

    @kitaru.flow
    def agent() -> Any:
        return leaks()

    refused = str(drives.error_of(agent.run()))
    assert "KitaruSerializationError" in refused
    assert CANARY not in refused


def test_setting_merges_and_replaces_and_creating_refuses_what_is_there(home: Path) -> None:
    secrets.set_secret("a", {"ONE": "1", "TWO": "2"})
    secrets.set_secret("a", {"TWO": "22", "THREE": "3"})
    assert dict(kitaru.get_secret("a").values) == {"ONE": "1", "TWO": "22", "THREE": "3"}
    assert secrets.set_secret("a", {"FOUR": "4"}, replace=True).keys == ("FOUR",)
    with pytest.raises(KitaruStateError, match="exists already"):
        kitaru.create_secret("a", {"FIVE": "5"})
    assert dict(kitaru.get_secret("a").values) == {"FOUR": "4"}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("", {"K": CANARY}),
        ("a b", {"K": CANARY}),
        ("a:b", {"K": CANARY}),
        ("x" * 65, {"K": CANARY}),
        (7, {"K": CANARY}),
        ("a", {}),
        ("a", None),
        ("a", {"9K": CANARY}),
        ("a", {"": CANARY}),
        ("a", {"K=": CANARY}),
        ("a", {"K": ""}),
        ("a", {"K": [CANARY]}),
        ("a", {"K": CANARY + "\udc80"}),
        ("a", {"K": CANARY * 5000}),
    ],
)
def test_what_cannot_be_kept_is_refused_without_the_value(
    home: Path, name: Any, values: Any
) -> None:
    with pytest.raises(KitaruUsageError) as refused:
        secrets.set_secret(name, values)
    assert CANARY not in str(refused.value)
    assert not [*home.iterdir()]


def test_an_unknown_secret_or_key_names_the_nearest(home: Path) -> None:
    with pytest.raises(KitaruNotFoundError, match="none yet"):
        kitaru.get_secret("openai")
    with pytest.raises(KitaruNotFoundError, match="none yet"):
        kitaru.delete_secret("openai")
    assert not [*home.iterdir()]
    kitaru.create_secret("openai", {"API_KEY": CANARY})
    with pytest.raises(KitaruNotFoundError, match="The nearest: openai"):
        kitaru.get_secret("openia")
    with pytest.raises(KitaruNotFoundError, match="it has API_KEY"):
        kitaru.get_secret("openai")["KEY"]
    with pytest.raises(KitaruNotFoundError, match="The nearest: openai"):
        kitaru.delete_secret("opensi")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", KitaruCorruptionError),
        (f'{{"secrets": "{CANARY}', KitaruCorruptionError),
        (f'["{CANARY}"]', KitaruCorruptionError),
        ('{"version": 1, "kept_in": "file", "id": "i", "secrets": {"a": {"K": 1}}}', None),
        ('{"version": 1, "kept_in": "cloud", "id": "i", "secrets": {}}', None),
        ('{"version": 2}', KitaruBackendError),
    ],
)
def test_a_damaged_or_newer_file_is_refused_and_kept(home: Path, text: str, error: Any) -> None:
    (home / "secrets.json").write_text(text)
    for act in (kitaru.list_secrets, lambda: secrets.set_secret("a", {"K": "1"})):
        with pytest.raises(error or KitaruCorruptionError) as refused:
            act()
        assert CANARY not in str(refused.value)
    assert (home / "secrets.json").read_text() == text


def test_a_crash_while_it_is_written_leaves_the_old_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets.set_secret("a", {"K": "one"})

    def full(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(KitaruBackendError, match="No space left"):
            secrets.set_secret("a", {"K": CANARY})
    assert kitaru.get_secret("a")["K"] == "one"
    assert not (home / "secrets.new").exists()
    (home / "secrets.new").write_text("left by a crash")
    assert secrets.set_secret("a", {"K": "two"}).keys == ("K",)


def test_writers_of_several_processes_lose_nothing(home: Path) -> None:
    program = (
        "import sys\nfrom kitaru import secrets\n"
        "for n in range(10): secrets.set_secret('a', {f'K{sys.argv[1]}_{n}': 'v'})\n"
    )
    writers = [support.spawn(home, "-c", program, str(number)) for number in range(3)]
    for writer in writers:
        support.rest(writer)
    assert len(kitaru.list_secrets()[0].keys) == 30


# --- a keyring ------------------------------------------------------------------------------------


def test_with_a_keyring_the_file_has_names_and_keys_only(home: Path, keyring: Keyring) -> None:
    made = kitaru.create_secret("a", {"ONE": CANARY, "TWO": "2"})
    assert made.kept_in == "keyring"
    assert CANARY not in (home / "secrets.json").read_text()
    assert sorted(keyring.kept.values()) == ["2", CANARY]
    assert kitaru.get_secret("a")["ONE"] == CANARY
    secrets.set_secret("a", {"ONE": "1"}, replace=True)
    assert [*keyring.kept.values()] == ["1"]
    kitaru.delete_secret("a")
    assert keyring.kept == {}


@pytest.mark.parametrize("priority", [0, -1])
def test_a_keyring_that_is_none_is_passed_over(
    home: Path, monkeypatch: pytest.MonkeyPatch, priority: float
) -> None:
    backend = Keyring()
    backend.priority = priority  # type: ignore[misc]
    install(monkeypatch, backend)
    assert kitaru.create_secret("a", {"K": CANARY}).kept_in == "file"


def test_a_keyring_that_does_not_start_is_told_and_no_file_takes_its_place(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("keyring")
    module.get_keyring = lambda: 1 / 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)
    with pytest.raises(KitaruBackendError, match="does not start: ZeroDivisionError"):
        kitaru.create_secret("a", {"K": CANARY})
    assert not (home / "secrets.json").exists()


def test_the_place_is_chosen_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kitaru.create_secret("a", {"K": "1"})
    install(monkeypatch, Keyring())
    assert kitaru.create_secret("b", {"K": "2"}).kept_in == "file"
    kitaru.delete_secret("a")
    kitaru.delete_secret("b")
    assert kitaru.create_secret("c", {"K": "3"}).kept_in == "keyring"


def test_a_keyring_that_goes_away_is_an_error_and_nothing_is_shown(
    home: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch, turned: TurnedClock
) -> None:
    exec_id = kitaru.flow(lambda: CANARY, name="tells").run()
    exec_id.wait()
    kitaru.create_secret("a", {"K": CANARY})
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "keyring", None)
        with pytest.raises(KitaruBackendError, match=r"kitaru-mcp\[keyring\]"):
            kitaru.get_secret("a")
        with pytest.raises(KitaruBackendError, match="cannot be reached"):
            kitaru.create_secret("b", {"K": "1"})
        with pytest.raises(KitaruBackendError, match="cannot be reached"):
            kitaru.delete_secret("a")
        assert [each.name for each in kitaru.list_secrets()] == ["a"]
        found = KitaruClient().executions.latest()
        with pytest.raises(KitaruBackendError, match="cannot be reached"):
            render.full(found)
        assert "cannot be reached" in render.safe_message(CANARY)
        # Flows go on all the same.
        assert kitaru.flow(lambda topic: topic, name="goes_on").run(topic={"a": CANARY}).wait()
    turned.turn(masks._AGAIN_SECONDS)
    assert CANARY not in json.dumps(render.full(found))


def test_what_a_keyring_says_and_loses_is_told_without_values(home: Path, keyring: Keyring) -> None:
    kitaru.create_secret("a", {"K": CANARY})
    keyring.locked = True
    for act in (
        lambda: kitaru.get_secret("a"),
        lambda: secrets.set_secret("a", {"K": CANARY}),
    ):
        with pytest.raises(KitaruBackendError, match="RuntimeError: locked") as refused:
            act()
        assert CANARY not in str(refused.value)
    keyring.locked = False
    keyring.kept.clear()
    with pytest.raises(KitaruBackendError, match="no longer in the system's keyring"):
        kitaru.get_secret("a")
    assert redaction.safe_text("text") == "text"
    kitaru.delete_secret("a")


def test_a_secret_that_a_keyring_does_not_let_go_stays(home: Path, keyring: Keyring) -> None:
    kitaru.create_secret("a", {"K": CANARY, "L": "2"})
    keyring.locked = True
    with pytest.raises(KitaruBackendError, match="did not remove K"):
        kitaru.delete_secret("a")
    keyring.locked = False
    assert [each.keys for each in kitaru.list_secrets()] == [("K", "L")]
    assert CANARY not in redaction.safe_text(CANARY)
    kitaru.delete_secret("a")
    assert (keyring.kept, kitaru.list_secrets()) == ({}, [])


# --- masks ----------------------------------------------------------------------------------------


def test_without_secrets_nothing_is_installed(home: Path) -> None:
    KitaruClient().executions.list()
    assert redaction._mask is None
    kitaru.create_secret("a", {"K": CANARY})
    assert redaction._mask is not None
    kitaru.delete_secret("a")
    assert redaction._mask is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (CANARY, f"before {CANARY}, after"),
        ('quo"ted\\one', json.dumps(['quo"ted\\one'])),
        ("quo'ted\"one\n", repr("quo'ted\"one\n")),
        ("gr\u00fc\u00dfe-secret", json.dumps("gr\u00fc\u00dfe-secret")),
        ("-----BEGIN-----\nMIIEvQIBADANBg\n", "line by line:\nMIIEvQIBADANBg"),
        ("Bearer abcdefghijklmnop", "the token is abcdefghijklmnop"),
        (f" {CANARY}\n", f"stripped {CANARY}."),
    ],
)
def test_a_value_is_masked_in_any_form(home: Path, value: str, text: str) -> None:
    kitaru.create_secret("a", {"K": value})
    shown = redaction.safe_text(text)
    assert redaction.MASK in shown
    for piece in value.split():
        assert piece not in shown or len(piece) < masks.LEAST


def test_short_values_are_not_masked_and_of_two_the_longer_one_is_whole(home: Path) -> None:
    kitaru.create_secret("a", {"A": "1234567", "B": "        ", "C": "redacted"})
    assert redaction.safe_text("1234567         [redacted]") == "1234567         [redacted]"
    assert secrets.unmasked({"A": "1234567", "B": "12345678", "C": " " * 9}) == ["A", "C"]
    kitaru.create_secret("b", {"SHORT": "abcdefgh", "LONG": "abcdefgh-and-more"})
    assert redaction.safe_text("abcdefgh-and-more abcdefgh") == "[redacted] [redacted]"


def test_secrets_of_other_processes_are_masked_from_the_next_look_on(home: Path) -> None:
    client = KitaruClient()
    client.executions.list()
    support.run_python(home, f"import kitaru; kitaru.create_secret('a', {{'K': {CANARY!r}}})")
    assert redaction.safe_text(CANARY) == CANARY
    client.executions.list()
    assert redaction.safe_text(CANARY) == redaction.MASK
    support.run_python(home, "import kitaru; kitaru.delete_secret('a')")
    client.executions.list()
    assert redaction.safe_text(CANARY) == CANARY


def test_recorded_values_stay_exact_and_everything_shown_is_masked(home: Path) -> None:
    kitaru.create_secret("a", {"K": CANARY})

    @kitaru.checkpoint
    def talk(said: str) -> list[str]:
        print(f"the key is {CANARY}")
        kitaru.log(note=CANARY)
        kitaru.save("note", {"text": f"<{CANARY}>", CANARY: 1})
        return [said, CANARY]

    @kitaru.flow
    def agent(said: str) -> Any:
        kitaru.wait(name="ask", question=f"Is it {CANARY}?", metadata={"m": CANARY}, timeout=0)
        return talk(said)

    @kitaru.flow
    def breaks() -> None:
        raise ValueError(f"no luck with {CANARY}")

    asks = agent.run(said=CANARY)
    with pytest.raises(KitaruStateError):
        asks.wait()
    client = KitaruClient()
    waiting = json.dumps(render.full(client.executions.get(asks.exec_id)))
    client.executions.input(asks.exec_id, wait="ask", value=True)
    handle = drives.again("resume", agent, asks.exec_id)
    assert handle.wait() == [CANARY, CANARY]
    failed = breaks.run()
    drives.error_of(failed)
    assert client.executions.get(asks.exec_id).result == [CANARY, CANARY]
    refs = client.artifacts.list(asks.exec_id)
    shown = [
        waiting,
        *(json.dumps(render.full(each)) for each in map(client.executions.get, [asks.exec_id])),
        json.dumps(render.full(client.executions.get(failed.exec_id))),
        *(json.dumps(render.log_entry(each)) for each in client.executions.logs(asks.exec_id)),
        *(render.log_line(each) for each in client.executions.logs(asks.exec_id)),
        *(json.dumps(render.artifact_value(client, ref)) for ref in refs),
        *(str(client.artifacts.show(ref.artifact_id).text) for ref in refs),
    ]
    assert len(refs) == 2
    for text in shown:
        assert CANARY not in text
    assert sum(redaction.MASK in text for text in shown) >= 6
