"""The tools that the conformance suite expects every server to have.

The suite calls them by name; what each must do is fixed there. All are plain functions over the
request's context and parameters, and `tests.mcp.conformance.server` adds them to the real server.
They know nothing of Kitaru.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from mcp import MCPError
from mcp.server import ServerRequestContext
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolRequestParams,
    CallToolResult,
    ContentBlock,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    ImageContent,
    InputRequests,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    TextContent,
    TextResourceContents,
    Tool,
)

Context: TypeAlias = ServerRequestContext[Any, Any]
Schema: TypeAlias = dict[str, Any]
ToolFunction: TypeAlias = Callable[
    [Context, CallToolRequestParams], Awaitable[CallToolResult | InputRequiredResult]
]
FIXTURE_TOOLS: dict[str, tuple[Tool, ToolFunction]] = {}
#: One red pixel, and a sound without samples.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="


# --- how they are told ----------------------------------------------------------------------------


def tool(
    name: str, description: str, schema: Schema | None = None
) -> Callable[[ToolFunction], None]:
    """Make a function a fixture tool."""

    def add(function: ToolFunction) -> None:
        accepted = schema or {"type": "object", "properties": {}}
        offered = Tool(name=name, description=description, input_schema=accepted)
        FIXTURE_TOOLS[name] = offered, function

    return add


def fixed(name: str, description: str, *content: ContentBlock, is_error: bool = False) -> None:
    """Add a tool that always answers the same."""

    async def function(_: Context, __: CallToolRequestParams) -> CallToolResult:
        return CallToolResult(content=list(content), is_error=is_error)

    tool(name, description)(function)


def text(words: str) -> CallToolResult:
    """A tool's answer in words."""
    return CallToolResult(content=[TextContent(text=words)])


def required(*names: str, **properties: Schema) -> Schema:
    """An object's schema, with those of its properties that must be there."""
    return {"type": "object", "properties": properties, "required": list(names)}


def form(message: str, schema: Schema) -> ElicitRequest:
    """A question to the person."""
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(words: str) -> CreateMessageRequest:
    """A question to the model."""
    message = SamplingMessage(role="user", content=TextContent(text=words))
    return CreateMessageRequest(
        params=CreateMessageRequestParams(messages=[message], max_tokens=100)
    )


STRING: Schema = {"type": "string"}
NAME = form("What is your name?", required("name", name=STRING))
CONFIRM = form("Please confirm", required("ok", ok={"type": "boolean"}))

# --- tools with one answer ------------------------------------------------------------------------

IMAGE = ImageContent(data=PNG, mime_type="image/png")


def embedded(uri: str, mime_type: str, words: str) -> EmbeddedResource:
    """A resource inside an answer."""
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    return EmbeddedResource(resource=contents)


fixed("test_simple_text", "Answers in words", TextContent(text="A simple text answer."))
fixed("test_image_content", "Answers with an image", IMAGE)
fixed("test_audio_content", "Answers with audio", AudioContent(data=WAV, mime_type="audio/wav"))
fixed(
    "test_embedded_resource",
    "Answers with a resource",
    embedded("test://embedded-resource", "text/plain", "An embedded resource."),
)
fixed(
    "test_multiple_content_types",
    "Answers with words, an image and a resource",
    TextContent(text="Several kinds of content:"),
    IMAGE,
    embedded("test://mixed-content-resource", "application/json", '{"test": "data"}'),
)
fixed(
    "test_error_handling",
    "Always fails",
    TextContent(text="This tool always fails."),
    is_error=True,
)

# --- tools that speak while they work -------------------------------------------------------------


async def _log(ctx: Context, words: str) -> None:
    await ctx.session.send_log_message("info", words, related_request_id=ctx.request_id)


@tool("test_tool_with_logging", "Logs three messages")
async def _tool_with_logging(ctx: Context, _: CallToolRequestParams) -> CallToolResult:
    for words in ("started", "working", "completed"):
        await _log(ctx, words)
    return text("Three messages were logged.")


@tool("test_logging_tool", "Logs a message, where the client asked for messages")
async def _logging_tool(ctx: Context, _: CallToolRequestParams) -> CallToolResult:
    await _log(ctx, "a message")
    return text("Logged where it was asked for.")


@tool("test_tool_with_progress", "Reports its progress three times")
async def _tool_with_progress(ctx: Context, _: CallToolRequestParams) -> CallToolResult:
    for progress in (0, 50, 100):
        await ctx.session.report_progress(progress, 100, f"{progress} of 100")
        await asyncio.sleep(0)
    return text("All progress was reported.")


# --- tools that ask the client (handshake era) ----------------------------------------------------


@tool("test_sampling", "Asks the client's model", required("prompt", prompt=STRING))
async def _sampling(ctx: Context, params: CallToolRequestParams) -> CallToolResult:
    question = sample((params.arguments or {})["prompt"]).params
    answer = await ctx.session.create_message(
        question.messages, max_tokens=question.max_tokens, related_request_id=ctx.request_id
    )
    return text(f"The model said: {answer.content}")


async def _elicit(ctx: Context, request: ElicitRequest) -> CallToolResult:
    asked = request.params
    assert isinstance(asked, ElicitRequestFormParams)
    answer = await ctx.session.elicit_form(
        asked.message, asked.requested_schema, related_request_id=ctx.request_id
    )
    content = json.dumps(answer.content or {})
    return text(f"The person said: action={answer.action}, content={content}")


@tool("test_elicitation", "Asks the person", required("message", message=STRING))
async def _elicitation(ctx: Context, params: CallToolRequestParams) -> CallToolResult:
    message = (params.arguments or {})["message"]
    return await _elicit(ctx, form(message, required("response", response=STRING)))


@tool("test_elicitation_sep1034_defaults", "Asks the person with a default for each kind of value")
async def _elicitation_sep1034_defaults(ctx: Context, _: CallToolRequestParams) -> CallToolResult:
    schema = required(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    return await _elicit(ctx, form("Please check these values", schema))


def _titled(*names: str) -> list[Schema]:
    return [{"const": name, "title": name.capitalize()} for name in names]


@tool("test_elicitation_sep1330_enums", "Asks the person with each form of choice")
async def _elicitation_sep1330_enums(ctx: Context, _: CallToolRequestParams) -> CallToolResult:
    options = ["option1", "option2", "option3"]
    values = _titled("value1", "value2", "value3")
    schema = required(
        untitledSingle={"type": "string", "enum": options},
        titledSingle={"type": "string", "oneOf": values},
        legacyEnum={
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        untitledMulti={"type": "array", "items": {"type": "string", "enum": options}},
        titledMulti={"type": "array", "items": {"anyOf": values}},
    )
    return await _elicit(ctx, form("Please choose", schema))


# --- tools that need input (2026-07-28) -----------------------------------------------------------


def ask(requests: InputRequests, state: str | None = None) -> InputRequiredResult:
    """The answer of a tool that cannot go on without the client."""
    return InputRequiredResult(input_requests=requests, request_state=state)


def asks_until(name: str, description: str, *, state: str | None = None, **requests: Any) -> None:
    """Add a tool that asks until every question is answered and its state came back."""

    async def function(
        _: Context, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        answers = params.input_responses or {}
        if requests.keys() <= answers.keys() and params.request_state == state:
            return text(f"Answered: {', '.join(requests)}")
        return ask(requests, state)

    tool(name, description)(function)


ROOTS = ListRootsRequest()
ASKS = "test_input_required_result_"
asks_until(f"{ASKS}elicitation", "Asks the person", user_name=NAME)
asks_until("test_streaming_elicitation", "Asks the person in its answer", user_name=NAME)
asks_until(f"{ASKS}sampling", "Asks the model", capital=sample("What is the capital of France?"))
asks_until(f"{ASKS}list_roots", "Asks for the roots", client_roots=ROOTS)
asks_until(f"{ASKS}request_state", "Asks and keeps state", state="asked", confirm=CONFIRM)
asks_until(f"{ASKS}tampered_state", "Refuses changed state", state="asked", confirm=CONFIRM)
asks_until(
    f"{ASKS}multiple_inputs",
    "Asks three questions at once",
    state="asked",
    user_name=NAME,
    greeting=sample("Generate a greeting"),
    client_roots=ROOTS,
)


@tool("test_input_required_result_multi_round", "Asks twice, one question after the other")
async def _multi_round(
    _: Context, params: CallToolRequestParams
) -> CallToolResult | InputRequiredResult:
    answers = params.input_responses or {}
    if params.request_state == "two" and "step2" in answers:
        return text("Both steps were answered.")
    if params.request_state == "one" and "step1" in answers:
        color = form("Step 2: what is your favorite color?", required("color", color=STRING))
        return ask({"step2": color}, "two")
    return ask({"step1": NAME}, "one")


@tool("test_input_required_result_capabilities", "Asks only what the client can answer")
async def _capabilities(ctx: Context, _: CallToolRequestParams) -> InputRequiredResult:
    able = ctx.session.client_capabilities
    requests: InputRequests = {}
    if able and able.sampling is not None:
        requests["sample"] = sample("Say hello")
    if able and able.elicitation is not None:
        requests["ask"] = NAME
    return ask(requests, "asked")


@tool("test_missing_capability", "Refuses clients without sampling")
async def _missing_capability(ctx: Context, _: CallToolRequestParams) -> CallToolResult:
    able = ctx.session.client_capabilities
    if able is None or able.sampling is None:
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool needs a client with the capability 'sampling'.",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return text("The client can sample.")


# --- tools whose arguments are the point ----------------------------------------------------------


@tool(
    "test_x_mcp_header",
    "Has an argument that HTTP clients repeat in a header",
    required(region={"type": "string", "x-mcp-header": "Region"}),
)
async def _x_mcp_header(_: Context, params: CallToolRequestParams) -> CallToolResult:
    return text(f"region={(params.arguments or {}).get('region')}")


@tool(
    "json_schema_2020_12_tool",
    "Has a schema with the words of JSON Schema 2020-12",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": {"$anchor": "address", "type": "object"}},
        "properties": {
            "name": STRING,
            "address": {"$ref": "#/$defs/address"},
            "contact": {"type": "string", "enum": ["phone", "email"]},
            "phone": STRING,
            "email": STRING,
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contact": {"const": "phone"}}, "required": ["contact"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)
async def _json_schema_2020_12_tool(_: Context, params: CallToolRequestParams) -> CallToolResult:
    return text(json.dumps(params.arguments))
