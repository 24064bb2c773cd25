"""Executions, their logs and their artifacts as resources: `kitaru://executions/{exec_id}`.

A resource is what the tools show, under an address: the newest executions are listed, all others
are reached through the templates. Reading changes nothing.
"""

from __future__ import annotations

import base64
import json
import re
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote

from mcp.server.context import ServerRequestContext
from mcp.types import (
    BlobResourceContents,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from kitaru.errors import KitaruError, KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.models import Execution, Page
from kitaru_mcp import replies
from kitaru_mcp.desk import Desk
from kitaru_mcp.protocol import answered

SCHEME = "kitaru://"
_JSON, _TEXT = "application/json", "text/plain"
_LISTED = 20
_LOG_LINES = 500
_CANDIDATES = 5
#: Leaves room for the line that says how to get the rest.
_MOST = replies.MAX_CHARACTERS - 500
Contents = TextResourceContents | BlobResourceContents

TEMPLATES = [
    ResourceTemplate(
        name="executions",
        uri_template="kitaru://executions{?flow,status}",
        description="The newest executions, of one flow or in one status",
        mime_type=_JSON,
    ),
    ResourceTemplate(
        name="execution",
        uri_template="kitaru://executions/{exec_id}",
        description="One execution; the id may be latest or latest:failed",
        mime_type=_JSON,
    ),
    ResourceTemplate(
        name="logs",
        uri_template="kitaru://executions/{exec_id}/logs",
        description=f"The last {_LOG_LINES} lines that an execution printed and logged",
        mime_type=_TEXT,
    ),
    ResourceTemplate(
        name="artifact",
        uri_template="kitaru://executions/{exec_id}/artifacts/{+name}",
        description="A recorded value, by its checkpoint's name or the name it was saved under",
    ),
]
_PLACE = re.compile(r"kitaru://executions/(?P<exec_id>[^/?#]+)(?:/(?P<part>logs|artifacts/.+))?")


class Resources:
    """The handlers of `resources/…`.

    Args:
        desk: the server's.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list(
        self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        """The newest executions; the cursor goes on to older ones."""
        cursor = params.cursor if params else None
        return await answered(self._desk, partial(self._listed, cursor))

    def _listed(self, cursor: str | None) -> ListResourcesResult:
        from kitaru_mcp import views

        client = self._desk.client
        if not client.home.database.exists():  # clients list without being asked: make no store
            return ListResourcesResult(resources=[])
        page = client.executions.list(limit=_LISTED, cursor=cursor)
        found = [
            Resource(
                uri=f"{SCHEME}executions/{execution.exec_id}",
                name=execution.exec_id,
                title=views.title(execution),
                mime_type=_JSON,
            )
            for execution in page
        ]
        return ListResourcesResult(resources=found, next_cursor=page.next_cursor)

    async def templates(
        self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """The addresses there are."""
        return ListResourceTemplatesResult(resource_templates=TEMPLATES)

    async def read(
        self, context: ServerRequestContext[Any], params: ReadResourceRequestParams
    ) -> ReadResourceResult:
        """What is under an address.

        Raises:
            MCPError: nothing is.
        """
        contents = await answered(
            self._desk, partial(_read, self._desk, params.uri), uri=params.uri
        )
        return ReadResourceResult(contents=[contents])


def fingerprint(desk: Desk, uri: str) -> str:
    """What changes when a resource does; cheap to make, and the same while it is not there."""
    place, asked = _PLACE.fullmatch(uri), _asked(uri)
    try:
        if not desk.client.home.database.exists():  # looking makes no store, nor a removed one anew
            return ""
        executions = desk.client.executions
        if asked is not None:
            found: Any = _newest(desk, asked)
        elif place is None:
            return ""
        elif place["part"] == "logs":
            found = executions.logs(unquote(place["exec_id"]), tail=1)
        else:
            found = [executions.summary(unquote(place["exec_id"]))]
    except (KitaruError, OSError) as error:
        return type(error).__name__
    return json.dumps([each.to_dict() for each in found])


def _read(desk: Desk, uri: str) -> Contents:
    from kitaru_mcp import views

    if (asked := _asked(uri)) is not None:
        page = _newest(desk, asked)
        rows = [views.row(execution) for execution in page]
        return _data(uri, {"items": rows, "count": len(rows)})
    place = _PLACE.fullmatch(uri)
    if place is None:
        known = ", ".join(template.uri_template for template in TEMPLATES)
        raise KitaruNotFoundError(f"Nothing is at {uri[:100]!r}. There are: {known}.")
    exec_id, part = unquote(place["exec_id"]), place["part"]
    if part is None:
        execution = desk.client.executions.get(exec_id)
        return _data(uri, views.overview(execution, offered=desk.offered, home=desk.client.home))
    if part == "logs":
        return TextResourceContents(uri=uri, text=_logs(desk, exec_id), mime_type=_TEXT)
    name = unquote(part.removeprefix("artifacts/"))
    return _artifact(desk, uri, artifact_id(desk, exec_id, name))


def _asked(uri: str) -> dict[str, str] | None:
    """What the address of a list asks for; None for other addresses."""
    path, _, query = uri.partition("?")
    return dict(parse_qsl(query)) if path == f"{SCHEME}executions" else None


def _newest(desk: Desk, asked: dict[str, str]) -> Page[Execution]:
    unknown = asked.keys() - {"flow", "status"}
    if unknown:
        raise KitaruUsageError(f"Unknown: {', '.join(sorted(unknown))[:80]}; give flow or status.")
    return desk.client.executions.list(asked.get("flow"), asked.get("status"), limit=_LISTED)


def _logs(desk: Desk, exec_id: str) -> str:
    from kitaru import render

    page = desk.client.executions.logs(exec_id, tail=_LOG_LINES)
    return replies.last_lines("\n".join(render.log_line(entry) for entry in page))


def _data(uri: str, data: dict[str, Any]) -> Contents:
    _, text = replies.fitting(data, narrow="The tools page through it.")
    return TextResourceContents(uri=uri, text=text, mime_type=_JSON)


def _artifact(desk: Desk, uri: str, found: str) -> Contents:
    shown = desk.client.artifacts.show(found, limit=_MOST)
    mime = shown.mime_type
    if shown.data is not None:
        blob = base64.b64encode(shown.data).decode()
        return BlobResourceContents(uri=uri, blob=blob, mime_type=mime)
    if shown.text is None:
        raise KitaruUsageError(shown.note or "This value cannot be shown.")
    if shown.next_offset is None:
        return TextResourceContents(uri=uri, text=shown.text, mime_type=mime)
    rest = (
        f"\n… {shown.next_offset} of {shown.total} characters shown. The rest: "
        f"kitaru_artifacts_get(artifact_id={json.dumps(shown.artifact.artifact_id)}, "
        f"offset={shown.next_offset})"
    )
    return TextResourceContents(uri=uri, text=shown.text + rest, mime_type=_TEXT)


def artifact_id(desk: Desk, exec_id: str, name: str) -> str:
    """The id of the artifact with this name, or with this last part of its id.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruStateError: several have the name.
    """
    artifacts = desk.client.artifacts
    try:
        return artifacts.get(f"{exec_id}/{name}").artifact_id
    except KitaruNotFoundError as error:
        found = artifacts.list(exec_id, name=name, limit=_CANDIDATES)
        if not found:
            raise error from None
    if len(found) > 1:
        ids = ", ".join(each.artifact_id for each in found)
        raise KitaruStateError(f"Several artifacts are named {name!r:.60}; give one of: {ids}.")
    return found[0].artifact_id
