"""Mistakes that type checkers must report, each in a line that ends in `# E`.

`# E: pyright` marks what mypy does not find: it cannot take the first parameter out of a ParamSpec.
"""

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def square(number: int) -> int:
    return number * number


@checkpoint(retries=1)
async def fetch(url: str, *, tries: int = 1) -> bytes:
    return b""


@checkpoint
def nothing() -> None: ...


@flow
def agent(topic: str) -> str:
    square("x")  # E
    square()  # E
    square(num=1)  # E
    square.submit("x")  # E
    square.submit(1, 2)  # E
    square.map(["x"])  # E: pyright
    square.map(1)  # E
    nothing.map([1])  # E: pyright
    square.map([1], workers=2)  # E
    text: str = square.submit(1).result()  # E
    fetch("x")  # E
    fetch.submit("x", tries="y")  # E
    fetch.map([1])  # E: pyright
    answer: str = kitaru.wait(schema=int)  # E
    kitaru.wait("Publish?")  # E
    kitaru.sleep("1")  # E
    return square(1)  # E


@flow(tags=["x"])
async def async_agent(topic: str) -> bytes:
    fetch("x")  # E
    kitaru.wait_async()  # E
    ok: bool = kitaru.wait_async()  # E
    await kitaru.wait(schema=bool)  # E
    await square(1)  # E
    text: str = await fetch("x")  # E
    return fetch("x")  # E


def start() -> None:
    agent("x")  # E
    agent.run(1)  # E
    agent.run()  # E
    agent.run(topic="x", retries=2)  # E
    agent.with_options(retries="2")  # E
    agent.with_options(retries=2).run(topic=1)  # E
    number: int = agent.run("x").wait()  # E
    data: str = async_agent.run("x").get()  # E
    agent.replay("kr-1")  # E


async def start_from_async_code() -> None:
    agent.run("x").wait().upper(1)  # E
    number: int = await async_agent.run("x")  # E


@checkpoint(retry=1)  # E
def misspelt() -> None: ...


@checkpoint(serializer="yaml", runtime="docker")  # E
def unknown_choice() -> None: ...


@flow(retries="1")  # E
def wrong_option() -> None: ...
