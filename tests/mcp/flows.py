"""Flows the server's tests run, in a copy of this file under a flow root of their own.

Whoever imports it leaves its command line in the store's folder; `gate` is a file whose coming a
flow waits for.
"""

from __future__ import annotations

import os
import struct
import sys
import time
import zlib
from pathlib import Path

import kitaru
from kitaru import checkpoint, flow

with Path(os.environ["KITARU_HOME"], "imports.txt").open("a") as imports:
    imports.write(" ".join(sys.orig_argv) + "\n")


def _pass(gate: str) -> None:
    Path(f"{gate}.reached").touch()
    deadline = time.monotonic() + 60  # a test that failed must not leave a runner behind
    while not Path(gate).exists() and time.monotonic() < deadline:
        time.sleep(0.005)


@checkpoint
def who() -> int:
    return os.getpid()


@checkpoint
def draft(topic: str) -> str:
    print("drafting", topic)
    kitaru.save("outline", ["intro", topic], type="context")
    return f"About {topic}"


@checkpoint
def publish(text: str) -> str:
    return text.upper()


@flow
def agent(topic: str = "dogs") -> str:
    who()
    text = draft(topic)
    ok = kitaru.wait(name="approve", question="Publish?", schema=bool, timeout=60)
    return publish(text) if ok else "rejected"


@flow
def broken() -> None:
    raise ValueError("no luck today")


@flow
def noisy() -> str:
    for number in range(2000):
        print("line", number)
        os.write(1, b"past Python\n")
    os.system("echo from a child; echo and to stderr >&2")
    return "quiet again"


@checkpoint
def draw() -> bytes:
    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@flow
def drawing() -> int:
    return len(draw())


@flow
def steps(count: int, gate: str) -> int:
    for number in range(count):
        draft(f"topic {number}")
    _pass(gate)
    for number in range(count):
        draft(f"more {number}")
    return count


@flow
def gated(gate: str) -> str:
    _pass(gate)
    return "through"


if "BLOCKING_IMPORT" in Path(__file__).stem.upper():
    _pass(str(Path(__file__).with_suffix(".gate")))
