"""Tells clients that a resource they subscribed to has changed, whoever changed it.

While there are subscriptions, the store is asked a few times a second whether anything was
committed at all, which costs microseconds; only then the subscribed resources are looked at.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import anyio
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.types import (
    INVALID_PARAMS,
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from kitaru_mcp.desk import Desk
from kitaru_mcp.threads import in_thread

_LOOK_SECONDS = 0.1
_MAX_SUBSCRIPTIONS = 1000


class Watcher:
    """Subscriptions of both eras, and the task that serves them.

    Args:
        desk: the server's.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self.bus)
        self._sessions: dict[str, ServerSession] = {}
        self._listened: Counter[str] = Counter()
        self._seen: dict[str, str] = {}
        self._wanted = anyio.Event()

    async def subscribe(
        self, context: ServerRequestContext[Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        """The older era: one resource, until it is unsubscribed."""
        self._check({params.uri})
        self._sessions[params.uri] = context.session
        await self._begin({params.uri})
        return EmptyResult()

    async def unsubscribe(
        self, context: ServerRequestContext[Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        """Forget a resource; one that was not subscribed to is forgotten already."""
        self._sessions.pop(params.uri, None)
        self._forget()
        return EmptyResult()

    async def listen(
        self, context: ServerRequestContext[Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """The newer era: several resources, until the request ends."""
        uris = set(params.notifications.resource_subscriptions or ())
        self._check(uris)
        self._listened.update(uris)
        try:
            await self._begin(uris)
            return await self._listen(context, params)
        finally:
            self._listened = self._listened - Counter(uris)
            self._forget()

    async def run(self) -> None:
        """Look for changes as long as anybody wants to know."""
        version = None
        while True:
            await self._wanted.wait()
            if not self._subscribed:
                self._wanted, version = anyio.Event(), None
                continue
            before, version = version, await self._desk.pulse.changed(version, pause=_LOOK_SECONDS)
            if version != before:
                for uri in self._subscribed:
                    await self._tell(uri)
            await anyio.sleep(_LOOK_SECONDS)

    @property
    def _subscribed(self) -> set[str]:
        return {*self._sessions, *self._listened}

    def _forget(self) -> None:
        """Keep nothing of what nobody subscribes to any more."""
        for uri in self._seen.keys() - self._subscribed:
            del self._seen[uri]

    def _check(self, uris: set[str]) -> None:
        if len(self._subscribed | uris) > _MAX_SUBSCRIPTIONS:
            raise MCPError(
                code=INVALID_PARAMS,
                message=f"{_MAX_SUBSCRIPTIONS} resources are the most that can be subscribed to.",
            )

    async def _begin(self, uris: set[str]) -> None:
        """Look at what nobody subscribed to before: who did must not miss a change by it."""
        for uri in uris - self._seen.keys():
            await self._look_at(uri)
        if uris:
            self._wanted.set()

    async def _tell(self, uri: str) -> None:
        if not await self._look_at(uri):
            return
        await self.bus.publish(ResourceUpdated(uri=uri))
        if session := self._sessions.get(uri):
            await session.send_resource_updated(uri)

    async def _look_at(self, uri: str) -> bool:
        """Remember how a resource is; whether it is another than when it was last looked at."""
        from kitaru_mcp.resources import fingerprint

        before = self._seen.get(uri)
        self._seen[uri] = now = await in_thread(partial(fingerprint, self._desk, uri))
        return before is not None and before != now
