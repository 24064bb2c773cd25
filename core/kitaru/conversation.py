"""A question to a model as a flow asks it, and one request of it: from the model to the record.

Owns what every request leaves behind, whatever comes of it: an `llm_usage_v1` record at once, the
prompt and the response as artifacts, streamed text as lines of the log. How a provider is spoken to
is in `providers`; how often a request is repeated is told by who makes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kitaru import (
    capture,
    clock,
    codec,
    config,
    context,
    ids,
    llm_usage,
    model_aliases,
    prices,
    redaction,
)
from kitaru.context import CallScope, Driver
from kitaru.errors import KitaruError, KitaruLLMError, KitaruLLMTransientError
from kitaru.model_aliases import ResolvedModel
from kitaru.providers import Answer, Ask, Failed, ask, ask_async, find_access
from kitaru.store.artifacts import NewArtifact
from kitaru.usage import Interaction, Status


@dataclass(frozen=True, slots=True)
class Question:
    """What a flow asks; `prompt` as it was given, `model` as it was named, if it was."""

    prompt: Any
    messages: tuple[dict[str, Any], ...]
    model: str | None
    system: str | None
    temperature: float | None
    max_tokens: int | None
    schema: type[Any] | None
    stream: bool

    def resolved(self, driver: Driver) -> ResolvedModel:
        """The model that is meant.

        Raises:
            KitaruNotFoundError: there is no such alias; names the nearest.
            KitaruUsageError: the provider is unknown, or nothing names a model.
        """
        return model_aliases.resolve(self.model, home=driver.home.path)

    def ask(self, model: ResolvedModel) -> Ask:
        """What its provider is to get."""
        return Ask(
            model=model.name,
            messages=self.messages,
            system=self.system,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            schema=self.schema,
        )


class Event:
    """A question inside a running attempt: what its requests are called, and where they leave what.

    Args:
        question: what is asked.
        driver: the driver of the execution.
        scope: the attempt.
        name: what it is called; `None` where the call itself is nothing but this question.
    """

    def __init__(
        self, question: Question, driver: Driver, scope: CallScope, *, name: str | None
    ) -> None:
        self.question = question
        self.driver = driver
        self.scope = scope
        self.is_call = name is None
        self.name = scope.call_id if name is None else ids.call_id(name, scope.number(name))
        self.keep("prompt", question.prompt)

    def keep(self, kind: str, value: Any) -> None:
        """Save what went in or came out."""
        name = f"{self.name}_{kind}"
        data = codec.encode_any(value, path=name)
        self.scope.add_artifact(NewArtifact(name, kind, (), clock.now_us(), data))

    def ask(self) -> Any:
        """Make one request.

        Raises:
            KitaruLLMTransientError: there is no answer now.
            KitaruLLMError: there is none.
            KitaruUsageError: no model, key or SDK is there.
        """
        request = _Request(self)
        with request.telling():
            ask(request.access, request.ask, request.answer, listener=request.listener)
        return request.answered()

    async def ask_async(self) -> Any:
        """The same where code is async."""
        request = _Request(self)
        with request.telling():
            await ask_async(request.access, request.ask, request.answer, listener=request.listener)
        return request.answered()


class _Request:
    """One request, and what is left behind of it."""

    def __init__(self, event: Event) -> None:
        context.refuse_late(event.scope, "A request to a model")
        context.refuse_forked(event.scope, "A request to a model")
        question = event.question
        self._event = event
        self._model = question.resolved(event.driver)
        self.access = find_access(self._model, home=event.driver.home)
        self.access.module()  # before the clock runs: an SDK takes its time to load
        self.ask = question.ask(self._model)
        self.answer = Answer()
        self._lines = _Lines() if question.stream else None
        self.listener = self._lines.add if self._lines is not None else None
        self._since = clock.monotonic()

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """While it is made: what keeps it from an answer is recorded and told."""
        try:
            with capture.unheard():
                yield
        except Failed as exc:
            raise self.refused(exc) from None
        except KitaruError:  # nothing was asked
            raise
        except BaseException:
            self.broke_off()
            raise

    def answered(self) -> Any:
        """The value of an answer that came to its end."""
        answer, warnings = self.answer, []
        if answer.is_cut:
            warnings.append(
                f"The answer of {self._named} was cut off at its longest; give a larger max_tokens"
            )
        self._record("completed", warnings)
        if self._lines is not None:
            self._lines.end()
        self._event.keep("response", answer.text)
        for warning in warnings:
            capture.note("WARNING", f"{warning}.")
        if answer.refusal is not None:
            said = redaction.recordable(answer.refusal)  # before anything is cut off
            raise self._error(f"refused to answer: {said:.300}")
        schema = self._event.question.schema
        return answer.text if schema is None else self._fitted(schema)

    def _fitted(self, schema: type[Any]) -> Any:
        from pydantic import ValidationError
        from pydantic_core import from_json

        try:
            fitted = schema.model_validate_json(self.answer.text)
            # Of a call the answer itself is recorded, and made the schema's whenever it is read.
            return from_json(self.answer.text) if self._event.is_call else fitted
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            cut = " It was cut off: give a larger max_tokens." if self.answer.is_cut else ""
            raise self._error(
                f"gave an answer that does not fit {schema.__name__}: "
                f"{where and f'{where}: '}{first['msg']}.{cut}",
                KitaruLLMError if self.answer.is_cut else KitaruLLMTransientError,
            ) from None

    def refused(self, failure: Failed) -> KitaruLLMError:
        """The error for a request without an answer."""
        begun = bool(self.answer.text) or self.answer.tokens.total is not None
        is_broken = begun or failure.is_billed
        self._record("interrupted" if is_broken else "failed", [failure.reason])
        if self._lines is not None:
            self._lines.end()
        asked = failure.retry_after
        told = f"did not answer: {failure.reason}"
        if asked is not None and asked > config.RETRY_AFTER_MAX_SECONDS:
            return self._error(
                f"{told}. It asks to be left alone for {asked:.0f} seconds, which is longer than "
                "an execution waits for it",
                status_code=failure.status_code,
            )
        kind = KitaruLLMTransientError if failure.is_transient else KitaruLLMError
        error = self._error(told, kind, status_code=failure.status_code)
        if isinstance(error, KitaruLLMTransientError):
            error.retry_after = asked
        return error

    def broke_off(self) -> None:
        """Its code was cancelled or interrupted: what had come by then is counted."""
        self._record("interrupted", ["it was cancelled before its end"])

    def _error(
        self, what: str, kind: type[KitaruLLMError] = KitaruLLMError, **more: Any
    ) -> KitaruLLMError:
        call = ids.qualified(self._event.scope.exec_id, self._event.name)
        text = redaction.recordable(f"{self._named} {what}{'' if what[-1] in '.…' else '.'}")
        hint = f" It was asked by {call}; look at its llm_usage_records, and retry when it can be."
        return kind(f"{text}{hint}", provider=self._model.provider, model=self._model.name, **more)

    @cached_property
    def _named(self) -> str:
        return f"{self._model.provider}/{self._model.name}"

    def _record(self, status: Status, warnings: list[str]) -> None:
        answer, event = self.answer, self._event
        latency_ms = (clock.monotonic() - self._since) * 1000
        model = redaction.recordable(answer.model or self._model.name)[: config.MAX_NAME]
        cost, unpriced = prices.cost(
            self._model.provider, model, answer.tokens, actual=answer.cost_usd
        )
        interaction = Interaction(
            adapter="kitaru.llm",
            surface="direct_llm",
            call_name=event.name,
            provider=self._model.provider,
            model=model,
            requested_model=event.question.model,
            resolved_model=self._named,
            tokens=answer.tokens,
            cost=cost,
            latency_ms=round(latency_ms, 3),
            status=status,
            finish_reason=answer.finish_reason,
            warnings=tuple(map(redaction.recordable, [*warnings, *filter(None, [unpriced])])),
        )
        # A coroutine may be cancelled with its drive before its end is written.
        ends = event.is_call and status != "interrupted" and not event.scope.is_async
        llm_usage.add(interaction, event.scope, ends=ends)


class _Lines:
    """Streamed text, as lines of the log: each as soon as it is whole, long ones in pieces."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, piece: str) -> None:
        """Go on with the text."""
        *lines, self._text = (self._text + piece).split("\n")
        for line in lines:
            self._note(line)
        if len(self._text) > config.LLM_LINE_CHARACTERS:
            line, _, rest = self._text.rpartition(" ")
            if line:
                self._note(line)
                self._text = rest

    def end(self) -> None:
        """The last line is over."""
        if self._text:
            self._note(self._text)
            self._text = ""

    @staticmethod
    def _note(line: str) -> None:
        capture.note("INFO", line, module="kitaru.llm")
