"""`@flow`: a function whose run is a durable execution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, ParamSpec, TypeVar, overload

from kitaru import codec, config, context, inputs, launch, naming, redaction, retry, terminal
from kitaru.definition import FlowDefinition
from kitaru.errors import KitaruUsageError
from kitaru.handle import FlowHandle, drive_here
from kitaru.store import open_store

P = ParamSpec("P")
R = TypeVar("R")


class Flow(Generic[P, R]):
    """A flow: run it with `run`, or from another execution's record with `replay`."""

    def __init__(self, definition: FlowDefinition) -> None:
        self.definition = definition
        self.__doc__ = definition.fn.__doc__
        self.__name__ = definition.fn.__name__
        self.__qualname__ = definition.fn.__qualname__
        self.__module__ = definition.fn.__module__
        self.__wrapped__ = definition.fn

    @property
    def name(self) -> str:
        """What the flow is called."""
        return self.definition.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        raise KitaruUsageError(
            f"Flow {self.name!r} is not called directly. Start it with "
            f"`handle = {self.__name__}.run(…)` and take its result with `handle.wait()`."
        )

    def run(self, *args: P.args, **kwargs: P.kwargs) -> FlowHandle[R]:
        """Start an execution on a thread of its own, and return its handle at once.

        Args:
            args: the flow's inputs.
            kwargs: the flow's inputs by name.

        Raises:
            KitaruUsageError: the inputs do not fit the flow's parameters, or a target's import
                calls this.
            KitaruContextError: a flow or a checkpoint calls this.
            KitaruSerializationError: an input cannot be recorded exactly.

        Example:
            >>> import kitaru
            >>> @kitaru.flow
            ... def greet(name: str) -> str:
            ...     return f"Hello, {name}"
            >>> greet.run(name="Ada").wait()
            'Hello, Ada'
        """
        context.refuse_nested(f"Flow {self.name!r}")
        arguments = inputs.bind(self.definition.fn, args, kwargs, name=self.name)
        store = open_store(config.find_home())
        lease = launch.start(store, self.definition, arguments)
        return drive_here(store, self.definition, lease, interactive=terminal.is_interactive())

    def replay(
        self,
        exec_id: str,
        from_: str,
        overrides: Mapping[str, Any] | None = None,
        **flow_inputs: Any,
    ) -> FlowHandle[R]:
        """Start a new execution that reuses another's record up to a checkpoint.

        Args:
            exec_id: the execution to replay, by full id or unique prefix.
            from_: the checkpoint (name or call id) from which calls run again.
            overrides: `{"checkpoint.<name or call id>": value}`: what the flow gets from a call
                instead of its record.
            flow_inputs: inputs to replace; they reach only code that runs again.

        Raises:
            KitaruNotFoundError: there is no such execution.
            KitaruStateError: it is running, or a selector fits no call or several.
            KitaruUsageError: an input or an override's key cannot be right, or a target's import
                calls this.
            KitaruContextError: a flow or a checkpoint calls this.

        Example:
            >>> import kitaru
            >>> @kitaru.checkpoint
            ... def research(topic: str) -> str:
            ...     return f"notes about {topic}"
            >>> @kitaru.flow
            ... def agent(topic: str) -> str:
            ...     return research(topic).upper()
            >>> first = agent.run(topic="dogs")
            >>> first.wait()
            'NOTES ABOUT DOGS'
            >>> agent.replay(first.exec_id, from_="research", topic="cats").wait()
            'NOTES ABOUT CATS'
        """
        context.refuse_nested(f"A replay of {self.name!r}")
        store = open_store(config.find_home())
        encoded = {
            key: codec.encode_any(value, path=key) for key, value in (overrides or {}).items()
        }
        lease = launch.start_replay(
            store,
            self.definition,
            exec_id,
            from_=from_,
            overrides=encoded,
            flow_inputs=flow_inputs,
        )
        return drive_here(store, self.definition, lease, interactive=terminal.is_interactive())

    def with_options(
        self, *, retries: int | None = None, tags: Sequence[str] | None = None
    ) -> Flow[P, R]:
        """The same flow with other options for its next runs.

        Args:
            retries: how often a failed run is driven again.
            tags: words to find its executions by.

        Raises:
            KitaruUsageError: an option cannot be right.
        """
        definition = self.definition
        if retries is not None:
            definition = replace(definition, policy=_policy(retries))
        if tags is not None:
            definition = replace(definition, tags=_tags(tags))
        return Flow(definition)

    def __repr__(self) -> str:
        return f"<flow {self.name}>"


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *, name: str | None = None, retries: int = 0, tags: Sequence[str] = ()
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
    tags: Sequence[str] = (),
) -> Any:
    """Make a function a flow: the durable orchestration of checkpoints and waits.

    Args:
        name: what its executions are listed under; the function's name by default.
        retries: how often a failed run is driven again; recorded checkpoints do not run again.
        tags: words to find its executions by.

    Raises:
        KitaruUsageError: an option cannot be right, or it is not a plain function.

    Example:
        >>> import kitaru
        >>> @kitaru.flow(tags=["nightly"])
        ... def report(day: str) -> str:
        ...     return f"report of {day}"
        >>> report.run(day="Monday").wait()
        'report of Monday'
    """
    policy, checked_tags = _policy(retries), _tags(tags)

    def decorate(function: Callable[..., Any]) -> Flow[..., Any]:
        full_name = naming.of_function(function, name, what="flow")
        naming.refuse_async(function, what="flow")
        return Flow(FlowDefinition(function, full_name, policy, checked_tags))

    return decorate if fn is None else decorate(fn)


def _policy(retries: int) -> retry.RetryPolicy:
    return retry.policy(
        retries=retries,
        delay=config.RETRY_DELAY_SECONDS,
        backoff=config.RETRY_BACKOFF,
        owner="@flow",
    )


def _tags(tags: object) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Sequence):
        raise KitaruUsageError(f"@flow: tags is {tags!r:.60}; give a list of words.")
    if not all(isinstance(tag, str) and tag.strip() for tag in tags):
        raise KitaruUsageError(f"@flow: tags {tags!r:.60} must be words that are not empty.")
    if not all(map(redaction.is_storable, tags)):
        raise KitaruUsageError(f"@flow: tags {tags!r:.60} must have no lone surrogates.")
    return tuple(dict.fromkeys(tags))
