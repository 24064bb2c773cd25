"""Settings of the store's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kitaru import KitaruCorruptionError, config
from kitaru.store import open_store, settings
from tests import support


def test_a_setting_is_put_changed_and_removed(home: Path) -> None:
    store = open_store(config.find_home())
    for value in ({"a": [1, None, "ü"]}, 7, False):
        with store.write() as conn:
            settings.put(conn, "one", value)
            settings.put(conn, "other", "stays")
        with store.snapshot() as conn:
            assert settings.get(conn, "one") == value
    with store.write() as conn:
        settings.remove(conn, "one")
        settings.remove(conn, "one")
        assert settings.get(conn, "one") is None
        assert settings.get(conn, "other") == "stays"


def test_a_damaged_setting_is_an_error(home: Path) -> None:
    store = open_store(config.find_home())
    support.query(home, "INSERT INTO settings VALUES ('one', '{')")
    with store.snapshot() as conn, pytest.raises(KitaruCorruptionError, match="'one'"):
        settings.get(conn, "one")
