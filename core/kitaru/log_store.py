"""The log store: where a copy of every captured line goes. The lines themselves stay in the store.

Owns the settings that say where that is and how far the copy has come, and the sending: by
`push`, or by a resident worker that is `following`; never by a process that runs a flow. Sending is
at least once: the place moves only after the backend has taken a batch. One process sends at a
time. Lines are redacted like everything that is shown, and headers come from secrets.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kitaru import clock, config, masks, redaction, retry
from kitaru.errors import (
    KitaruError,
    KitaruRuntimeError,
    KitaruStateError,
    KitaruUsageError,
)
from kitaru.frozen import Model
from kitaru.locks import FileLock
from kitaru.secrets import get_secret
from kitaru.store import Store, Transaction, logs, open_store, settings
from kitaru.store.logs import StoredLine

if TYPE_CHECKING:
    from kitaru.log_backends import Line

HomePath = str | os.PathLike[str] | None

_LOCK = "log-store.lock"
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_REFERENCE = re.compile(r"(?P<secret>[\w.-]+):(?P<key>[\w-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class LogStore(Model):
    """Where copies go and since when, how many lines are behind, and what went wrong last.

    `headers` are names of headers with `SECRET:KEY`, where their values are.
    """

    backend: str
    endpoint: str
    headers: Mapping[str, str]
    since: datetime
    unsent: int
    last_error: str | None
    last_error_at: datetime | None


@dataclass(frozen=True, slots=True)
class Pushed(Model):
    """How many lines were taken by a log store, and how many it has refused for good."""

    sent: int
    rejected: int


def current_log_store(*, home: HomePath = None) -> LogStore | None:
    """The log store and how it stands; `None` where none is set.

    Args:
        home: the store's folder; by default found as `kitaru status` says.

    Example:
        >>> from kitaru import log_store
        >>> log_store.current_log_store() is None
        True
    """
    found = config.find_home(home)
    if not found.database.exists():
        return None
    with open_store(found).snapshot() as conn:
        kept = settings.get(conn, logs.LOG_STORE)
        return None if kept is None else _model(conn, kept)


def set_log_store(
    backend: str,
    *,
    endpoint: str,
    headers: Mapping[str, str] | None = None,
    from_start: bool = False,
    home: HomePath = None,
) -> LogStore:
    """Send copies of log lines somewhere from now on; the same place goes on where it was.

    Args:
        backend: `jsonl` or `otlp`.
        endpoint: a file's path or file:// URL; the http address of a collector.
        headers: of otlp: name -> `SECRET:KEY`.
        from_start: whether the lines that are there already are sent, too.
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruUsageError: an argument cannot be right.
        KitaruNotFoundError: there is no such secret or key.

    Example:
        >>> from kitaru import log_store
        >>> log_store.set_log_store("jsonl", endpoint="lines.jsonl").unsent
        0
        >>> log_store.push()
        Pushed(sent=0, rejected=0)
        >>> log_store.reset_log_store()
        True
    """
    from kitaru import log_backends  # an HTTP client, for those who send or set only

    place = log_backends.endpoint_of(backend, endpoint)
    given = dict(headers or {})
    if given and backend != "otlp":
        raise KitaruUsageError(f"A {backend} log store takes no headers.")
    _header_values(given, home=home)
    with open_store(config.find_home(home)).write() as conn:
        earlier = settings.get(conn, logs.LOG_STORE) or {}
        kept: dict[str, Any] = {
            "backend": backend,
            "endpoint": place,
            "headers": given,
            "error": None,
        }
        if not from_start and _place(earlier) == (backend, place):
            kept["since"] = earlier["since"]
        else:
            kept["since"] = clock.now_us()
            settings.put(conn, logs.COPIED, 0 if from_start else _newest(conn))
        settings.put(conn, logs.LOG_STORE, kept)
        return _model(conn, kept)


def reset_log_store(*, home: HomePath = None) -> bool:
    """Send no copies any more; returns whether there was a log store.

    Args:
        home: the store's folder; by default found as `kitaru status` says.

    Example:
        >>> from kitaru import log_store
        >>> log_store.reset_log_store()
        False
    """
    if current_log_store(home=home) is None:
        return False
    with open_store(config.find_home(home)).write() as conn:
        settings.remove(conn, logs.LOG_STORE)
    return True


def push(*, home: HomePath = None, told: Callable[[int], None] | None = None) -> Pushed:
    """Send the lines that are there now and were not sent yet.

    Args:
        home: the store's folder; by default found as `kitaru status` says.
        told: hears of each batch that was taken, how many lines it had.

    Raises:
        KitaruStateError: no log store is set, or another process is sending.
        KitaruBackendError: the backend has not taken a batch; those before it are sent.

    Example:
        >>> from kitaru import log_store
        >>> log_store.push()
        Traceback (most recent call last):
        ...
        kitaru.errors.KitaruStateError: No log store is set. ...
    """
    if current_log_store(home=home) is None:
        raise KitaruStateError(
            "No log store is set. Set one with `kitaru log-store set BACKEND --endpoint URL`."
        )
    store, sent, rejected = open_store(config.find_home(home)), 0, 0
    with _sender(store) as is_mine:
        if not is_mine:
            raise KitaruStateError(
                "Another process is sending log lines now, a worker perhaps. See how far it is "
                "with `kitaru log-store show`."
            )
        with store.snapshot() as conn:
            last = logs.newest(conn)
        while (batch := _send_next(store, last=last)) is not None:
            sent, rejected = sent + batch.sent, rejected + batch.rejected
            if told is not None:
                told(batch.sent + batch.rejected)
    return Pushed(sent, rejected)


@contextlib.contextmanager
def following(store: Store) -> Iterator[None]:
    """Send lines as they come, on a thread of its own, until the block ends."""
    stop = threading.Event()
    name = "kitaru-log-store"
    thread = threading.Thread(target=_follow, args=(store, stop), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        # Not longer: what is under way and not acknowledged is sent again.
        thread.join(config.LOG_STORE_LEAVE_SECONDS)


def _follow(store: Store, stop: threading.Event) -> None:
    policy, failures, seen = retry.RetryPolicy(), 0, -1
    while not stop.is_set():
        pause = config.WORKER_POLL_SECONDS
        try:
            version = store.version()
            if version != seen or failures:
                seen = version if _send_all(store, stop) else -1
            failures = 0
        except Exception as exc:  # the thread's edge: a worker goes on, and `show` tells why
            failures += 1
            pause = policy.pause(failures)
            if not isinstance(exc, KitaruError):
                text = f"Sending log lines failed inside Kitaru: {type(exc).__name__}: {exc}"
                with contextlib.suppress(KitaruError):  # the next try meets the same store
                    _note(store, KitaruRuntimeError(text))
        clock.wait(stop, pause)


def _send_all(store: Store, stop: threading.Event) -> bool:
    """Send what is there; returns whether all of it was, by us."""
    with store.snapshot() as conn:
        if settings.get(conn, logs.LOG_STORE) is None:
            return True
    with _sender(store) as is_mine:
        while is_mine and not stop.is_set():
            if _send_next(store) is None:
                return True
    return False


@contextlib.contextmanager
def _sender(store: Store) -> Iterator[bool]:
    """Whether this process may send; nobody else does meanwhile."""
    with FileLock(store.home.path / _LOCK, wait=False) as lock:
        yield lock.is_mine


def _send_next(store: Store, *, last: int | None = None) -> Pushed | None:
    """Send the next batch, of lines up to `last`; `None` where there is none."""
    masks.watch(store.home)
    with store.snapshot() as conn:
        kept = settings.get(conn, logs.LOG_STORE)
        found = logs.stored_after(conn, _sent(conn), limit=config.LOG_STORE_LINES)
    found = [line for line in found if last is None or line.id <= last]
    if kept is None or not found:
        return None
    from kitaru import log_backends

    try:
        batch = _batch(found)
        headers = _header_values(kept["headers"], home=store.home.path)
        backend = log_backends.open_backend(kept["backend"], kept["endpoint"], headers)
        rejected = min(backend.send(batch), len(batch))
    except KitaruError as exc:
        _note(store, exc)
        raise
    with store.write() as conn:
        now = settings.get(conn, logs.LOG_STORE)
        # Set anew meanwhile, the place of before says nothing.
        if now is not None and _identity(now) == _identity(kept):
            settings.put(conn, logs.COPIED, batch[-1]["id"])
            refused = f"{rejected} of {len(batch)} lines were refused by {kept['endpoint']}."
            _put(conn, now, error=refused if rejected else None)
    return Pushed(len(batch) - rejected, rejected)


def _batch(found: list[StoredLine]) -> list[Line]:
    """As many lines as one batch may have, as they may be shown."""
    batch: list[Line] = []
    room = config.LOG_STORE_BYTES
    for each in found:
        line = _line(each)
        room -= len(json.dumps(line))
        if batch and room < 0:
            break
        batch.append(line)
    return batch


def _line(found: StoredLine) -> Line:
    entry = found.entry
    return redaction.shown(
        {
            "id": found.id,
            "at": clock.to_us(entry.timestamp) * 1000,
            "exec_id": found.exec_id,
            "flow_name": found.flow_name,
            "call_id": found.call_id,
            "attempt": found.attempt,
            **entry.to_dict(),
        }
    )


def _header_values(headers: Mapping[str, str], *, home: HomePath) -> dict[str, str]:
    """The headers with the values of their secrets; no error quotes one, nor what may be one."""
    values = {}
    for name, reference in headers.items():
        found = _REFERENCE.fullmatch(reference)
        if not _HEADER.fullmatch(name) or found is None:
            raise KitaruUsageError(
                "A header is given as NAME=SECRET:KEY. Keep its value in a secret: "
                "kitaru secrets set SECRET --KEY"
            )
        value = get_secret(found["secret"], home=home)[found["key"]]
        if not (value.isascii() and value.isprintable()):
            raise KitaruUsageError(
                f"The value of {reference} cannot be a header: it has line breaks, or characters "
                "that are not ASCII. Set it again."
            )
        values[name] = value
    return values


def _note(store: Store, error: KitaruError) -> None:
    """Keep what went wrong, for `kitaru log-store show`."""
    message = redaction.safe_message(str(error))
    with store.write() as conn:
        kept = settings.get(conn, logs.LOG_STORE)
        if kept is not None:
            _put(conn, kept, error=message)


def _put(conn: Transaction, kept: dict[str, Any], *, error: str | None) -> None:
    if error is not None or kept["error"] is not None:
        noted = None if error is None else {"message": error, "at": clock.now_us()}
        settings.put(conn, logs.LOG_STORE, {**kept, "error": noted})


def _place(kept: Mapping[str, Any]) -> tuple[Any, Any]:
    return kept.get("backend"), kept.get("endpoint")


def _identity(kept: Mapping[str, Any]) -> tuple[Any, Any]:
    return _place(kept), kept["since"]


def _sent(conn: Transaction) -> int:
    return int(settings.get(conn, logs.COPIED) or 0)


def _newest(conn: Transaction) -> int:
    """Behind every line there is, and every one that was sent and is deleted."""
    return max(logs.newest(conn), _sent(conn))


def _model(conn: Transaction, kept: Mapping[str, Any]) -> LogStore:
    error = kept["error"] or {}
    return LogStore(
        kept["backend"],
        kept["endpoint"],
        kept["headers"],
        clock.from_us(kept["since"]),
        logs.count_after(conn, _sent(conn)),
        error.get("message"),
        clock.from_us(error["at"]) if error else None,
    )


def standing(home: config.Home) -> dict[str, str | None]:
    """How the log store stands and what is wrong with it, as `kitaru status` tells it."""
    found = current_log_store(home=home.path)
    if found is None:
        return {"log_store_status": "not set", "log_store_warning": None}
    told = f"{found.backend} {found.endpoint} ({found.unsent} lines not sent yet)"
    return {"log_store_status": told, "log_store_warning": found.last_error}
