"""`kitaru.llm`: ask a model, with the answer, its tokens and its cost on record.

In a flow's body it is a durable call of its own, whose attempts are recorded as a checkpoint's are.
Inside a checkpoint it is an event of that: it is counted and shown, and made again when the
checkpoint is.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast, overload

from kitaru import codec, config, context, inputs, naming, retry
from kitaru.context import CallRequest, CallScope, Driver
from kitaru.conversation import Event, Question
from kitaru.errors import (
    KitaruContextError,
    KitaruError,
    KitaruLLMTransientError,
    KitaruSerializationError,
    KitaruUsageError,
)

T = TypeVar("T")
Messages: TypeAlias = Sequence[Mapping[str, Any]]

_NAME = "llm"


@overload
def llm(
    prompt_or_messages: str | Messages,
    *,
    model: str | None = ...,
    system: str | None = ...,
    temperature: float | None = ...,
    max_tokens: int | None = ...,
    name: str | None = ...,
    schema: None = ...,
    stream: bool = ...,
    retries: int = ...,
) -> str: ...
@overload
def llm(
    prompt_or_messages: str | Messages,
    *,
    model: str | None = ...,
    system: str | None = ...,
    temperature: float | None = ...,
    max_tokens: int | None = ...,
    name: str | None = ...,
    schema: type[T],
    stream: bool = ...,
    retries: int = ...,
) -> T: ...
def llm(
    prompt_or_messages: str | Messages,
    *,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    name: str | None = None,
    schema: type[Any] | None = None,
    stream: bool = False,
    retries: int = config.LLM_RETRIES,
) -> Any:
    """Ask a model and return its answer.

    In an async flow or checkpoint it is awaited; checkers accept that of `llm_async`.

    Args:
        prompt_or_messages: a text, or messages with `role` and `content` as the provider has them.
        model: an alias, or `provider/name`; else `KITARU_DEFAULT_MODEL`, else the default alias.
        system: what the model is told before all else.
        temperature: how freely it answers, as the provider has it.
        max_tokens: the longest answer, in tokens; for Anthropic 16384 unless it is given.
        name: what it is called in the record; the next ones are `name#2`, `name#3`, ….
        schema: a pydantic model that the answer is to fit, and is returned as.
        stream: whether the text goes into the execution's log while it comes.
        retries: how often a request is repeated after a failure that may pass.

    Raises:
        KitaruContextError: called outside a running flow.
        KitaruUsageError: an argument cannot be right, or a model, its key or its SDK is missing.
        KitaruLLMTransientError: it gave no answer, and may give one later.
        KitaruLLMError: it gave no answer.

    Example:
        >>> import kitaru
        >>> @kitaru.flow
        ... def agent(topic: str) -> str:
        ...     return kitaru.llm(f"One line about {topic}.", model="openai/gpt-5-nano")
        >>> agent.run(topic="dogs").wait()
        'Dogs keep us company.'
    """
    question = _question(
        prompt_or_messages,
        model=model,
        system=system,
        temperature=temperature,
        max_tokens=max_tokens,
        schema=schema,
        stream=stream,
    )
    return _asked("kitaru.llm()", question, name=name, retries=retries)


@overload
def llm_async(
    prompt_or_messages: str | Messages,
    *,
    model: str | None = ...,
    system: str | None = ...,
    temperature: float | None = ...,
    max_tokens: int | None = ...,
    name: str | None = ...,
    schema: None = ...,
    stream: bool = ...,
    retries: int = ...,
) -> Coroutine[Any, Any, str]: ...
@overload
def llm_async(
    prompt_or_messages: str | Messages,
    *,
    model: str | None = ...,
    system: str | None = ...,
    temperature: float | None = ...,
    max_tokens: int | None = ...,
    name: str | None = ...,
    schema: type[T],
    stream: bool = ...,
    retries: int = ...,
) -> Coroutine[Any, Any, T]: ...
def llm_async(
    prompt_or_messages: str | Messages,
    *,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    name: str | None = None,
    schema: type[Any] | None = None,
    stream: bool = False,
    retries: int = config.LLM_RETRIES,
) -> Coroutine[Any, Any, Any]:
    """Ask as `llm` does, in an async flow or checkpoint, with the types of a coroutine.

    Args:
        prompt_or_messages: a text, or messages.
        model: an alias, or `provider/name`.
        system: what the model is told before all else.
        temperature: how freely it answers.
        max_tokens: the longest answer, in tokens.
        name: what it is called in the record.
        schema: a pydantic model that the answer is to fit.
        stream: whether the text goes into the execution's log while it comes.
        retries: how often a request is repeated after a failure that may pass.

    Raises:
        KitaruContextError: called outside a running flow.
        KitaruUsageError: the code here is not async, or as for `llm`.
        KitaruLLMError: it gave no answer.

    Example:
        >>> import kitaru
        >>> @kitaru.flow
        ... async def agent(topic: str) -> str:
        ...     return await kitaru.llm_async(f"One line about {topic}.", model="openai/gpt-5-nano")
        >>> agent.run(topic="dogs").wait()
        'Dogs keep us company.'
    """
    what = "kitaru.llm_async()"
    driver, call = _place(what)
    if not (driver.is_async if call is None else call.is_async):
        raise KitaruUsageError(
            f"{what} is awaited in an `async def`; here, where none runs, use kitaru.llm(…)."
        )
    question = _question(
        prompt_or_messages,
        model=model,
        system=system,
        temperature=temperature,
        max_tokens=max_tokens,
        schema=schema,
        stream=stream,
    )
    asked: Coroutine[Any, Any, Any] = _asked(what, question, name=name, retries=retries)
    return asked


def _place(what: str) -> tuple[Driver, CallScope | None]:
    """The driver, and the running call where this is inside a checkpoint."""
    driver, call = context.current_driver.get(), context.current_call.get()
    if driver is None:
        raise KitaruContextError(
            f"{what} works inside a running @flow only. Call it in the flow or a checkpoint."
        )
    if call is not None:
        context.refuse_late(call, what)
    return driver, call


def _question(
    prompt: Any,
    *,
    model: str | None,
    system: str | None,
    temperature: float | None,
    max_tokens: int | None,
    schema: type[Any] | None,
    stream: bool,
) -> Question:
    for name, value, kind in (("model", model, str), ("system", system, str)):
        if value is not None and not isinstance(value, kind):
            raise KitaruUsageError(f"kitaru.llm(): {name} is {value!r:.60}; it must be text.")
    if temperature is not None:
        retry.seconds(temperature, what="kitaru.llm(): temperature")
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise KitaruUsageError(
            f"kitaru.llm(): max_tokens is {max_tokens!r:.60}; give a whole number from 1 on."
        )
    if not isinstance(stream, bool):
        raise KitaruUsageError(f"kitaru.llm(): stream is {stream!r:.60}; it is True or False.")
    if schema is not None:
        from pydantic import BaseModel

        if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
            raise KitaruUsageError(
                f"kitaru.llm(): schema is {schema!r:.80}; give a class of pydantic.BaseModel."
            )
    messages = tuple(_messages(prompt))
    # As it is now: what is changed later must not change what is asked or recorded.
    given = prompt if isinstance(prompt, str) else [dict(each) for each in messages]
    return Question(given, messages, model, system, temperature, max_tokens, schema, stream)


def _messages(prompt: Any) -> Iterator[dict[str, Any]]:
    if isinstance(prompt, str):
        yield {"role": "user", "content": prompt}
        return
    if not isinstance(prompt, Sequence) or not prompt:
        raise KitaruUsageError(
            f"kitaru.llm(): {prompt!r:.80} is no prompt; give a text, or a list of messages."
        )
    for number, message in enumerate(prompt):
        if not (isinstance(message, Mapping) and isinstance(message.get("role"), str)):
            raise KitaruUsageError(
                f"kitaru.llm(): message {number} is {message!r:.80}; each is a dict with `role` "
                "and `content`."
            )
        copied: dict[str, Any] = copy.deepcopy(dict(message))
        if codec.plain(codec.encode_any(copied, path=f"message {number}")) != copied:
            raise KitaruUsageError(
                f"kitaru.llm(): message {number} holds what is no JSON data; convert it."
            )
        yield copied


def _asked(what: str, question: Question, *, name: str | None, retries: int) -> Any:
    driver, call = _place(what)
    policy = retry.policy(retries=retries, retry_on=KitaruLLMTransientError, owner=what)
    name = naming.checked(_NAME if name is None else name, what=what)
    if call is None:
        return driver.call(_request(driver, question, name=name, policy=policy))
    event = functools.partial(Event, question, driver, call, name=name)
    return (_repeated_async if call.is_async else _repeated)(event, driver, policy)


def _repeated(event: Callable[[], Event], driver: Driver, policy: retry.RetryPolicy) -> Any:
    """Ask inside a checkpoint, where attempts are not the journal's."""
    asking, tried = event(), 0
    while True:
        try:
            return asking.ask()
        except KitaruLLMTransientError as exc:
            tried += 1
            if not policy.repeats(exc, tried=tried):
                raise
            driver.pause(policy.pause(tried, asked=exc.retry_after))


async def _repeated_async(
    event: Callable[[], Event], driver: Driver, policy: retry.RetryPolicy
) -> Any:
    import asyncio

    asking, tried = event(), 0
    while True:
        try:
            return await asking.ask_async()
        except KitaruLLMTransientError as exc:
            tried += 1
            if not policy.repeats(exc, tried=tried):
                raise
            await asyncio.sleep(policy.pause(tried, asked=exc.retry_after))


def _request(
    driver: Driver, question: Question, *, name: str, policy: retry.RetryPolicy
) -> CallRequest:
    """A question in a flow's body: a call of its own."""
    schema = None if question.schema is None else _schema(cast(Any, question.schema))
    what = [
        question.prompt,
        question.system,
        question.temperature,
        question.max_tokens,
        schema,
    ]

    def cache_key() -> bytes:
        try:  # the model itself: an alias may mean another one by now
            found = question.resolved(driver)
            model: Any = [found.provider, found.name]
        except KitaruError:  # no answer will ever have this key: there is no such model
            model = question.model
        return codec.fingerprint(["kitaru.llm", model, *what], path=name)

    return CallRequest(
        name=name,
        type="llm_call",
        digest=codec.fingerprint([*what, question.model], path=name),
        policy=policy,
        run=_Work(driver, question),
        dump=functools.partial(codec.encode, path="answer"),
        load=functools.partial(_load, question.schema),
        adapt=functools.partial(_adapt, question.schema),
        is_async=driver.is_async,
        cache_key=cache_key,
    )


def _load(schema: type[Any] | None, data: bytes, call: str) -> Any:
    """The answer in a record."""
    value = codec.decode(data, path=call)
    if schema is None:
        return value
    from pydantic import ValidationError
    from pydantic_core import to_json

    try:
        return schema.model_validate_json(to_json(value))
    except ValidationError as exc:  # the schema is another one by now
        raise KitaruSerializationError(
            f"The answer recorded of {call} does not fit {schema.__name__} any more: "
            f"{exc.errors(include_url=False, include_input=False)[0]['msg']}. Restore the class, "
            "or replay from this call."
        ) from None


def _adapt(schema: type[Any] | None, data: bytes, what: str) -> bytes:
    """The record of a value that a replay puts in an answer's place."""
    if schema is None:
        return codec.encode(inputs.conform(codec.decode(data, path=what), str, what=what))
    value = codec.decode(data, types=codec.declared_types(schema), path=what)
    if isinstance(value, schema):
        value = value.model_dump(mode="json", by_alias=True)
    inputs.conform(value, schema, what=what)
    return codec.encode(value, path=what)


@functools.cache
def _schema(schema: Any) -> str:
    import json

    return json.dumps(schema.model_json_schema(), sort_keys=True)


class _Work:
    """A question as the code of a call."""

    def __init__(self, driver: Driver, question: Question) -> None:
        self._driver = driver
        self._question = question

    @property
    def shown(self) -> str:
        """The question as messages may show it."""
        asked = self._question
        more = {
            "schema": asked.schema and asked.schema.__name__,
            "system": asked.system,
            "temperature": asked.temperature,
            "max_tokens": asked.max_tokens,
        }
        given = {name: value for name, value in more.items() if value is not None}
        return inputs.shown({"model": asked.model, **given, "prompt": asked.prompt})

    def keep(self) -> None:
        """It was copied when it was asked."""

    def __call__(self) -> Any:
        call = context.current_call.get()
        assert call is not None
        event = Event(self._question, self._driver, call, name=None)
        return event.ask_async() if self._driver.is_async else event.ask()
