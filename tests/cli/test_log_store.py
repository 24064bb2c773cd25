"""`kitaru log-store`."""

from __future__ import annotations

import json


def test_a_log_store_is_set_shown_pushed_to_and_reset(cli, tmp_path):
    path = tmp_path / "lines.jsonl"
    none = "Kitaru log store\n  Backend: none (logs stay in the store)\n"
    assert cli.good("log-store", "show") == none
    assert cli.json("log-store", "show").item == {"configured": False}
    assert not [*cli.home.iterdir()]
    made = cli.good("log-store", "set", "jsonl", "--endpoint", str(path))
    assert made.startswith(f"Set log store\n  Backend: jsonl\n  Endpoint: {path}\n  Since: 20")
    cli.completed(topic="dogs")
    item = cli.json("log-store", "show").item
    assert (item["configured"], item["backend"], item["last_error"]) == (True, "jsonl", None)
    assert item["unsent"] > 1
    status = cli.json("status").item
    assert status["log_store_status"] == f"jsonl {path} ({item['unsent']} lines not sent yet)"
    assert status["log_store_warning"] is None
    assert "\n  Log store: jsonl " in cli.good("status")
    assert cli.good("log-store", "push") == f"Pushed log lines: {item['unsent']}\n"
    assert cli.json("log-store", "push").item == {"sent": 0, "rejected": 0}
    assert "looking up dogs\\x1b[31m" in [
        json.loads(line)["message"] for line in path.read_text().splitlines()
    ]
    assert "\n  Not sent yet: 0\n  Last error: none\n" in cli.good("log-store", "show")
    assert cli.good("log-store", "reset") == "Reset log store\n"
    assert cli.json("log-store", "reset").item == {"was_set": False}
    assert cli.json("status").item["log_store_status"] == "not set"


def test_what_cannot_be_sent_is_refused_and_shown(cli):
    cli.good("secrets", "set", "otel", "--AUTH=Bearer 0123456789")
    header = "Authorization=otel:AUTH"
    args = ("set", "otlp", "--endpoint", "http://127.0.0.1:1", "--header", header)
    made = cli.json("log-store", *args)
    assert made.document["command"] == "log-store.set"
    assert made.item["headers"] == {"Authorization": "otel:AUTH"}
    cli.completed(topic="dogs")
    refused = cli.json("log-store", "push")
    assert (refused.code, refused.error["type"]) == (1, "KitaruBackendError")
    assert "cannot be reached" in refused.error["message"]
    shown = cli.good("log-store", "show")
    assert "\n  Headers: Authorization from otel:AUTH\n" in shown
    assert "\n  Last error: The log store http://127.0.0.1:1 cannot be reached" in shown
    assert "\n  Last error at: 20" in shown
    assert "cannot be reached" in cli.json("status").item["log_store_warning"]
    assert "\n  Log store warning: The log store" in cli.good("status")


def test_what_cannot_be_right_is_refused(cli):
    refused = cli.json("log-store", "push")
    assert (refused.code, refused.error["type"]) == (1, "KitaruStateError")
    refused = cli.json("log-store", "set", "loki", "--endpoint", "http://x")
    assert (refused.code, refused.error["type"]) == (1, "KitaruUsageError")
    token = ("--header", "Authorization=Bearer canary")
    refused = cli("log-store", "set", "otlp", "--endpoint", "http://x", *token)
    assert refused.code == 1
    assert "canary" not in refused.err
    assert cli("log-store", "set", "jsonl").code == 2
