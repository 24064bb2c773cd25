"""`@flow`: a function whose run is a durable execution."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from kitaru import config, context, inputs, naming, redaction, retry, settings
from kitaru.definition import FlowDefinition
from kitaru.errors import KitaruUsageError

if TYPE_CHECKING:
    from kitaru.handle import FlowHandle

P = ParamSpec("P")
Q = ParamSpec("Q")
# Covariant: to pyright an `async def` returns a subclass of the Coroutine in the overloads.
R = TypeVar("R", covariant=True)
T = TypeVar("T")

_RUN_OPTIONS = ("retries", "cache", "stack")


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

    if not TYPE_CHECKING:  # so that checkers complain about it too

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            raise KitaruUsageError(
                f"Flow {self.name!r} is not called directly. Start it with "
                f"`handle = {self.__name__}.run(…)` and take its result with `handle.wait()`."
            )

    @overload
    def run(
        self: Flow[Q, Coroutine[Any, Any, T]], *args: Q.args, **kwargs: Q.kwargs
    ) -> FlowHandle[T]: ...
    @overload
    def run(self, *args: P.args, **kwargs: P.kwargs) -> FlowHandle[R]: ...
    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Start an execution on a thread of its own, and return its handle at once.

        In a flow's body it starts a child execution: recorded with the flow's call, started once
        however often the flow is driven, and cancelled with it.

        Args:
            args: the flow's inputs.
            kwargs: the flow's inputs by name; `retries`, `cache` and `stack`, where the flow has
                no such parameter, are options as in `with_options`. Type checkers know the
                flow's own parameters only: where types are checked, use `with_options`.

        Raises:
            KitaruUsageError: the inputs do not fit the flow's parameters, an option or a setting
                cannot be right, or a target's import calls this.
            KitaruContextError: a checkpoint calls this.
            KitaruStateError: the stack does not exist.
            KitaruSerializationError: an input cannot be recorded exactly.

        Example:
            >>> import kitaru
            >>> @kitaru.flow
            ... def greet(name: str) -> str:
            ...     return f"Hello, {name}"
            >>> greet.run(name="Ada").wait()
            'Hello, Ada'
        """
        # Loaded by the first run: a module that only defines flows does without.
        from kitaru import launch, nested, terminal
        from kitaru.handle import drive_here
        from kitaru.store import open_store

        what = f"Flow {self.name!r}"
        context.refuse_in_import(what)
        flow, kwargs = _with_run_options(self.definition, kwargs)
        arguments = inputs.bind(flow.fn, args, kwargs, name=self.name)
        if context.current_driver.get() is not None:
            return nested.run(context.in_flow(what), flow, arguments)
        store = open_store(config.find_home())
        lease = launch.start(store, flow, arguments)
        return drive_here(store, flow, lease, interactive=terminal.is_interactive())

    @overload
    def replay(
        self: Flow[Q, Coroutine[Any, Any, T]],
        exec_id: str,
        from_: str,
        overrides: Mapping[str, Any] | None = ...,
        **flow_inputs: Any,
    ) -> FlowHandle[T]: ...
    @overload
    def replay(
        self,
        exec_id: str,
        from_: str,
        overrides: Mapping[str, Any] | None = ...,
        **flow_inputs: Any,
    ) -> FlowHandle[R]: ...
    def replay(
        self,
        exec_id: str,
        from_: str,
        overrides: Mapping[str, Any] | None = None,
        **flow_inputs: Any,
    ) -> Any:
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
        from kitaru import launch, terminal
        from kitaru import replay as plans
        from kitaru.handle import drive_here
        from kitaru.store import open_store

        context.refuse_nested(f"A replay of {self.name!r}")
        store = open_store(config.find_home())
        lease = launch.start_replay(
            store,
            self.definition,
            exec_id,
            from_=from_,
            overrides=plans.encoded(overrides),
            flow_inputs=flow_inputs,
        )
        return drive_here(store, self.definition, lease, interactive=terminal.is_interactive())

    def with_options(
        self,
        *,
        retries: int | None = None,
        cache: bool | None = None,
        stack: str | None = None,
        timeout: float | None = None,
        tags: Sequence[str] | None = None,
    ) -> Flow[P, R]:
        """The same flow with other options for its next runs.

        Args:
            retries: how often a failed run is driven again.
            cache: whether checkpoints may take the result of an earlier equal call.
            stack: the stack to run on.
            timeout: seconds that an execution may take.
            tags: words to find its executions by.

        Raises:
            KitaruUsageError: an option cannot be right.

        Example:
            >>> import kitaru
            >>> @kitaru.flow
            ... def report(day: str) -> str:
            ...     return f"report of {day}"
            >>> handle = report.with_options(tags=["nightly"]).run(day="Monday")
            >>> handle.wait()
            'report of Monday'
            >>> kitaru.KitaruClient().executions.get(handle.exec_id).tags
            ('nightly',)
        """
        given = settings.checked("run", {"retries": retries, "cache": cache, "stack": stack})
        flow = self.definition
        flow = replace(flow, run_options={**flow.run_options, **given})
        if timeout is not None:
            flow = replace(flow, timeout=retry.timeout_seconds(timeout, owner="run"))
        if tags is not None:
            flow = replace(flow, tags=_tags(tags))
        return Flow(flow)

    def __repr__(self) -> str:
        return f"<flow {self.name}>"


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    name: str | None = None,
    retries: int | None = None,
    cache: bool | None = None,
    stack: str | None = None,
    timeout: float | None = None,
    tags: Sequence[str] = (),
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int | None = None,
    cache: bool | None = None,
    stack: str | None = None,
    timeout: float | None = None,
    tags: Sequence[str] = (),
) -> Any:
    """Make a function a flow: the durable orchestration of checkpoints and waits.

    An option that is not given is what `kitaru.configure`, `KITARU_*` or pyproject.toml say.

    Args:
        name: what its executions are listed under; the function's name by default.
        retries: how often a failed run is driven again; recorded checkpoints do not run again.
        cache: whether checkpoints may take the result of an earlier equal call; off by default.
        stack: the stack its executions run on.
        timeout: seconds that an execution may take from its start (or from a retry) to its end,
            waits included; then it fails.
        tags: words to find its executions by.

    Raises:
        KitaruUsageError: an option cannot be right, or it is no function that can be recorded.

    Example:
        >>> import kitaru
        >>> @kitaru.flow(tags=["nightly"])
        ... def report(day: str) -> str:
        ...     return f"report of {day}"
        >>> report.run(day="Monday").wait()
        'report of Monday'
    """
    options = settings.checked("@flow", {"retries": retries, "cache": cache, "stack": stack})
    seconds = retry.timeout_seconds(timeout, owner="@flow")
    checked_tags = _tags(tags)

    def decorate(function: Callable[..., Any]) -> Flow[..., Any]:
        full_name = naming.of_function(function, name, what="flow")
        naming.refuse_generators(function, what="flow")
        definition = FlowDefinition(
            function, full_name, options=options, timeout=seconds, tags=checked_tags
        )
        return Flow(definition)

    return decorate if fn is None else decorate(fn)


def _with_run_options(
    flow: FlowDefinition, kwargs: dict[str, Any]
) -> tuple[FlowDefinition, dict[str, Any]]:
    """What of a run's keywords are options, because the flow has no parameter of that name."""
    parameters = inputs.signature(flow.fn).parameters
    names = [name for name in _RUN_OPTIONS if name in kwargs and name not in parameters]
    if not names or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return flow, kwargs
    given = settings.checked("run", {name: kwargs[name] for name in names})
    rest = {name: value for name, value in kwargs.items() if name not in names}
    return replace(flow, run_options={**flow.run_options, **given}), rest


def _tags(tags: object) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Sequence):
        raise KitaruUsageError(f"@flow: tags is {tags!r:.60}; give a list of words.")
    if not all(isinstance(tag, str) and tag.strip() for tag in tags):
        raise KitaruUsageError(f"@flow: tags {tags!r:.60} must be words that are not empty.")
    if not all(map(redaction.is_storable, tags)):
        raise KitaruUsageError(f"@flow: tags {tags!r:.60} must have no lone surrogates.")
    return tuple(dict.fromkeys(tags))
