"""One request to a provider: its client, the request, the answer or what went wrong.

Clients keep their connections and are kept themselves: for the process, or where the code is
async for the event loop they were made on, with which they are closed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from kitaru.providers import anthropic, openai
from kitaru.providers.access import Access
from kitaru.providers.answer import Answer, Ask, Failed, Listener
from kitaru.providers.refusals import failed

if TYPE_CHECKING:
    import asyncio

_DIALECTS: dict[str, Any] = {"openai": openai, "anthropic": anthropic}
_clients: dict[Access, Any] = {}
_lock = threading.Lock()
_async_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Access, Any]] = (
    weakref.WeakKeyDictionary()
)


def ask(access: Access, question: Ask, answer: Answer, *, listener: Listener | None) -> None:
    """Ask a model, and wait for its answer.

    Args:
        access: how it is reached.
        question: what it is asked.
        answer: filled as it comes, so that it tells too what came of one that broke off.
        listener: takes the text in pieces as they come; without one it comes as a whole.

    Raises:
        Failed: there is no answer.
        KitaruUsageError: the SDK is not installed.
    """
    sdk, dialect = access.module(), _DIALECTS[access.sdk]
    with _translating(sdk, access):
        create = dialect.create(_client(access, sdk))
        request = dialect.request(question, access.provider)
        if listener is None:
            response = create(**request)
            with _reading():
                dialect.read(response, question, answer)
            return
        with create(**request, **dialect.STREAMED) as stream:
            for event in stream:
                with _reading():
                    piece = dialect.piece(event, question, answer)
                if piece:
                    listener(piece)
        _refuse_half(answer)


async def ask_async(
    access: Access, question: Ask, answer: Answer, *, listener: Listener | None
) -> None:
    """The same where code is async."""
    sdk, dialect = access.module(), _DIALECTS[access.sdk]
    with _translating(sdk, access):
        create = dialect.create(await _async_client(access, sdk))
        request = dialect.request(question, access.provider)
        if listener is None:
            response = await create(**request)
            with _reading():
                dialect.read(response, question, answer)
            return
        async with await create(**request, **dialect.STREAMED) as stream:
            async for event in stream:
                with _reading():
                    piece = dialect.piece(event, question, answer)
                if piece:
                    listener(piece)
        _refuse_half(answer)


@contextlib.contextmanager
def _translating(sdk: Any, access: Access) -> Iterator[None]:
    try:
        yield
    except Exception as exc:  # an SDK's and its transport's, which are of many kinds
        # Without the chain: those exceptions hold requests, with their headers.
        raise failed(exc, sdk, access) from None


def _refuse_half(answer: Answer) -> None:
    """A stream may just stop, as if it had come to its end."""
    if answer.finish_reason is None:
        raise Failed("the answer broke off before its end", is_transient=True, is_billed=True)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """SDKs give on what a provider sends, whether it is an answer or not."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError):
        reason = "what it has sent is no answer of a model; look at what is at its address"
        raise Failed(reason, is_transient=False, is_billed=True) from None


def _options(access: Access) -> dict[str, Any]:
    key = {"auth_token" if access.is_token else "api_key": access.key}
    address = {} if access.base_url is None else {"base_url": access.base_url}
    return {**key, **address, "max_retries": 0}


def _client(access: Access, sdk: Any) -> Any:
    with _lock:
        if access not in _clients:
            make = getattr(sdk, _DIALECTS[access.sdk].CLIENT)
            _clients[access] = _made(access, make)
        return _clients[access]


def _made(access: Access, make: Callable[..., Any]) -> Any:
    client = make(**_options(access))
    if access.sdk == "openai" and access.provider != "openai":
        # Read from the environment, and meant for OpenAI itself.
        client.organization = client.project = None
    return client


async def _async_client(access: Access, sdk: Any) -> Any:
    import asyncio

    of_loop = _async_clients.setdefault(asyncio.get_running_loop(), {})
    if access not in of_loop:
        make = getattr(sdk, f"Async{_DIALECTS[access.sdk].CLIENT}")
        holder = _held(access, make, of_loop)
        # The loop closes async generators when it ends, and this one its client.
        of_loop[access] = (await anext(holder), holder)
    return of_loop[access][0]


async def _held(
    access: Access, make: Callable[..., Any], of_loop: dict[Access, Any]
) -> AsyncGenerator[Any]:
    client = _made(access, make)
    try:
        yield client
    finally:
        del of_loop[access]  # a generator knows its loop, which would never be let go
        await client.close()


def _forget() -> None:
    """The parent's connections are not a forked child's."""
    global _lock
    _lock = threading.Lock()
    _clients.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
