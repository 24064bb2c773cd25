"""What the upkeep of a store answers: frozen values, ready for JSON.

Sizes are in bytes. Which executions an answer tells of is fixed when it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from kitaru.frozen import Model


@dataclass(frozen=True, slots=True)
class Deleted(Model):
    """Executions that are gone; `bytes` counts their values and log lines.

    `children` are executions that these had started and that stay.
    """

    exec_ids: tuple[str, ...]
    bytes: int
    children: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pruned(Model):
    """How many executions are gone, or would be; `bytes` counts their values and log lines.

    `kept` says of each that was chosen and stays why it has to.
    """

    count: int
    bytes: int
    kept: dict[str, str]
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Compacted(Model):
    """How large the file was and is; `seconds` is how long nobody else could write."""

    bytes_before: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Backup(Model):
    """A sound copy of the whole store."""

    path: str
    bytes: int
    executions: int


@dataclass(frozen=True, slots=True)
class StoreFacts(Model):
    """A store's file: `free_bytes` of it hold nothing, `wal_bytes` lie beside it.

    `rows` counts what each table holds, `None` where that is more than is counted.
    """

    schema: int
    bytes: int
    free_bytes: int
    wal_bytes: int
    rows: dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Finding(Model):
    """Something about a store that is not as it should be.

    `code` is one word for its kind, `id` what it is about: an execution, a value, a file, a table.
    """

    code: str
    id: str
    message: str
    advice: str
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Exported(Model):
    """Executions in a file; `redacted` says that secrets in it are masked."""

    path: str
    exec_ids: tuple[str, ...]
    bytes: int
    redacted: bool


@dataclass(frozen=True, slots=True)
class Imported(Model):
    """Executions that came from a file, and those of it that were there already."""

    exec_ids: tuple[str, ...]
    already: tuple[str, ...]
    redacted: bool


@dataclass(frozen=True, slots=True)
class ExportedArtifact(Model):
    """One recorded value in a file, as `json`, `text` or `bytes`."""

    artifact_id: str
    path: str
    bytes: int
    format: str
