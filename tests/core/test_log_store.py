"""The log store: every line goes there at least once, and nothing is lost by whatever fails."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import (
    KitaruBackendError,
    KitaruClient,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    clock,
    config,
    log_store,
    worker,
)
from kitaru.locks import FileLock
from kitaru.log_backends import JsonLines
from kitaru.store import logs
from tests import drives, support
from tests.support import until

TOKEN = "Bearer canary-5f1e9b-and-more"


@kitaru.flow
def says(*words: str) -> None:
    """Each word becomes a line."""
    for word in words:
        print(word)


def say(*words: str) -> str:
    handle = says.run(*words)
    handle.wait()
    return handle.exec_id


def spoken(lines: list[dict[str, Any]]) -> list[str]:
    """The words among lines, without those of runners."""
    return [line["message"] for line in lines if line["source"] == "step"]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lines.jsonl"


class Collector:
    """A real HTTP server; `answers` are what it says in turn, then 200.

    `meanwhile` is called when a request has come and before it is answered.
    """

    def __init__(self) -> None:
        self.answers: list[int | str | bytes | dict[str, Any]] = []
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.meanwhile: Callable[[], object] = lambda: None
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.answer(self)

            do_GET = do_POST

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, request: Any) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.requests.append((request.path, dict(request.headers), json.loads(body or "null")))
        self.meanwhile()
        said = self.answers.pop(0) if self.answers else 200
        if said == "hang up":
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        code = said if isinstance(said, int) else 200
        request.send_response(code)
        if code in (301, 307):
            request.send_header("Location", f"{self.endpoint}/elsewhere")
        data = json.dumps(said if isinstance(said, dict) else {}).encode()
        if isinstance(said, bytes):
            data = said
        if code >= 400:
            data = f"no: {request.headers.get('Authorization')}".encode()
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    @property
    def words(self) -> list[str]:
        """The words of all batches, in the order they came."""
        return [
            record["body"]["stringValue"]
            for _, _, body in self.requests
            for record in records(body)
            if {"key": "kitaru.source", "value": {"stringValue": "step"}} in record["attributes"]
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def records(body: Any) -> list[dict[str, Any]]:
    (resource,) = body["resourceLogs"]
    (scope,) = resource["scopeLogs"]
    found: list[dict[str, Any]] = scope["logRecords"]
    return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    started = Collector()
    yield started
    started.close()


def current() -> log_store.LogStore:
    found = log_store.current_log_store()
    assert found is not None
    return found


# --- what is set ----------------------------------------------------------------------------------


def test_without_one_nothing_is_sent_and_looking_makes_no_store(home: Path) -> None:
    assert log_store.current_log_store() is None
    assert not log_store.reset_log_store()
    with pytest.raises(KitaruStateError, match="No log store is set"):
        log_store.push()
    assert not [*home.iterdir()]


def test_it_begins_with_the_lines_that_come_unless_from_the_start(home: Path, path: Path) -> None:
    say("before")
    made = log_store.set_log_store("jsonl", endpoint=str(path))
    assert (made.backend, made.endpoint, made.unsent) == ("jsonl", str(path), 0)
    say("after")
    assert log_store.push().sent == current().unsent + len(lines_of(path))
    assert spoken(lines_of(path)) == ["after"]
    assert log_store.set_log_store("jsonl", endpoint=path.as_uri(), from_start=True).unsent > 0
    log_store.push()
    assert spoken(lines_of(path)) == ["after", "before", "after"]
    assert log_store.push() == log_store.Pushed(0, 0)


def test_the_same_place_goes_on_where_it_was_and_another_one_begins_anew(
    home: Path, path: Path
) -> None:
    since = log_store.set_log_store("jsonl", endpoint=str(path)).since
    say("kept")
    again = log_store.set_log_store("jsonl", endpoint=str(path))
    assert again.since == since
    assert again.unsent > 0
    assert log_store.set_log_store("jsonl", endpoint=f"{path}.2").unsent == 0
    assert log_store.reset_log_store()
    assert log_store.current_log_store() is None


@pytest.mark.parametrize(
    ("backend", "endpoint", "headers", "says"),
    [
        ("loki", "http://x", None, "there are jsonl, otlp"),
        ("jsonl", "http://x/y", None, "is a file"),
        ("jsonl", "", None, "is a file"),
        ("jsonl", "/", None, "is a folder"),
        ("jsonl", "/tmp/x", {"A": "s:K"}, "takes no headers"),
        ("otlp", "/tmp/x", None, "is a collector"),
        ("otlp", "ftp://x", None, "is a collector"),
        ("otlp", "http://", None, "is a collector"),
        ("otlp", "http://x:99999", None, "is a collector"),
        ("otlp", "http://x/a b", None, "is a collector"),
        ("otlp", "http://me:canary@x", None, "user, password or query"),
        ("otlp", "http://x?token=canary", None, "user, password or query"),
        ("otlp", "http://x", {"Authorization": "Bearer canary"}, "NAME=SECRET:KEY"),
        ("otlp", "http://x", {"Bad name": "s:K"}, "NAME=SECRET:KEY"),
        ("otlp", "http://x", {"A": "s:LINES"}, "line breaks"),
        ("otlp", "http://x", {"A": "s:OTHER"}, "has no key 'OTHER'"),
        ("otlp", "http://x", {"A": "t:K"}, "No secret 't'"),
    ],
)
def test_what_cannot_be_right_is_refused_and_quotes_no_credentials(
    home: Path, backend: str, endpoint: str, headers: Any, says: str
) -> None:
    kitaru.create_secret("s", {"K": "0123456789", "LINES": "canary\nX: y"})
    with pytest.raises((KitaruUsageError, KitaruNotFoundError), match=says) as refused:
        log_store.set_log_store(backend, endpoint=endpoint, headers=headers)
    assert "canary" not in str(refused.value)
    assert log_store.current_log_store() is None


def test_finding_what_is_not_sent_reads_no_whole_table(home: Path) -> None:
    asked: list[str] = []
    with drives.store().snapshot() as conn:
        conn.set_trace_callback(asked.append)
        logs.stored_after(conn, 7, limit=5)
        logs.count_after(conn, 7)
        logs.newest(conn)
        conn.set_trace_callback(None)
        plans = [conn.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall() for sql in asked]
    assert len(plans) == 3
    assert not [row[3] for plan in plans for row in plan if "SCAN" in row[3]]


# --- a file ---------------------------------------------------------------------------------------


def test_a_line_has_everything_and_secrets_are_masked(home: Path, path: Path) -> None:
    kitaru.create_secret("s", {"K": TOKEN})
    log_store.set_log_store("jsonl", endpoint=str(path))
    exec_id = say(f"it is {TOKEN}\x1b[31m")
    log_store.push()
    (line,) = (line for line in lines_of(path) if line["message"].startswith("it is"))
    assert line["message"] == "it is [redacted]\\x1b[31m"
    assert (line["exec_id"], line["flow_name"], line["level"]) == (exec_id, "says", "INFO")
    assert line["timestamp"].endswith("+00:00")
    assert path.stat().st_mode & 0o777 == 0o600
    assert "it is [redacted]\x1b[31m" in [each.message for each in stored()]


def stored() -> list[Any]:
    return [*KitaruClient().executions.logs("latest")]


def test_batches_are_bounded(home: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = JsonLines.send

    def send(self: JsonLines, lines: Any) -> int:
        sizes.append(len(lines))
        return real(self, lines)

    monkeypatch.setattr(JsonLines, "send", send)
    monkeypatch.setattr(config, "LOG_STORE_LINES", 3)
    log_store.set_log_store("jsonl", endpoint=str(path))
    say(*"abcdefg")
    told: list[int] = []
    log_store.push(told=told.append)
    assert spoken(lines_of(path)) == [*"abcdefg"]
    assert max(sizes) == 3
    assert told == sizes
    monkeypatch.setattr(config, "LOG_STORE_BYTES", 10)
    sizes.clear()
    say("h", "i" * 100)
    log_store.push()
    assert set(sizes) == {1}


def test_a_full_disk_leaves_the_file_as_it_was(
    home: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_store.set_log_store("jsonl", endpoint=str(path))
    say("one")
    log_store.push()
    before = path.read_bytes()
    say("two")
    real = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return real(fd, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with pytest.raises(KitaruBackendError, match="No space left"):
            log_store.push()
    assert path.read_bytes() == before
    assert "No space left" in str(current().last_error)
    log_store.push()
    assert spoken(lines_of(path)) == ["one", "two"]
    assert current().last_error is None


def test_behind_half_a_line_of_a_crash_a_new_line_begins(home: Path, path: Path) -> None:
    path.write_text('{"half')
    log_store.set_log_store("jsonl", endpoint=str(path))
    say("whole")
    log_store.push()
    first, *rest = path.read_text().splitlines()
    assert first == '{"half'
    assert spoken([json.loads(line) for line in rest]) == ["whole"]


def test_lines_behind_deleted_ones_are_sent_too(home: Path, path: Path) -> None:
    log_store.set_log_store("jsonl", endpoint=str(path))
    say("one")
    say("two")
    log_store.push()
    support.query(home, "DELETE FROM logs")
    say("three")
    assert current().unsent > 0
    log_store.push()
    assert spoken(lines_of(path)) == ["one", "two", "three"]
    with drives.store().snapshot() as conn:
        assert logs.stored_after(conn, 0, limit=10)[0].id == len(lines_of(path)) - 1


def test_one_process_sends_at_a_time(home: Path, path: Path) -> None:
    log_store.set_log_store("jsonl", endpoint=str(path))
    say("one")
    with FileLock(home / "log-store.lock"), pytest.raises(KitaruStateError, match="is sending"):
        log_store.push()
    assert log_store.push().sent > 0


# --- a collector ----------------------------------------------------------------------------------


def test_a_collector_gets_otlp_with_headers_from_secrets(home: Path, collector: Collector) -> None:
    kitaru.create_secret("otel", {"AUTH": TOKEN})
    log_store.set_log_store(
        "otlp",
        endpoint=f"{collector.endpoint}/v1/logs/",
        headers={"Authorization": "otel:AUTH"},
    )
    exec_id = say("hello")
    log_store.push()
    ((place, headers, body),) = collector.requests
    assert place == "/v1/logs"
    assert headers["Authorization"] == TOKEN
    assert headers["Content-Type"] == "application/json"
    record = next(each for each in records(body) if each["body"]["stringValue"] == "hello")
    assert int(record["timeUnixNano"]) > 1_600_000_000 * 10**9
    assert (record["severityNumber"], record["severityText"]) == (9, "INFO")
    assert {"key": "kitaru.exec_id", "value": {"stringValue": exec_id}} in record["attributes"]
    service = body["resourceLogs"][0]["resource"]["attributes"][0]
    assert service == {"key": "service.name", "value": {"stringValue": "kitaru"}}
    assert TOKEN not in json.dumps(support.dump(home), default=repr)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (503, "answered 503"),
        (401, "answered 401"),
        (301, "answered 301"),
        (307, "answered 307"),
        ("hang up", "broke off|cannot be reached"),
    ],
)
def test_a_batch_that_is_not_taken_is_told_and_sent_again(
    home: Path, collector: Collector, answer: Any, says: str
) -> None:
    kitaru.create_secret("otel", {"AUTH": TOKEN})
    log_store.set_log_store(
        "otlp", endpoint=collector.endpoint, headers={"Authorization": "otel:AUTH"}
    )
    say("one", "two")
    collector.answers = [answer]
    with pytest.raises(KitaruBackendError, match=says) as refused:
        log_store.push()
    assert len(collector.requests) == 1
    failed = current()
    assert failed.last_error is not None
    assert failed.unsent > 0
    assert TOKEN not in failed.last_error
    assert "Nothing is lost" in str(refused.value)
    log_store.push()
    assert collector.words == ["one", "two", "one", "two"]
    assert (current().unsent, current().last_error) == (0, None)


def test_a_collector_that_is_not_there_is_told(home: Path, collector: Collector) -> None:
    collector.close()
    log_store.set_log_store("otlp", endpoint=collector.endpoint)
    say("one")
    with pytest.raises(KitaruBackendError, match="cannot be reached"):
        log_store.push()
    collector._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), object)  # type: ignore[arg-type]
    collector._thread = threading.Thread(target=collector._server.serve_forever, args=(0.01,))
    collector._thread.start()


def test_lines_that_are_refused_for_good_are_told_and_not_sent_again(
    home: Path, collector: Collector
) -> None:
    log_store.set_log_store("otlp", endpoint=collector.endpoint)
    say("one")
    collector.answers = [{"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "old"}}]
    assert log_store.push().rejected == 1
    assert "1 of " in str(current().last_error)
    assert log_store.push() == log_store.Pushed(0, 0)


@pytest.mark.parametrize(
    "answer",
    [b'{"partialSuccess": {"rejectedLogRecords": 1e999}}', b"[" * 60_000, b"\xff", b"[[]]"],
)
def test_an_answer_without_sense_counts_as_taken(
    home: Path, collector: Collector, answer: bytes
) -> None:
    log_store.set_log_store("otlp", endpoint=collector.endpoint)
    say("one")
    collector.answers = [answer]
    assert log_store.push().rejected == 0
    assert (current().unsent, current().last_error) == (0, None)


def test_a_place_set_anew_while_a_batch_is_under_way_is_not_moved(
    home: Path, collector: Collector, path: Path
) -> None:
    log_store.set_log_store("otlp", endpoint=collector.endpoint)
    say("one")
    collector.meanwhile = lambda: log_store.set_log_store(
        "jsonl", endpoint=str(path), from_start=True
    )
    log_store.push()
    assert spoken(lines_of(path)) == ["one"]


def test_what_a_killed_sender_had_under_way_is_sent_again(home: Path, collector: Collector) -> None:
    log_store.set_log_store("otlp", endpoint=collector.endpoint)
    say("one")
    answering = threading.Event()
    collector.meanwhile = lambda: answering.wait(support.DEADLINE_SECONDS)
    sender = support.spawn(home, "-c", "from kitaru import log_store; log_store.push()")
    until(lambda: collector.requests, "the batch has come")
    support.kill(sender)
    collector.meanwhile = lambda: None
    assert current().unsent > 0
    log_store.push()
    assert collector.words == ["one", "one"]
    answering.set()


# --- a worker -------------------------------------------------------------------------------------


class Worker:
    """A resident worker on a thread of its own."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        told = worker.serve(KitaruClient(), stop=self._stop)
        self._thread = threading.Thread(target=lambda: [*told])

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        until(
            lambda: "kitaru-log-store" not in [each.name for each in threading.enumerate()],
            "its sender is gone",
        )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "WORKER_POLL_SECONDS", 0.005)


@pytest.mark.usefixtures("quick")
def test_a_worker_sends_lines_as_they_come_and_again_after_failures(
    home: Path, collector: Collector
) -> None:
    say("one")
    collector.answers = [503, 503]
    with clock.use(support.QuickClock()) as installed, Worker():
        log_store.set_log_store("otlp", endpoint=collector.endpoint, from_start=True)
        until(lambda: collector.words.count("one") == 3, "it is sent again")
        until(lambda: current().last_error is None, "what went wrong is over")
        say("two")
        until(lambda: "two" in collector.words, "the next line is sent")
        assert installed.pauses  # type: ignore[attr-defined]
    assert collector.words == ["one", "one", "one", "two"]


@pytest.mark.usefixtures("quick")
def test_a_worker_waits_its_turn_and_shows_what_went_wrong(home: Path, path: Path) -> None:
    folder = path.parent / "missing"
    log_store.set_log_store("jsonl", endpoint=str(folder / "lines"))
    with FileLock(home / "log-store.lock") as held:
        assert held.is_mine
        with Worker():
            say("one")
            (unsent,) = {current().unsent}
            assert unsent > 0
            assert current().last_error is None
    with Worker():
        until(lambda: current().last_error, "it is shown")
    assert "No such file" in str(current().last_error)
    folder.mkdir()
    log_store.push()
    assert spoken(lines_of(folder / "lines")) == ["one"]


def test_the_worker_command_sends_and_ends_when_it_is_told_to(home: Path, path: Path) -> None:
    log_store.set_log_store("jsonl", endpoint=str(path))
    process = support.spawn(home, "-m", "kitaru.cli", "worker")
    say("one")
    until(lambda: path.exists() and spoken(lines_of(path)) == ["one"], "the line is sent")
    process.terminate()
    assert process.wait(20) == 0
    support.kill(process)


def test_a_worker_that_runs_once_sends_nothing(home: Path, path: Path) -> None:
    log_store.set_log_store("jsonl", endpoint=str(path))
    say("one")
    assert [*worker.serve(KitaruClient(), once=True)] == []
    assert not path.exists()


def test_two_senders_in_a_row_send_each_line_once(home: Path, path: Path) -> None:
    log_store.set_log_store("jsonl", endpoint=str(path))
    say(*map(str, range(50)))
    program = "from kitaru import log_store\nlog_store.push()\n"
    senders = [support.spawn(home, "-c", program, stderr=-3) for _ in range(2)]
    for sender in senders:  # the second may be refused while the first one sends
        sender.wait()
        support.kill(sender)
    if current().unsent:
        log_store.push()
    assert spoken(lines_of(path)) == [*map(str, range(50))]
