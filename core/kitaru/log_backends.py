"""Where copies of log lines go: a file of JSON lines, or a collector that speaks OTLP over HTTP.

A backend takes a batch and returns once it has it for good: the file is on disk, the collector has
answered. Everything else is a `KitaruBackendError` that says what came back, and then the whole
batch counts as not sent. Lines come ready to be shown; nothing here reads the store.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kitaru import config, files
from kitaru.errors import KitaruBackendError, KitaruUsageError
from kitaru.version import VERSION

BACKENDS = ("jsonl", "otlp")
#: A line as `log_store` makes it; `at` is in nanoseconds since 1970.
Line = Mapping[str, Any]

#: Severity numbers as OpenTelemetry has them; any other level stays a text.
_SEVERITIES = {"DEBUG": 5, "INFO": 9, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}
#: Our field -> the attribute it becomes.
_ATTRIBUTES = {
    "id": "kitaru.log_id",
    "exec_id": "kitaru.exec_id",
    "flow_name": "kitaru.flow_name",
    "call_id": "kitaru.call_id",
    "checkpoint_name": "kitaru.checkpoint_name",
    "attempt": "kitaru.attempt",
    "source": "kitaru.source",
    "module": "code.namespace",
    "filename": "code.file.path",
    "lineno": "code.line.number",
}
_LOGS_PATH = "/v1/logs"
_MOST_READ = 64 * 1024
_QUOTED = 200


class Backend(Protocol):
    """Somewhere to send lines."""

    def send(self, lines: Sequence[Line]) -> int:
        """Hand over a batch; returns how many of its lines were refused for good."""
        ...


def endpoint_of(backend: str, endpoint: str) -> str:
    """The endpoint as it is kept.

    Raises:
        KitaruUsageError: there is no such backend, or it cannot have this endpoint.
    """
    if backend not in BACKENDS:
        raise KitaruUsageError(
            f"There is no log store {backend!r:.60}; there are {', '.join(BACKENDS)}."
        )
    return _file_of(endpoint) if backend == "jsonl" else _url_of(endpoint)


def open_backend(backend: str, endpoint: str, headers: Mapping[str, str]) -> Backend:
    """The backend of an endpoint that was checked; `headers` have their values."""
    return JsonLines(Path(endpoint)) if backend == "jsonl" else Otlp(endpoint, headers)


def _file_of(endpoint: str) -> str:
    url = urllib.parse.urlsplit(endpoint)
    if url.scheme == "file" and url.netloc in ("", "localhost"):
        endpoint = urllib.request.url2pathname(url.path)
    elif "://" in endpoint or not endpoint.strip() or "\0" in endpoint:
        raise KitaruUsageError(
            "A jsonl log store is a file: give --endpoint a path or a file:// URL."
        )
    path = Path(endpoint).expanduser().absolute()
    if path.is_dir():
        raise KitaruUsageError(f"{path} is a folder; name the file that lines are appended to.")
    files.refuse_existing(path, force=True)
    files.refuse_store(path)
    return str(path)


def _split(endpoint: str) -> urllib.parse.SplitResult | None:
    try:
        url = urllib.parse.urlsplit(endpoint)
        is_http = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # no address, or no port
        return None
    return url if is_http else None


def _url_of(endpoint: str) -> str:
    url = _split(endpoint)
    if url is None or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        raise KitaruUsageError(
            "An otlp log store is a collector: give --endpoint its address, such as "
            "http://localhost:4318."
        )
    if url.username is not None or url.query or url.fragment:  # kept in plain, so not quoted either
        raise KitaruUsageError(
            f"The endpoint at {url.hostname} may have no user, password or query in it. Keep "
            "credentials in a secret, and name it with --header NAME=SECRET:KEY."
        )
    return endpoint.rstrip("/").removesuffix(_LOGS_PATH)


@dataclass(frozen=True, slots=True)
class JsonLines:
    """Appends one JSON object a line to a file, and flushes it to the disk."""

    path: Path

    def send(self, lines: Sequence[Line]) -> int:
        """Append a batch as a whole.

        Raises:
            KitaruBackendError: the system refuses; the file is as it was.
        """
        data = b"".join(json.dumps(_plain(line)).encode() + b"\n" for line in lines)
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                size = os.fstat(fd).st_size
                try:
                    self._append(fd, size, data)
                except BaseException:
                    os.ftruncate(fd, size)  # half a batch would be there twice
                    raise
            finally:
                os.close(fd)
        except OSError as exc:
            raise KitaruBackendError(
                f"The log store {self.path} cannot be written: {exc.strerror}. Nothing is lost: "
                "mend it, then `kitaru log-store push`."
            ) from exc
        return 0

    def _append(self, fd: int, size: int, data: bytes) -> None:
        if size:
            os.lseek(fd, size - 1, os.SEEK_SET)
            if os.read(fd, 1) != b"\n":  # a crash has left half a line
                data = b"\n" + data
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)


def _plain(line: Line) -> dict[str, Any]:
    return {key: value for key, value in line.items() if value is not None and key != "at"}


@dataclass(frozen=True, slots=True)
class Otlp:
    """Posts batches to a collector as OTLP in JSON."""

    endpoint: str
    headers: Mapping[str, str]

    def send(self, lines: Sequence[Line]) -> int:
        """Post a batch.

        Raises:
            KitaruBackendError: it was not taken; says the HTTP status, or what went wrong.
        """
        request = urllib.request.Request(
            self.endpoint + _LOGS_PATH,
            data=json.dumps(_document(lines)).encode(),
            headers={
                "Content-Type": "application/json",
                "User-Agent": f"kitaru/{VERSION}",
                **self.headers,
            },
            method="POST",
        )
        opener = urllib.request.build_opener(_NoRedirects)
        try:
            with opener.open(request, timeout=config.LOG_STORE_TIMEOUT_SECONDS) as answer:
                return _rejected(answer.read(_MOST_READ))
        except urllib.error.HTTPError as exc:
            with exc:
                raise self._refused(f"answered {exc.code} {exc.reason}{_said(exc)}") from None
        except urllib.error.URLError as exc:
            raise self._refused(f"cannot be reached: {exc.reason}") from None
        except (OSError, http.client.HTTPException) as exc:
            raise self._refused(f"broke off: {type(exc).__name__} {exc}".rstrip()) from None

    def _refused(self, what: str) -> KitaruBackendError:
        return KitaruBackendError(
            f"The log store {self.endpoint} {what}. Nothing is lost: lines that were not taken are "
            "sent again by the next `kitaru log-store push`, or by `kitaru worker`."
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the error it is here: lines and headers go nowhere else."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _said(answer: urllib.error.HTTPError) -> str:
    """The beginning of what a refusal says, if anything."""
    try:
        text = " ".join(answer.read(_MOST_READ).decode(errors="replace").split())
    except (OSError, http.client.HTTPException):
        return ""
    return f" ({text[:_QUOTED]})" if text else ""


def _rejected(body: bytes) -> int:
    """How many lines a collector says it has refused for good."""
    try:
        found = json.loads(body)["partialSuccess"]["rejectedLogRecords"]
        return max(int(found), 0)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0  # most collectors say nothing, and what says nothing sensible says no more


def _document(lines: Sequence[Line]) -> dict[str, Any]:
    resource = {"service.name": "kitaru", "service.version": VERSION}
    return {
        "resourceLogs": [
            {
                "resource": {"attributes": [_attribute(*each) for each in resource.items()]},
                "scopeLogs": [
                    {
                        "scope": {"name": "kitaru", "version": VERSION},
                        "logRecords": [_record(line) for line in lines],
                    }
                ],
            }
        ]
    }


def _record(line: Line) -> dict[str, Any]:
    level = str(line["level"])
    record: dict[str, Any] = {
        "timeUnixNano": str(line["at"]),
        "observedTimeUnixNano": str(line["at"]),
        "severityText": level,
        "body": {"stringValue": line["message"]},
        "attributes": [
            _attribute(name, line[key])
            for key, name in _ATTRIBUTES.items()
            if line.get(key) is not None
        ],
    }
    if level.upper() in _SEVERITIES:
        record["severityNumber"] = _SEVERITIES[level.upper()]
    return record


def _attribute(name: str, value: Any) -> dict[str, Any]:
    kind = "intValue" if isinstance(value, int) else "stringValue"  # 64-bit numbers are texts
    return {"key": name, "value": {kind: str(value)}}
