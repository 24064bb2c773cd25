"""`kitaru-mcp` with the conformance suite's fixtures: `python -m tests.mcp.conformance.server`.

`add_to` puts them before the server's own handlers: a request that names a fixture is answered by
it, a listing has both, and everything else goes on as it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ServerEvent,
    SubscriptionBus,
    ToolsListChanged,
)
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    EmptyResult,
    GetPromptRequestParams,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    PromptReference,
    ReadResourceRequestParams,
    Resource,
    SetLevelRequestParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel

from kitaru_mcp import process
from kitaru_mcp.app import App
from kitaru_mcp.desk import Desk
from kitaru_mcp.policy import Policy, offered_of, resolve_roots
from kitaru_mcp.tools import TOOLS
from tests.mcp.conformance.contents import FIXTURE_PROMPTS, FIXTURE_RESOURCES, reader_of
from tests.mcp.conformance.fixtures import FIXTURE_TOOLS, Context, text, tool

Answer = Callable[[Context, Any], Awaitable[Any]]


def add_to(server: Server[Any], bus: SubscriptionBus | None = None) -> None:
    """Add the fixtures to a server.

    Args:
        server: its own handlers stay behind the fixtures'.
        bus: where the server's listen streams take their events from, if it has such streams.
    """
    if server.get_request_handler("subscriptions/listen") is None:
        bus = InMemorySubscriptionBus()
        listen = ListenHandler(bus)
        server.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, listen)
    if bus is not None:
        _add_changes(bus)
    if not any(isinstance(layer, RequestStateBoundary) for layer in server.middleware):
        security = RequestStateSecurity.ephemeral()
        server.middleware.append(RequestStateBoundary(security, default_audience=server.name))
    _add_listings(server)
    _add_answers(server)


def _add_changes(bus: SubscriptionBus) -> None:
    changes: dict[str, ServerEvent] = {
        "test_trigger_tool_change": ToolsListChanged(),
        "test_trigger_prompt_change": PromptsListChanged(),
    }
    for name, event in changes.items():

        async def publish(
            _: Context, __: CallToolRequestParams, event: ServerEvent = event
        ) -> CallToolResult:
            await bus.publish(event)
            return text("The change was told.")

        tool(name, "Tells those who listen of a change")(publish)


def _add_listings(server: Server[Any]) -> None:
    resources = [offered for offered, _ in FIXTURE_RESOURCES.values()]
    fixed = [offered for offered in resources if isinstance(offered, Resource)]
    templates = [offered for offered in resources if not isinstance(offered, Resource)]
    prompts = [offered for offered, _ in FIXTURE_PROMPTS.values()]
    tools = [offered for offered, _ in FIXTURE_TOOLS.values()]
    _extend(server, "tools/list", ListToolsResult(tools=tools))
    _extend(server, "prompts/list", ListPromptsResult(prompts=prompts))
    _extend(server, "resources/list", ListResourcesResult(resources=fixed))
    more = ListResourceTemplatesResult(resource_templates=templates)
    _extend(server, "resources/templates/list", more)


def _extend(server: Server[Any], method: str, more: BaseModel) -> None:
    entry = server.get_request_handler(method)
    (field,) = more.model_fields_set

    async def listing(ctx: Context, params: PaginatedRequestParams | None) -> Any:
        if entry is None:
            return more
        own: Any = await entry.handler(ctx, params)
        if own.next_cursor is not None:  # the fixtures are on the last page
            return own
        both: Iterable[Any] = [*getattr(own, field), *getattr(more, field)]
        return own.model_copy(update={field: both})

    server.add_request_handler(method, PaginatedRequestParams, listing)


def _add_answers(server: Server[Any]) -> None:
    def of_tool(params: CallToolRequestParams) -> Answer | None:
        return FIXTURE_TOOLS.get(params.name, (None, None))[1]

    def of_prompt(params: GetPromptRequestParams) -> Answer | None:
        return FIXTURE_PROMPTS.get(params.name, (None, None))[1]

    def of_resource(params: ReadResourceRequestParams) -> Answer | None:
        return reader_of(params.uri)

    def of_subscription(params: SubscribeRequestParams | UnsubscribeRequestParams) -> Answer | None:
        return _agree if reader_of(params.uri) else None

    def of_reference(params: CompleteRequestParams) -> Answer | None:
        ref = params.ref
        known = FIXTURE_PROMPTS if isinstance(ref, PromptReference) else FIXTURE_RESOURCES
        name = ref.name if isinstance(ref, PromptReference) else ref.uri
        return _complete if name in known else None

    _answer(server, "tools/call", CallToolRequestParams, of_tool)
    _answer(server, "prompts/get", GetPromptRequestParams, of_prompt)
    _answer(server, "resources/read", ReadResourceRequestParams, of_resource)
    _answer(server, "resources/subscribe", SubscribeRequestParams, of_subscription)
    _answer(server, "resources/unsubscribe", UnsubscribeRequestParams, of_subscription)
    _answer(server, "completion/complete", CompleteRequestParams, of_reference)
    if server.get_request_handler("logging/setLevel") is None:
        server.add_request_handler("logging/setLevel", SetLevelRequestParams, _agree)


def _answer(
    server: Server[Any],
    method: str,
    params_type: type[BaseModel],
    fixture_of: Callable[[Any], Answer | None],
) -> None:
    entry = server.get_request_handler(method)

    async def handler(ctx: Context, params: Any) -> Any:
        answer = fixture_of(params) or (entry.handler if entry else None)
        if answer is None:
            named = params.model_dump(mode="json", include={"name", "uri"})
            raise MCPError(INVALID_PARAMS, f"{method}: there is no {named}", named)
        return await answer(ctx, params)

    server.add_request_handler(method, params_type, handler)


async def _agree(_: Context, __: Any) -> EmptyResult:
    return EmptyResult()


async def _complete(_: Context, params: CompleteRequestParams) -> CompleteResult:
    values = [it for it in ("1", "10", "2") if it.startswith(params.argument.value)]
    return CompleteResult(completion=Completion(values=values, total=len(values), has_more=False))


def main() -> None:
    """Serve Kitaru and the fixtures on stdin and stdout until the input ends."""
    policy = Policy(read_only=False, roots=resolve_roots([]))
    offered = offered_of(TOOLS, policy, only=None, without=None)
    app = App(Desk(home=None, policy=policy, offered=offered), TOOLS)
    add_to(app.server, app.watcher.bus)
    process.run(app.serve)
    process.leave(0)


if __name__ == "__main__":
    main()
