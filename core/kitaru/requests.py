"""A checkpoint's function with its options, and how a call of it becomes a request to a driver.

The function gets copies of its arguments, so that a change it makes to them is as invisible to the
flow on the first run as on a replay, when it does not run.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from kitaru import codec, inputs, retry, serializers
from kitaru.context import CallRequest, IsolatedTask
from kitaru.definition import Target, describe
from kitaru.errors import KitaruSerializationError, KitaruUsageError

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

_METHOD = ". A checkpoint is no method: make it a function, or a @staticmethod"
_UNCHANGEABLE = (str, int, float, bool, bytes, type(None))


class CheckpointFunction:
    """What is recorded of a function, and how.

    Args:
        fn: the function.
        name: what its calls are called.
        type: a label for what it does.
        policy: its retries and its time limit.
        cache: whether earlier equal calls stand for it; `None` leaves that to the flow.
        serializer: how its values are recorded.
        is_isolated: whether it runs in a process of its own.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        name: str,
        type: str | None,
        policy: retry.RetryPolicy,
        cache: bool | None = None,
        serializer: serializers.Serializer = serializers.JSON,
        is_isolated: bool = False,
    ) -> None:
        self.name = name
        self.type = type
        self.policy = policy
        self.cache = cache
        self.serializer = serializer
        self.is_isolated = is_isolated
        self.fn = fn
        self.is_async = inspect.iscoroutinefunction(fn)
        self.__doc__ = fn.__doc__
        self.__name__ = fn.__name__
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn
        self.parameters = inputs.Parameters(fn)

    def dump(self, value: Any) -> bytes:
        """The record of a result."""
        return self.serializer.dump(value, types=self._returns, path="result")

    def load(self, data: bytes, call: str) -> Any:
        """The result in a record."""
        return self.serializer.load(data, types=self._returns, path=call)

    def load_arguments(self, data: bytes) -> inspect.BoundArguments:
        """The arguments of an isolated attempt."""
        bound = self.parameters.signature.bind_partial()
        path = f"the arguments of {self.name}"
        bound.arguments.update(self.serializer.load(data, types=self._types, path=path))
        return bound

    def request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> CallRequest:
        """One call, with its arguments bound."""
        try:
            arguments = self.parameters.arguments(args, kwargs)
        except TypeError as exc:
            signature = self.parameters.signature
            raise TypeError(
                f"Checkpoint {self.name}{inputs.masked(signature)}: {exc}"
                f"{_METHOD if 'self' in signature.parameters else ''}"
            ) from None
        digest = serializers.inputs_digest(arguments, serializer=self.serializer, path=self.name)
        return CallRequest(
            name=self.name,
            type=self.type,
            digest=digest,
            policy=self.policy,
            run=_Work(self, arguments),
            dump=self.dump,
            load=self.load,
            adapt=self._adapt,
            is_async=self.is_async,
            isolated=self._task(arguments) if self.is_isolated else None,
            cache=self.cache,
            cache_key=functools.partial(self._cache_key, arguments),
        )

    def _adapt(self, data: bytes, what: str) -> bytes:
        value = codec.decode(data, types=self._returns, path=what)
        value = inputs.conform(value, inputs.annotation(self.fn, "return"), what=what)
        return self.serializer.dump(value, types=self._returns, path=what)

    def _task(self, arguments: dict[str, Any]) -> IsolatedTask:
        if self._target.target is None:
            raise KitaruUsageError(
                f"Checkpoint {self.name!r} cannot run isolated: {self._target.problem}."
            )
        data = self.serializer.dump(arguments, types=self._types, path=self.name)
        return IsolatedTask(self.name, self._target.target, self._target.root, data)

    def _cache_key(self, arguments: dict[str, Any]) -> bytes:
        target = self._target
        what = [self.name, target.module, self.__qualname__, target.source_digest]
        values = serializers.cache_digest(arguments, serializer=self.serializer, path=self.name)
        return codec.fingerprint([*what, self.serializer.name, values, _closed_over(self.fn)])

    @functools.cached_property
    def _target(self) -> Target:
        return describe(self.fn, what="checkpoint")

    @functools.cached_property
    def _returns(self) -> codec.DeclaredTypes:
        return codec.return_types(self.fn)

    @functools.cached_property
    def _types(self) -> codec.DeclaredTypes:
        return inputs.types(self.fn)


class _Work:
    """A checkpoint's function with the arguments of one call."""

    __slots__ = ("_arguments", "_checkpoint", "_is_copied", "_shown")

    def __init__(self, checkpoint: CheckpointFunction, arguments: dict[str, Any]) -> None:
        self._checkpoint = checkpoint
        self._arguments = arguments
        self._is_copied = False
        self._shown: str | None = None

    @property
    def shown(self) -> str:
        """The arguments as messages may show them."""
        return inputs.shown(self._arguments) if self._shown is None else self._shown

    def keep(self) -> None:
        """Keep the arguments as they are now, for each attempt."""
        self._shown = self.shown
        self._is_copied = not all(type(each) in _UNCHANGEABLE for each in self._arguments.values())
        self._arguments = self._copied()

    def __call__(self) -> Any:
        args, kwargs = self._checkpoint.parameters.passed(self._copied())
        return self._checkpoint.fn(*args, **kwargs)

    def _copied(self) -> dict[str, Any]:
        try:
            return copy.deepcopy(self._arguments) if self._is_copied else self._arguments
        except Exception as exc:  # copying runs user code
            raise KitaruSerializationError(
                f"The arguments of checkpoint {self._checkpoint.name!r} cannot be copied: "
                f"{type(exc).__name__}: {exc}. Make what cannot be copied inside the checkpoint."
            ) from exc


def _closed_over(fn: Callable[..., Any]) -> dict[str, object]:
    """The plain values in which functions differ that one factory has made of one source."""
    code, cells = getattr(fn, "__code__", None), getattr(fn, "__closure__", None)
    found: dict[str, object] = {}
    for name, cell in zip(code.co_freevars if code else (), cells or (), strict=True):
        with contextlib.suppress(ValueError):  # not filled yet
            if type(cell.cell_contents) in _UNCHANGEABLE:
                found[name] = cell.cell_contents
    return found
