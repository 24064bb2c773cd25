"""How a drive ends when its end cannot be recorded."""

from __future__ import annotations

import pytest

from kitaru import launch
from kitaru.errors import KitaruBackendError
from kitaru.handle import drive_here
from tests import drives
from tests.support import query

SOURCE = """
@checkpoint
def first(n: int) -> int:
    return n

@flow
def agent() -> int:
    first(VALUE)
    if fails:
        raise RuntimeError("stop here")
    return 1
"""


@pytest.mark.parametrize(("value", "fails"), [("2", False), ("1", True), ("1", False)])
def test_an_end_that_cannot_be_written_is_told_and_leaves_the_execution_resumable(
    home, value, fails
):
    exec_id = drives.load(SOURCE.replace("VALUE", "1"), fails=True).run().exec_id
    assert drives.left(exec_id).status == "failed"
    flow = drives.load(SOURCE.replace("VALUE", value), fails=fails)
    store = drives.store()
    lease = launch.retry(store, flow.definition, exec_id)
    store._writer.execute("PRAGMA query_only=1")  # SQLite refuses every write from here on
    handle = drive_here(store, flow.definition, lease, interactive=False)
    with pytest.raises(KitaruBackendError, match="cannot be written"):
        handle.wait(20)
    store._writer.execute("PRAGMA query_only=0")
    assert query(home, "PRAGMA integrity_check") == [("ok",)]
    with store.write() as conn:
        conn.execute("UPDATE leases SET expires_at = 0")  # nobody renews it
    restored = drives.load(SOURCE.replace("VALUE", "1"), fails=False)
    assert drives.again("resume", restored, exec_id).wait(20) == 1


@pytest.mark.usefixtures("home")
def test_a_drive_that_is_looked_after_as_it_ends_writes_nothing_more():
    handle = drives.load(SOURCE.replace("VALUE", "1"), fails=False).run()
    assert handle.wait(20) == 1
    handle._driver.ended.wait(20)
    assert list(handle._driver.tick()) == []
