"""`kitaru stack`."""

from __future__ import annotations

import pytest

LOCAL = {"name": "local", "type": "local", "is_active": True}


def test_local_is_listed_and_current_and_looking_makes_no_store(cli):
    listed = cli.json("stack", "list")
    assert (listed.document["command"], listed.items) == ("stack.list", [LOCAL])
    current = cli.json("stack", "current")
    assert (current.document["command"], current.item) == ("stack.current", LOCAL)
    assert cli.good("stack", "list") == "Kitaru stacks\n  local: local (active)\n"
    assert cli.good("stack", "current") == "Active stack: local\n  Type: local (active)\n"
    assert not [*cli.home.iterdir()]


def test_a_stack_is_created_used_and_deleted(cli):
    assert cli.good("stack", "create", "gpu") == "Created stack: gpu\n  Type: local\n"
    assert cli.good("stack", "use", "gpu") == "Activated stack: gpu\n  Type: local (active)\n"
    assert cli.good("stack", "list") == "Kitaru stacks\n  local: local\n  gpu: local (active)\n"
    cli.good("stack", "use", "local")
    assert cli.good("stack", "delete", "gpu") == "Deleted stack: gpu\n"
    assert cli.json("stack", "list").items == [LOCAL]


def test_acting_commands_answer_in_json(cli):
    made = cli.json("stack", "create", "gpu", "--type", "local")
    assert made.document == {
        "command": "stack.create",
        "item": {"name": "gpu", "type": "local", "is_active": False},
    }
    assert cli.json("stack", "use", "gpu").item["is_active"] is True
    cli.json("stack", "use", "local")
    deleted = cli.json("stack", "delete", "gpu")
    assert deleted.document == {
        "command": "stack.delete",
        "item": {"name": "gpu", "deleted": True},
    }


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["use", "nope"], "KitaruStateError", "kitaru stack create nope"),
        (["delete", "nope"], "KitaruStateError", "Stack 'nope' not found."),
        (["delete", "local"], "KitaruStateError", "built in"),
        (["create", "local"], "KitaruStateError", "exists already"),
        (["create", "gpu", "--type", "kubernetes"], "KitaruUsageError", "'kubernetes'"),
        (["create", "a/b"], "KitaruUsageError", "Stack name 'a/b'"),
    ],
)
def test_what_cannot_be_done_is_refused_with_1_and_changes_nothing(cli, arguments, error, says):
    refused = cli.json("stack", *arguments)
    assert refused.code == 1
    assert refused.error["type"] == error
    assert says in refused.error["message"]
    assert cli.json("stack", "list").items == [LOCAL]
