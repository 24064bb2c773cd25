"""`kitaru.save` and `kitaru.load`: named values of a checkpoint beside its result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kitaru import clock, codec, context, naming, serializers
from kitaru.errors import KitaruUsageError
from kitaru.store.artifacts import NewArtifact

ARTIFACT_TYPES = ("blob", "context", "input", "output", "prompt", "response")


def save(name: str, value: Any, *, type: str = "output", tags: Sequence[str] | None = None) -> None:
    """Keep a value under a name, together with the running checkpoint's result.

    Args:
        name: what to find it by: at most 128 printable characters without `#`.
        value: any value a checkpoint may return.
        type: prompt, response, context, input, output or blob.
        tags: words to find it by.

    Raises:
        KitaruContextError: called outside a checkpoint.
        KitaruUsageError: the name, type or tags cannot be right.
        KitaruSerializationError: the value cannot be recorded exactly.

    Example:
        >>> import kitaru
        >>> @kitaru.checkpoint
        ... def draft(topic: str) -> str:
        ...     kitaru.save("outline", ["intro", topic], type="context")
        ...     return f"About {topic}"
        >>> @kitaru.flow
        ... def write(topic: str) -> str:
        ...     return draft(topic)
        >>> handle = write.run(topic="dogs")
        >>> handle.wait()
        'About dogs'
        >>> [ref.name for ref in kitaru.KitaruClient().artifacts.list(handle.exec_id)]
        ['outline', 'draft']
    """
    _, call = context.in_checkpoint("kitaru.save()")
    kind = type.strip().lower() if isinstance(type, str) else ""
    if kind not in ARTIFACT_TYPES:
        raise KitaruUsageError(
            f"kitaru.save({name!r}): unknown type {type!r}; use one of {', '.join(ARTIFACT_TYPES)}."
        )
    # A `#` could name the second of two (`notes#2`).
    name = naming.checked(name, what="artifact", without="#")
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags or ()):
        raise KitaruUsageError(f"kitaru.save({name!r}): tags must be a list of words.")
    data = codec.encode_any(value, path=name)
    call.add_artifact(NewArtifact(name, kind, tuple(tags or ()), clock.now_us(), data))


def load(exec_id: str, name: str, *, as_type: Any = None, allow_pickle: bool = False) -> Any:
    """Read what another execution recorded: a checkpoint's result, or a saved value.

    Args:
        exec_id: the execution, by full id or unique prefix.
        name: a checkpoint's name or call id, or the name of a saved value.
        as_type: the type of the value, where it holds a type of your own.
        allow_pickle: whether to read a value that a checkpoint recorded with
            `serializer="pickle"`, which runs whatever code its writer put there.

    Raises:
        KitaruContextError: called outside a checkpoint.
        KitaruNotFoundError: the execution or the name does not exist.
        KitaruStateError: several values have that name; lists their ids.
        KitaruSerializationError: the value needs a type that `as_type` does not name, or is a
            pickle and `allow_pickle` is not given.
    """
    driver, _ = context.in_checkpoint("kitaru.load()")
    data = driver.read_named(exec_id, name)
    read = serializers.reader(allow_pickle=allow_pickle)
    return read.load(data, types=codec.declared_types(as_type), path=name)
