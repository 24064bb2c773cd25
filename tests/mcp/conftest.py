"""One place and one server for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mcp.serving import Place, Served, served


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place.under(tmp_path_factory.mktemp("mcp"))


@pytest.fixture(scope="module")
def modern(place: Place) -> Iterator[Served]:
    """A server in the newer era, for what no era makes a difference to."""
    with served(place) as running:
        yield running


@pytest.fixture(scope="module", params=["auto", "legacy"])
def server(request: pytest.FixtureRequest, place: Place) -> Iterator[Served]:
    """A server, in both eras of the protocol."""
    with served(place, mode=request.param) as running:
        yield running
