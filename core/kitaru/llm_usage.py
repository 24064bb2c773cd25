"""`kitaru.record_llm_usage`: count what a checkpoint asks through a provider's own SDK.

Here an answer of any provider becomes an `llm_usage_v1` record: `kitaru.llm` and whatever speaks to
models in another way record through `add`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru import config, context, ids, naming, prices, redaction, retry
from kitaru.context import CallScope
from kitaru.errors import KitaruUsageError
from kitaru.usage import MOST_COUNT, Interaction, Tokens, is_number

#: What of a record is in a provider's own words.
_OF_PROVIDERS = ("model", "finish_reason", "usage")


def record_llm_usage(
    response: Any = None,
    *,
    provider: str | None = None,
    model: str | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    total_tokens: int | None = None,
    cached_input_tokens: int | None = None,
    reasoning_tokens: int | None = None,
    latency_ms: float | None = None,
    actual_cost_usd: float | None = None,
    name: str | None = None,
    record_id: str | None = None,
) -> str:
    """Count what a model has used that a checkpoint has asked through a provider's own SDK.

    It is written at once, so that it is known whatever becomes of the checkpoint.

    Args:
        response: what the SDK has returned (OpenAI's or Anthropic's); what is given besides wins.
        provider: who has answered, such as `openai`; else as the response's class tells.
        model: which model; else as the response says.
        input_tokens: all tokens that went in, cached ones too.
        output_tokens: all tokens that came out, those of reasoning too.
        total_tokens: both, where they are no simple sum.
        cached_input_tokens: those of the input that the provider's cache had.
        reasoning_tokens: those of the output that nobody sees.
        latency_ms: how long the answer took, in milliseconds.
        actual_cost_usd: what it cost in US dollars, only where the provider says so.
        name: what the interaction is called.
        record_id: what it is counted by; else the response's own id. One that is told twice
            counts once.

    Returns:
        The id of the record.

    Raises:
        KitaruContextError: called outside a checkpoint.
        KitaruUsageError: there is nothing to count, or a number cannot be right.

    Example:
        >>> import kitaru
        >>> @kitaru.checkpoint(type="llm_call")
        ... def ask(topic: str) -> str:
        ...     kitaru.record_llm_usage(
        ...         provider="openai", model="gpt-5-nano", input_tokens=11, output_tokens=7
        ...     )
        ...     return f"About {topic}"
        >>> @kitaru.flow
        ... def agent(topic: str) -> str:
        ...     return ask(topic)
        >>> handle = agent.run(topic="dogs")
        >>> handle.wait()
        'About dogs'
        >>> found = kitaru.KitaruClient().executions.get(handle.exec_id)
        >>> found.llm_usage_summary["total_tokens"]
        18
    """
    what = "kitaru.record_llm_usage()"
    scope = _place(what)
    counts = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": total_tokens,
        "cached_input_tokens": cached_input_tokens,
        "reasoning_tokens": reasoning_tokens,
    }
    tokens = _tokens(response, counts, what=what)
    for each, number in (("latency_ms", latency_ms), ("actual_cost_usd", actual_cost_usd)):
        if number is not None:
            retry.seconds(number, what=f"{what}: {each}")
    provider = provider or _provider_of(response)
    model = model or _field(response, "model")
    for each, said in (("provider", provider), ("model", model)):
        if said is not None:
            naming.checked(said, what=f"{what}: {each}", without="")
    cost, unpriced = prices.cost(provider, model, tokens, actual=actual_cost_usd)
    interaction = Interaction(
        adapter="sdk",
        surface="model_call",
        call_name=naming.checked(name or scope.call_id, what=what, without=""),
        provider=provider,
        model=model,
        requested_model=None,
        resolved_model=f"{provider}/{model}" if provider and model else None,
        tokens=tokens,
        cost=cost,
        latency_ms=latency_ms,
        warnings=(unpriced,) if unpriced else (),
    )
    if record_id is not None:
        naming.checked(record_id, what=f"{what}: record_id", without="")
    return add(interaction, scope, record_id=record_id or _id_of(response))


def _place(what: str) -> CallScope:
    """The attempt that runs here."""
    _, scope = context.in_checkpoint(what)
    context.refuse_forked(scope, what)
    return scope


def _tokens(response: Any, counts: dict[str, int | None], *, what: str) -> Tokens:
    for name, count in counts.items():
        if count is not None and not (type(count) is int and is_number(count)):
            is_long = isinstance(count, int) and abs(count) > MOST_COUNT  # too long to be written
            raise KitaruUsageError(
                f"{what}: {name} is {'too large' if is_long else repr(count)}; give a whole number "
                f"from 0 to {MOST_COUNT}."
            )
    told = _usage_of(response)
    if told is None and not any(count is not None for count in counts.values()):
        raise KitaruUsageError(
            f"{what} has nothing to count: give it the response of OpenAI's or Anthropic's SDK, or "
            "input_tokens and output_tokens."
        )
    found = Tokens.of(told or {})
    given, output = counts["input_tokens"], counts["output_tokens"]
    given = found.input if given is None else given
    output = found.output if output is None else output
    total = counts["total_tokens"]
    if total is None:
        total = found.total if given == found.input and output == found.output else None
    if total is None and not (given is None and output is None):
        total = (given or 0) + (output or 0)
    cached, reasoning = counts["cached_input_tokens"], counts["reasoning_tokens"]
    return Tokens(
        input=given,
        output=output,
        total=total,
        cached=found.cached if cached is None else cached,
        cache_written=found.cache_written,
        reasoning=found.reasoning if reasoning is None else reasoning,
        raw=found.raw,
    )


def _usage_of(response: Any) -> Mapping[str, Any] | None:
    """The counts of a response, whether it is an SDK's object or its JSON."""
    usage = _field(response, "usage")
    if usage is not None and hasattr(usage, "model_dump"):
        usage = usage.model_dump(warnings=False)
    return usage if isinstance(usage, Mapping) else None


def _field(response: Any, name: str) -> Any:
    return response.get(name) if isinstance(response, Mapping) else getattr(response, name, None)


def _provider_of(response: Any) -> str | None:
    root = type(response).__module__.partition(".")[0]
    return root if root in ("openai", "anthropic") else None


def _id_of(response: Any) -> str | None:
    found = _field(response, "id")
    is_id = isinstance(found, str) and found and len(found) <= config.MAX_IDEMPOTENCY_KEY
    return redaction.recordable(found) if is_id else None


def add(
    interaction: Interaction, scope: CallScope, *, record_id: str | None = None, ends: bool = False
) -> str:
    """Record an interaction with a provider on the attempt that runs; returns the record's id."""
    if record_id is None:
        number = scope.number("")  # no event is named so
        record_id = f"{scope.call_id}@{scope.attempt}:{number}"
    record = interaction.record(
        record_id, call_id=scope.call_id, call_name=ids.call_name(scope.call_id)
    )
    # A provider may name what it likes, and so whatever it was told.
    record |= {name: redaction.recordable_value(record[name]) for name in _OF_PROVIDERS}
    scope.add_usage(record, ends=ends)
    return record_id
