"""Artifacts as clients see them: `client.artifacts`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kitaru import codec, config, files, serializers
from kitaru.client import limits, views
from kitaru.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.models import ArtifactRef, ArtifactView, Page
from kitaru.redaction import is_storable
from kitaru.store import Store, Transaction, artifacts, executions
from kitaru.store.artifacts import StoredArtifact, Wanted
from kitaru.store.executions import Row
from kitaru.upkeep import ExportedArtifact

#: How many ids the refusal of an unknown one names, and how much of them in characters.
_TOLD, _TOLD_CHARACTERS = 5, 200


class Artifacts:
    """The artifacts of a store; reached as `client.artifacts`."""

    def __init__(self, open_: Callable[[], Store]) -> None:
        self._open = open_

    def list(
        self,
        exec_id: str,
        kind: str | None = None,
        producing_call: str | None = None,
        *,
        name: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[ArtifactRef]:
        """The artifacts of an execution in the order of its calls, all or in pages.

        Args:
            exec_id: full id, unique prefix, or `latest`.
            kind: only of this kind, such as `context` or `response`.
            producing_call: only of the calls with this name, or of this call id.
            name: only with this name.
            limit: how many at most; then `next_cursor` asks for the next page.
            cursor: `next_cursor` of the page before.

        Raises:
            KitaruNotFoundError: there is no such execution.
            KitaruUsageError: an argument cannot be right.
        """
        if limit is not None:
            limits.checked(limit, most=config.MAX_ROWS)
        given = {"kind": kind, "name": name, "producing_call": producing_call}
        for key, value in given.items():
            if value is not None and not (isinstance(value, str) and is_storable(value)):
                raise KitaruUsageError(f"{key} is {value!r:.60}; give it as text.")
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
            page = artifacts.listing(
                conn,
                row.id,
                exec_id=row.exec_id,
                wanted=Wanted(**given),
                limit=limit,
                cursor=cursor,
            )
        return Page([self.bound(each.model) for each in page], page.next_cursor)

    def get(self, artifact_id: str) -> ArtifactRef:
        """One artifact by its id.

        Raises:
            KitaruNotFoundError: there is none.
        """
        with self._open().snapshot() as conn:
            _, artifact = self._find(conn, artifact_id)
        return self.bound(artifact.model)

    def read(self, artifact_id: str) -> bytes:
        """The encoded value of an artifact; `ArtifactRef.load` decodes it."""
        return self._read(artifact_id)[1]

    def show(
        self, artifact_id: str, *, offset: int = 0, limit: int = config.VIEW_CHARACTERS
    ) -> ArtifactView:
        """A piece of an artifact's value as it may be shown to anybody.

        Text is shown as it is, other values as compact JSON, small images as their bytes. Values
        under keys that look like secrets are masked, and pickles are never read.

        Args:
            artifact_id: its id.
            offset: how many characters to leave out; `next_offset` of the piece before.
            limit: how many characters at most.

        Raises:
            KitaruNotFoundError: there is no such artifact.
            KitaruUsageError: `offset` or `limit` cannot be right.
        """
        limits.checked(limit, most=config.MAX_VIEW_CHARACTERS)
        limits.checked(offset, most=codec.MAX_VALUE_BYTES, least=0, name="offset")
        artifact, record = self._read(artifact_id)
        return views.view(self.bound(artifact.model), record, offset=offset, limit=limit)

    def export(
        self, artifact_id: str, path: str | os.PathLike[str], *, force: bool = False
    ) -> ExportedArtifact:
        """Write an artifact's value into a file: text and bytes as they are, the rest as JSON.

        Nothing is masked. Only the file's owner can read it.

        Args:
            artifact_id: its id.
            path: the file to make.
            force: replace a file that is there.

        Raises:
            KitaruNotFoundError: there is no such artifact.
            KitaruUsageError: the file is there or cannot be one, or the value is a pickle.
            KitaruBackendError: the file cannot be written.
        """
        artifact, record = self._read(artifact_id)
        target, id_ = Path(path).absolute(), artifact.model.artifact_id
        files.refuse_store(target)
        form, data = views.file_of(artifact.model, record)
        with files.whole(target, force=force) as made:
            made.write_bytes(data)
        return ExportedArtifact(id_, str(target), len(data), form)

    def _read(self, artifact_id: str) -> tuple[StoredArtifact, bytes]:
        with self._open().snapshot() as conn:
            row, artifact = self._find(conn, artifact_id)
            return artifact, artifacts.read(conn, row.id, artifact)

    def _find(self, conn: Transaction, artifact_id: str) -> tuple[Row, StoredArtifact]:
        if not isinstance(artifact_id, str) or not is_storable(artifact_id):
            raise KitaruUsageError(f"{artifact_id!r:.60} is no artifact's id; give its text.")
        exec_id, slash, rest = artifact_id.partition("/")
        try:
            row = executions.find(conn, exec_id)
        except KitaruNotFoundError as error:
            if slash:
                raise
            how = "An artifact's id is like kr-…/draft, or latest/draft."
            raise KitaruNotFoundError(f"{error} {how}") from None
        artifact = artifacts.find(conn, row.id, rest, exec_id=row.exec_id)
        if artifact is None:
            raise KitaruNotFoundError(
                f"No artifact {artifact_id!r:.60}. {row.exec_id} has: {_some(conn, row)}."
            )
        return row, artifact

    def bound(self, ref: ArtifactRef) -> ArtifactRef:
        """The reference, able to load its value."""
        return replace(ref, _load=self._load)

    def _load(self, artifact_id: str, as_type: Any, allow_pickle: bool) -> Any:
        read = serializers.reader(allow_pickle=allow_pickle)
        types = codec.declared_types(as_type)
        return read.load(self.read(artifact_id), types=types, path=artifact_id)


def _some(conn: Transaction, row: Row) -> str:
    found = artifacts.listing(conn, row.id, exec_id=row.exec_id, limit=_TOLD)
    told = [each.model.artifact_id for each in found]
    text = ", ".join([*told, "…"] if found.next_cursor else told) or "none"
    return text if len(text) <= _TOLD_CHARACTERS else f"{text[:_TOLD_CHARACTERS]}…"
