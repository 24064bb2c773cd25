"""Prefect's flows: async, with tasks whose results are kept so that a finished one is not repeated.

Prefect reads its settings as it is imported, so this is imported once they stand.
"""

from __future__ import annotations

import asyncio
import time

from prefect import flow, task


@task(persist_result=True)
async def step(number: int) -> str:
    return f"result {number}"


@task(persist_result=True)
async def nap(number: int, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return f"result {number}"


@flow
async def work(steps: int) -> float:
    began = time.perf_counter()
    for number in range(steps):
        await step(number)
    return time.perf_counter() - began


@flow
async def fan(count: int, seconds: float) -> int:
    return len(await asyncio.gather(*(nap(number, seconds) for number in range(count))))


async def sequential(*, steps: int) -> dict[str, float]:
    began = time.perf_counter()
    inside = await work(steps)
    return {"seconds": time.perf_counter() - began, "inside": inside}


async def at_once(*, executions: int, steps: int) -> dict[str, float]:
    began = time.perf_counter()
    await asyncio.gather(*(work(steps) for _ in range(executions)))
    return {"seconds": time.perf_counter() - began}


async def fan_out(*, count: int, seconds: float) -> dict[str, float]:
    began = time.perf_counter()
    await fan(count, seconds)
    return {"seconds": time.perf_counter() - began}
