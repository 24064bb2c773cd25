"""Artifacts as clients see them: `client.artifacts`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kitaru import codec, ids, serializers
from kitaru.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.models import ArtifactRef
from kitaru.store import Store, Transaction, artifacts, executions
from kitaru.store.executions import Row


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
    ) -> list[ArtifactRef]:
        """The artifacts of an execution, in the order of its calls.

        Args:
            exec_id: full id or unique prefix.
            kind: only of this kind, such as `context` or `response`.
            producing_call: only of the calls with this name, or of this call id.
            name: only with this name.
            limit: how many at most.

        Raises:
            KitaruNotFoundError: there is no such execution.
            KitaruUsageError: `limit` is not a number from 1 on.
        """
        if limit is not None and (type(limit) is not int or limit < 1):
            raise KitaruUsageError(f"limit is {limit!r}; it must be at least 1.")
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
            found = artifacts.listing(conn, row.id, exec_id=row.exec_id)
        refs = [
            self.bound(each.model)
            for each in found
            if kind in (None, each.model.kind)
            and name in (None, each.model.name)
            and producing_call in (None, *_call_names(each.model.producing_call))
        ]
        return refs[:limit]

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
        with self._open().snapshot() as conn:
            row, artifact = self._find(conn, artifact_id)
            return artifacts.read(conn, row.id, artifact)

    def _find(self, conn: Transaction, artifact_id: str) -> tuple[Row, artifacts.StoredArtifact]:
        exec_id, _, rest = artifact_id.partition("/")
        row = executions.find(conn, exec_id)
        found = artifacts.listing(conn, row.id, exec_id=row.exec_id)
        for artifact in found:
            if artifact.model.artifact_id == f"{row.exec_id}/{rest}":
                return row, artifact
        have = ", ".join(each.model.artifact_id for each in found[:10]) or "none"
        raise KitaruNotFoundError(f"No artifact {artifact_id!r}. {row.exec_id} has: {have}.")

    def bound(self, ref: ArtifactRef) -> ArtifactRef:
        """The reference, able to load its value."""
        return replace(ref, _load=self._load)

    def _load(self, artifact_id: str, as_type: Any, allow_pickle: bool) -> Any:
        read = serializers.reader(allow_pickle=allow_pickle)
        types = codec.declared_types(as_type)
        return read.load(self.read(artifact_id), types=types, path=artifact_id)


def _call_names(call_id: str) -> tuple[str, str]:
    return call_id, ids.call_name(call_id)
