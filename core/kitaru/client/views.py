"""What may be shown of a recorded value: text in pieces, small images, never an unpickled object.

Secrets are masked and control characters escaped before the text is cut, so that pieces fit
together and a cut cannot uncover anything.
"""

from __future__ import annotations

import json
from typing import Any

from kitaru import codec, config
from kitaru.errors import KitaruUsageError
from kitaru.models import ArtifactRef, ArtifactView, ViewFormat
from kitaru.redaction import is_secret, shown_value

_BINARY = "application/octet-stream"


def view(ref: ArtifactRef, record: bytes, *, offset: int, limit: int) -> ArtifactView:
    """A piece of a value, from its record.

    Args:
        ref: the artifact.
        record: its encoded value.
        offset: how many characters to leave out.
        limit: how many characters at most.
    """
    if codec.pickle_of(record, path=ref.artifact_id) is not None:
        note = "A pickle is never read to show it: where you trust who wrote it, load it in Python."
        return ArtifactView(
            ref, "pickle", _BINARY, note=f"{note} {_load(ref, 'allow_pickle=True')}"
        )
    raw = codec.bytes_of(record, path=ref.artifact_id)
    if raw is not None:
        return _of_bytes(ref, raw)
    if len(record) > config.MAX_VIEW_BYTES:
        kind, mime = _kind(record.startswith(b'"'))
        note = f"{ref.size} bytes are too many to be shown. Load it in Python: {_load(ref)}"
        return ArtifactView(ref, kind, mime, note=note)
    return _of_text(ref, codec.plain(record), offset=offset, limit=limit)


def file_of(ref: ArtifactRef, record: bytes) -> tuple[str, bytes]:
    """What a file of a value is, `json`, `text` or `bytes`, and what is in it.

    Raises:
        KitaruUsageError: it is a pickle, which is never read.
    """
    if codec.pickle_of(record, path=ref.artifact_id) is not None:
        raise KitaruUsageError(
            f"Artifact {ref.artifact_id} is a pickle, which is never read to write it to a file: "
            f"where you trust who wrote it, load it in Python. {_load(ref, 'allow_pickle=True')}"
        )
    raw = codec.bytes_of(record, path=ref.artifact_id)
    if raw is not None:
        return "bytes", raw
    value = codec.plain(record)
    if isinstance(value, str):
        return "text", value.encode()
    return "json", json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def _of_text(ref: ArtifactRef, value: object, *, offset: int, limit: int) -> ArtifactView:
    kind, mime = _kind(isinstance(value, str))
    shown = shown_as(ref, value)
    if isinstance(shown, str):
        whole = shown
    else:
        whole = json.dumps(shown, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    end = offset + limit
    return ArtifactView(
        ref,
        kind,
        mime,
        text=whole[offset:end],
        total=len(whole),
        next_offset=end if end < len(whole) else None,
    )


def shown_as(ref: ArtifactRef, value: object) -> Any:
    """A value as it may be shown under its artifact's name; results have names of functions."""
    return shown_value(value, hidden=ref.save_type == "manual" and is_secret(ref.name, value))


def _kind(is_text: bool) -> tuple[ViewFormat, str]:
    return ("text", "text/plain") if is_text else ("json", "application/json")


def _of_bytes(ref: ArtifactRef, raw: bytes) -> ArtifactView:
    image = image_type(raw)
    if image is not None and len(raw) <= config.MAX_IMAGE_BYTES:
        return ArtifactView(ref, "image", image, data=raw)
    what = f"An image of {len(raw)} bytes" if image else f"{len(raw)} bytes"
    note = f"{what}, not shown. Load it in Python: {_load(ref)}"
    return ArtifactView(ref, "binary", image or _BINARY, note=note)


def image_type(raw: bytes) -> str | None:
    """The media type of an image, from how its bytes begin."""
    if raw.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if raw.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if raw.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
        return "image/webp"
    return None


def _load(ref: ArtifactRef, how: str = "") -> str:
    return f"KitaruClient().artifacts.get({ref.artifact_id!r}).load({how})"
