"""Records of types that the code has changed meanwhile."""

from __future__ import annotations

import pytest

from kitaru.errors import KitaruDivergenceError
from tests import drives

pytestmark = pytest.mark.usefixtures("home")


def test_a_recorded_result_of_another_type_than_the_code_declares_is_no_branch_of_the_flow():
    source = """
    from dataclasses import dataclass

    @dataclass
    class Draft:
        text: str

    @checkpoint
    def write() -> RETURNS:
        return Draft("words")

    @flow
    def agent() -> str:
        try:
            text = write().text
        except Exception:
            return "swallowed"
        if fails:
            raise RuntimeError("stop here")
        return text
    """
    before = drives.load(source.replace("RETURNS", "Draft"), fails=True)
    handle = before.run()
    drives.error_of(handle)
    after = drives.load(source.replace("RETURNS", "int"), fails=False)

    error = drives.error_of(drives.again("retry", after, handle.exec_id))

    assert isinstance(error, KitaruDivergenceError)
    assert "call 1 (write)" in str(error)
    restored = drives.load(source.replace("RETURNS", "Draft"), fails=False)
    assert drives.again("retry", restored, handle.exec_id).wait(20) == "words"
