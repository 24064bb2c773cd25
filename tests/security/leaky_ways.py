"""Flows that let a registered secret out in every way known to us; run in a copy of this file.

`leak` does it in a checkpoint or in its body, where it is only text that is shown. `keeps` records
it, which is the one thing that is left exact. The secret comes from `kitaru.get_secret`, so that
this text does not have it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

import kitaru
from kitaru import checkpoint, flow

#: Each shows the secret inside a checkpoint, or inside the body of a flow.
IN_CALL: dict[str, Callable[[str], object]] = {}
IN_BODY: dict[str, Callable[[str], object]] = {}
LOGGER = logging.getLogger("leaky")


def canary() -> str:
    """The secret."""
    return kitaru.get_secret("canary")["VALUE"]


def in_call(work: Callable[[str], object]) -> Callable[[str], object]:
    IN_CALL[work.__name__] = work
    return work


def in_body(work: Callable[[str], object]) -> Callable[[str], object]:
    IN_BODY[work.__name__] = work
    return work


# --- what is written


@in_call
def prints(secret: str) -> None:
    print(f"the key is {secret}.")


@in_call
def prints_to_stderr(secret: str) -> None:
    print(secret, file=sys.stderr)


@in_call
def writes_in_pieces(secret: str) -> None:
    for part in (secret[:7], secret[7:], " without an end"):
        sys.stdout.write(part)


@in_call
def overwrites_a_line(secret: str) -> None:
    sys.stdout.write(f"{secret} 10 %\r{secret} 20 %\r{secret} 100 %\n")


@in_call
def prints_json(secret: str) -> None:
    print(json.dumps({"deep": [secret]}), json.dumps(secret, ensure_ascii=False))


@in_call
def prints_its_repr(secret: str) -> None:
    print(repr(secret), [secret], {secret: 1})


@in_call
def prints_bytes(secret: str) -> None:
    print(secret.encode(), [b"Bearer " + secret.encode()])


@in_call
def prints_an_address(secret: str) -> None:
    print(f"https://example.org/?key={urllib.parse.quote(secret, safe='')}&x=1")
    print(f"https://example.org/?{urllib.parse.urlencode({'key': secret})}")


@in_call
def prints_base64(secret: str) -> None:
    for user in ("", "u", "us", "use", "user"):
        print(base64.b64encode(f"{user}:{secret}:{user}".encode()).decode())
        print(base64.urlsafe_b64encode(f"{user}{secret}".encode()).decode())


@in_call
def prints_a_long_line(secret: str) -> None:
    print("x" * 63_000 + secret + "x" * 63_000)


@in_call
def logs(secret: str) -> None:
    LOGGER.info("the key is %s", secret)
    LOGGER.warning(f"{secret}")
    LOGGER.error({"key": secret})


@in_call
def logs_badly(secret: str) -> None:
    LOGGER.warning("%d of %s", secret)


@in_call
def logs_an_exception(secret: str) -> None:
    try:
        raise ValueError(secret)
    except ValueError:
        LOGGER.exception("oh")
        traceback.print_exc()


@in_call
def warns(secret: str) -> None:
    warnings.warn(f"deprecated: {secret}", UserWarning, stacklevel=1)


@in_call
def a_thread_fails(secret: str) -> None:
    def fails() -> None:
        raise ValueError(secret)

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()


@in_call
def reads_the_environment(secret: str) -> None:
    os.environ["LEAKY"] = secret
    print({name: value for name, value in os.environ.items() if name == "LEAKY"})


@in_call
def hears_a_program(secret: str) -> None:
    print(subprocess.run(["echo", secret], capture_output=True, text=True, check=True).stdout)


@in_call
def metadata(secret: str) -> None:
    kitaru.log(note=secret, deep={"list": [f"<{secret}>"]}, **{secret: 1})


@in_call
def metadata_that_is_none(secret: str) -> None:
    kitaru.log(first="x" * 170, odd=(secret,))


@in_call
def the_secret_itself(secret: str) -> None:
    print(kitaru.get_secret("canary"))
    kitaru.save("secret", kitaru.get_secret("canary"))


# --- what is raised


@in_call
def raises(secret: str) -> None:
    raise ValueError(f"401 for {secret}")


@in_call
def raises_an_error_of_the_system(secret: str) -> None:
    Path(f"/nowhere/{secret}").read_text()


@in_call
def raises_key_error(secret: str) -> None:
    {}[secret]


@in_call
def raises_with_attributes(secret: str) -> None:
    exc = ValueError("plain")
    exc.response = {"headers": {"x": secret}}  # type: ignore[attr-defined]
    raise exc


@in_call
def raises_with_odd_arguments(secret: str) -> None:
    raise ValueError({"key": secret}, secret.encode(), object())


@in_call
def raises_with_a_note(secret: str) -> None:
    exc = ValueError("plain")
    exc.add_note(f"with {secret}")
    raise exc


@in_call
def raises_from(secret: str) -> None:
    try:
        raise KeyError(secret)
    except KeyError as exc:
        raise RuntimeError("no luck") from exc


@in_call
def raises_a_group(secret: str) -> None:
    raise ExceptionGroup("several", [ValueError(secret), TypeError(secret)])


@in_call
def raises_a_long_text(secret: str) -> None:
    raise ValueError("x" * 8_150 + secret)


@in_call
def raises_from_its_source(secret: str) -> None:
    path = Path(__file__).with_name("literal.py")
    path.write_text(f"def fail():\n    raise ValueError('plain')  # {secret!r}\n")
    scope: dict[str, Any] = {}
    exec(compile(path.read_text(), path, "exec"), scope)
    scope["fail"]()


@in_call
def exits(secret: str) -> None:
    sys.exit(f"bye {secret}")


@in_call
def raises_its_own_class(secret: str) -> None:
    raise type("Odd", (Exception,), {"__str__": lambda self: f"odd {secret}"})


@in_call
def returns_what_cannot_be_recorded(secret: str) -> object:
    class Odd:
        def __repr__(self) -> str:
            return f"Odd({secret})"

    return {secret: Odd()}


# --- in the body of a flow


@checkpoint
def takes(text: Any, token: Any = None) -> int:
    return len(str(text))


@checkpoint(retries=2, retry_delay=0.001)
def fails_thrice(text: Any) -> None:
    raise ValueError(f"again {text}")


@checkpoint(timeout=0.01)
def is_late(text: Any) -> None:
    time.sleep(0.02)


@checkpoint(runtime="isolated")
def apart(way: str) -> None:
    secret = canary()
    print(f"apart {secret}")
    LOGGER.warning("apart %s", secret)
    kitaru.log(note=secret)
    os.write(2, f"past Python {secret}\n".encode())
    if way == "raises":
        raise ValueError(secret)
    if way == "leaves":
        os._exit(3)


@in_body
def body_prints_and_raises(secret: str) -> None:
    print(secret)
    LOGGER.error(secret)
    raise ValueError(secret)


@in_body
def arguments_of_a_call(secret: str) -> None:
    takes(secret, token=secret)
    takes(secret.encode(), token=[secret])
    takes({"deep": [{secret: secret}]})
    takes("x" * 70 + secret)


@in_body
def attempts_of_a_call(secret: str) -> None:
    fails_thrice(secret)


@in_body
def time_of_a_call_is_over(secret: str) -> None:
    is_late(secret)


@in_body
def an_error_is_caught_and_told(secret: str) -> None:
    try:
        fails_thrice(secret)
    except ValueError as exc:
        takes(str(exc))
        print(exc)
        raise RuntimeError(f"told: {exc}") from exc


@in_body
def many_calls_fail(secret: str) -> None:
    fails_thrice.map([secret, f"{secret}{secret}"]).result()


@in_body
def metadata_of_the_flow(secret: str) -> None:
    kitaru.log(note=secret, numbers=[1, 2, {"key": secret}])


@in_body
def a_question(secret: str) -> None:
    kitaru.wait(
        name="ask", question=f"Is it {secret}?", metadata={"m": [secret], secret: 1}, timeout=0
    )


@in_body
def a_question_of_great_length(secret: str) -> None:
    kitaru.wait(name="ask", question="x" * 60 + secret, schema=int, timeout=0)


@in_body
def apart_raises(secret: str) -> None:
    apart("raises")


@in_body
def apart_leaves(secret: str) -> None:
    apart("leaves")


@in_body
def a_coroutine_fails(secret: str) -> None:
    async def fails() -> None:
        raise ValueError(secret)

    asyncio.run(fails())


@in_body
def a_child_fails(secret: str) -> None:
    leak("raises")


# --- what changes from drive to drive: resumed with another argument, it diverges


@in_body
def diverges(secret: str) -> None:
    mark = Path(os.environ["KITARU_HOME"], f"seen-{kitaru.current_execution().exec_id}")
    takes(f"{secret}{mark.exists()}")
    mark.touch()
    kitaru.wait(name="diverging", timeout=0)


# --- past Python: what only a runner process keeps, in its file


@in_body
def writes_past_python(secret: str) -> None:
    os.write(2, f"raw {secret}\n".encode())
    subprocess.run(["sh", "-c", 'echo "$0" >&2', secret], check=True)


@checkpoint
def call(way: str) -> object:
    return IN_CALL[way](canary())


@flow
def leak(way: str) -> None:
    """Let the secret out this way."""
    if way in IN_CALL:
        call(way)
    else:
        IN_BODY[way](canary())


# --- what is recorded, and so stays exact


@checkpoint
def gives(text: Any) -> Any:
    return text


@checkpoint(serializer="pickle")
def gives_a_pickle(text: Any) -> Any:
    return {"pickled": text}


@checkpoint(cache=True)
def gives_again(text: Any) -> Any:
    return text


@checkpoint
def saves(text: Any) -> None:
    kitaru.save("kept", {"deep": [text]})


@checkpoint
def names(text: str) -> None:
    kitaru.save(text, 1, tags=[text])


#: How the secret comes to be recorded, and what the warning of it begins with; names have none.
KEPT: dict[str, tuple[Callable[[str], object], str]] = {
    "result": (gives, "The result of 'gives'"),
    "bytes": (lambda secret: gives(secret.encode()) and None, "The result of 'gives'"),
    "deep": (lambda secret: gives([{"a": (secret,)}]) and None, "The result of 'gives'"),
    "large": (lambda secret: gives("x" * 50_000 + secret) and None, "The result of 'gives'"),
    "pickle": (lambda secret: gives_a_pickle(secret) and None, "The result of 'gives_a_pickle'"),
    "cached": (lambda secret: gives_again(secret) and None, "The result of 'gives_again'"),
    "artifact": (saves, "Artifact 'kept' of 'saves'"),
    "name": (names, ""),
    "of the flow": (lambda secret: secret, "The flow's result"),
    "input": (lambda secret: None, "The flow's input"),
    "answer": (
        lambda secret: kitaru.wait(name="ask", schema=str, timeout=60) and None,
        "The answer to 'ask'",
    ),
}


@flow
def keeps(way: str, text: str = "") -> object:
    """Record the secret this way."""
    return KEPT[way][0](canary())


def _refuse(value: str) -> str:
    raise ValueError(f"{value} is not what was asked for")


@flow
def refuses() -> None:
    """Refuse every answer, in words that have it."""
    kitaru.wait(name="ask", schema=Annotated[str, AfterValidator(_refuse)], timeout=60)
