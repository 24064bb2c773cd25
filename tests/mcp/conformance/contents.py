"""The resources and prompts that the conformance suite expects every server to have.

The suite asks for them by address and name. Like the tools of `tests.mcp.conformance.fixtures`
they are plain functions over the request's context and parameters.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from mcp.shared.uri_template import UriTemplate
from mcp.types import (
    BlobResourceContents,
    ContentBlock,
    ElicitResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextContent,
    TextResourceContents,
)

from tests.mcp.conformance.fixtures import (
    IMAGE,
    PNG,
    STRING,
    Context,
    ask,
    embedded,
    form,
    required,
)

ResourceFunction: TypeAlias = Callable[
    [Context, ReadResourceRequestParams], Awaitable[ReadResourceResult]
]
PromptFunction: TypeAlias = Callable[
    [Context, GetPromptRequestParams], Awaitable[GetPromptResult | InputRequiredResult]
]

#: By address, or by the template of addresses.
FIXTURE_RESOURCES: dict[str, tuple[Resource | ResourceTemplate, ResourceFunction]] = {}
FIXTURE_PROMPTS: dict[str, tuple[Prompt, PromptFunction]] = {}


def resource(offered: Resource | ResourceTemplate) -> Callable[[ResourceFunction], None]:
    """Make a function the reader of a fixture resource."""

    def add(function: ResourceFunction) -> None:
        address = offered.uri if isinstance(offered, Resource) else offered.uri_template
        FIXTURE_RESOURCES[address] = offered, function

    return add


def prompt(name: str, description: str, *arguments: str) -> Callable[[PromptFunction], None]:
    """Make a function a fixture prompt, all of whose arguments are required."""

    def add(function: PromptFunction) -> None:
        accepted = [
            PromptArgument(name=it, description=f"The {it}", required=True) for it in arguments
        ]
        offered = Prompt(name=name, description=description, arguments=accepted)
        FIXTURE_PROMPTS[name] = offered, function

    return add


def reader_of(uri: str) -> ResourceFunction | None:
    """The function that reads an address, if it is one of the fixtures'."""
    for address, (_, function) in FIXTURE_RESOURCES.items():
        if address == uri or UriTemplate.parse(address).match(uri):
            return function
    return None


# --- resources ------------------------------------------------------------------------------------


def _contents(uri: str, words: str, mime_type: str = "text/plain") -> ReadResourceResult:
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    return ReadResourceResult(contents=[contents])


@resource(Resource(uri="test://static-text", name="static-text", mime_type="text/plain"))
async def _static_text(_: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
    return _contents(params.uri, "The content of the static text resource.")


@resource(Resource(uri="test://static-binary", name="static-binary", mime_type="image/png"))
async def _static_binary(_: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
    contents = BlobResourceContents(uri=params.uri, mime_type="image/png", blob=PNG)
    return ReadResourceResult(contents=[contents])


@resource(Resource(uri="test://watched-resource", name="watched", mime_type="text/plain"))
async def _watched(_: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
    return _contents(params.uri, "The content of the watched resource.")


@resource(ResourceTemplate(uri_template="test://template/{id}/data", name="template"))
async def _template(_: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
    matched = UriTemplate.parse("test://template/{id}/data").match(params.uri)
    return _contents(params.uri, json.dumps(matched), "application/json")


# --- prompts --------------------------------------------------------------------------------------


def _messages(*content: ContentBlock) -> GetPromptResult:
    return GetPromptResult(messages=[PromptMessage(role="user", content=it) for it in content])


@prompt("test_simple_prompt", "A prompt without arguments")
async def _simple_prompt(_: Context, __: GetPromptRequestParams) -> GetPromptResult:
    return _messages(TextContent(text="A simple prompt."))


@prompt("test_prompt_with_arguments", "A prompt with two arguments", "arg1", "arg2")
async def _with_arguments(_: Context, params: GetPromptRequestParams) -> GetPromptResult:
    return _messages(TextContent(text=f"The arguments: {params.arguments}"))


@prompt("test_prompt_with_embedded_resource", "A prompt with a resource in it", "resourceUri")
async def _with_embedded_resource(_: Context, params: GetPromptRequestParams) -> GetPromptResult:
    uri = (params.arguments or {})["resourceUri"]
    return _messages(embedded(uri, "text/plain", "Content."), TextContent(text="Use the resource."))


@prompt("test_prompt_with_image", "A prompt with an image in it")
async def _with_image(_: Context, __: GetPromptRequestParams) -> GetPromptResult:
    return _messages(IMAGE, TextContent(text="Look at the image."))


@prompt("test_input_required_result_prompt", "A prompt that asks the person first")
async def _prompt(
    _: Context, params: GetPromptRequestParams
) -> GetPromptResult | InputRequiredResult:
    answer = (params.input_responses or {}).get("user_context")
    if isinstance(answer, ElicitResult):
        return _messages(TextContent(text=f"Use this: {json.dumps(answer.content)}"))
    return ask({"user_context": form("What is it about?", required("context", context=STRING))})
