"""`kitaru model`."""

from __future__ import annotations

FAST = {"alias": "fast", "model": "openai/gpt-5-nano", "secret": None, "is_default": True}


def test_aliases_are_registered_listed_made_the_default_and_deleted(cli):
    assert cli.good("model", "list") == "Kitaru models\n  models: none found\n"
    assert cli.good("model", "register", "fast", "--model", "openai/gpt-5-nano") == (
        "Saved model alias: fast\n  Model: openai/gpt-5-nano | Default alias\n"
    )
    cli.good("secrets", "set", "mine", "--API_KEY=0123456789")
    made = cli.good(
        "model", "register", "deep", "--model", "anthropic/claude-opus", "--secret", "mine"
    )
    assert made == "Saved model alias: deep\n  Model: anthropic/claude-opus | Secret: mine\n"
    assert cli.good("model", "default", "deep").startswith("Default model alias: deep\n")
    assert cli.good("model", "list") == (
        "Kitaru models\n  deep: anthropic/claude-opus [default]\n  fast: openai/gpt-5-nano\n"
    )
    assert cli.good("model", "delete", "fast") == "Deleted model alias: fast\n"


def test_answers_in_json(cli):
    made = cli.json("model", "register", "fast", "--model", "openai/gpt-5-nano")
    assert made.document == {"command": "model.register", "item": FAST}
    assert cli.json("model", "default", "fast").item == FAST
    assert cli.json("model", "list").items == [FAST]
    assert cli.json("model", "delete", "fast").item == {"alias": "fast", "deleted": True}


def test_what_cannot_be_done_is_refused(cli):
    refused = cli.json("model", "register", "fast", "--model", "acme/x")
    assert (refused.code, refused.error["type"]) == (1, "KitaruUsageError")
    refused = cli.json("model", "delete", "fast")
    assert (refused.code, refused.error["type"]) == (1, "KitaruNotFoundError")
    assert cli("model", "register", "fast").code == 2
