"""Restate: a handler whose steps are `ctx.run_typed`, served by Hypercorn, called over the ingress.

The server is a process of this worker's, on the loopback and with its defaults apart from
addresses and telemetry. It looks up its newest release once as it starts, for which it has no
setting. A resume is that of an invocation which waits for an awakeable and was suspended: Restate
sends it its whole journal again.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import hypercorn
import hypercorn.asyncio
import restate
import serving

IMPORTS = "import hypercorn.asyncio, restate"
_SUSPENDS_AFTER = timedelta(milliseconds=100)

service = restate.Service("peer")
#: Of another name, for a registration of a name sends all its calls to the newest process.
startup_service = restate.Service("startup")


class Turn:
    """Where the invocation that is resumed stands."""

    awakeable = ""
    suspended = asyncio.Event()
    resumed_at = 0.0


async def step(number: int) -> str:
    return f"result {number}"


async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@service.handler()
async def work(ctx: restate.Context, steps: int) -> float:
    began = time.perf_counter()
    for number in range(steps):
        await ctx.run_typed("step", step, number=number)
    return time.perf_counter() - began


@service.handler()
async def fan(ctx: restate.Context, plan: dict[str, float]) -> int:
    naps = (ctx.run_typed("nap", nap, seconds=plan["seconds"]) for _ in range(int(plan["count"])))
    return len(await restate.gather(*naps))


@service.handler(inactivity_timeout=_SUSPENDS_AFTER)
async def interrupted(ctx: restate.Context, steps: int) -> int:
    for number in range(steps):
        await ctx.run_typed("step", step, number=number)
    Turn.awakeable, answer = ctx.awakeable()
    try:
        await answer
    except BaseException:  # how the library leaves a handler that is suspended
        Turn.suspended.set()
        raise
    await ctx.run_typed("step", first_new_step)
    return steps


async def first_new_step() -> str:
    Turn.resumed_at = time.perf_counter()
    return "resumed"


@startup_service.handler()
async def once(ctx: restate.Context, number: int) -> str:
    return await ctx.run_typed("step", step, number=number)


class Rounds:
    """The cases, which need the ingress."""

    def __init__(self, ingress: str, client: restate.RestateClient) -> None:
        self._ingress = ingress
        self._client = client

    async def sequential(self, *, steps: int) -> serving.Figures:
        began = time.perf_counter()
        inside = await self._client.service_call(work, steps)
        return {"seconds": time.perf_counter() - began, "inside": inside}

    async def at_once(self, *, executions: int, steps: int) -> serving.Figures:
        began = time.perf_counter()
        await asyncio.gather(*(self._client.service_call(work, steps) for _ in range(executions)))
        return {"seconds": time.perf_counter() - began}

    async def fan_out(self, *, count: int, seconds: float) -> serving.Figures:
        began = time.perf_counter()
        await self._client.service_call(fan, {"count": count, "seconds": seconds})
        return {"seconds": time.perf_counter() - began}

    async def resume(self, *, recorded: int) -> serving.Figures:
        Turn.suspended.clear()
        call = asyncio.create_task(self._client.service_call(interrupted, recorded))
        await Turn.suspended.wait()
        url = f"{self._ingress}/restate/awakeables/{Turn.awakeable}/resolve"
        began = time.perf_counter()
        await asyncio.to_thread(serving.request, url, "go on")
        await call
        return {"seconds": Turn.resumed_at - began}


def start_server(binary: str, folder: Path) -> tuple[str, str]:
    """Start Restate's server; the addresses of its ingress and its administration."""
    ingress, admin, fabric = serving.free_port(), serving.free_port(), serving.free_port()
    addresses = {
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_PORT": str(fabric),
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_ADMIN__BIND_PORT": str(admin),
    }
    command = [binary, "--no-logo", "--base-dir", str(folder)]
    log = {"RESTATE_LOG_FILTER": "error", "RESTATE_LOG_DISABLE_ANSI_CODES": "true"}
    subprocess.Popen(command, env=os.environ | addresses | log, stdin=subprocess.DEVNULL)
    return f"http://127.0.0.1:{ingress}", f"http://127.0.0.1:{admin}"


async def serve_handlers(
    ingress: str,
    admin: str,
    served: restate.Service,
    *,
    then: Callable[[restate.RestateClient], Awaitable[None]],
) -> None:
    """Serve a service's handlers, tell the server where, and do the rest with a client."""
    port = serving.free_port()
    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "ERROR"
    done = asyncio.Event()
    app = restate.app(services=[served])
    handlers = asyncio.create_task(
        hypercorn.asyncio.serve(app, config, shutdown_trigger=done.wait)  # type: ignore[arg-type]
    )
    deployment = {"uri": f"http://127.0.0.1:{port}"}
    await asyncio.to_thread(serving.request, f"{admin}/deployments", deployment)
    async with restate.create_client(ingress) as client:
        await then(client)
    done.set()
    await handlers


async def first_step(client: restate.RestateClient) -> None:
    """What a new process does, once its handlers are known."""
    await client.service_call(once, 1)
    serving.print_memory()


async def rounds(folder: Path, binary: str) -> None:
    """Answer requests; the cases run in this loop, beside the handlers."""
    loop = asyncio.get_running_loop()
    ingress, admin = start_server(binary, folder / "restate")

    async def answer(client: restate.RestateClient) -> None:
        cases = Rounds(ingress, client)
        asynchronous = {
            "sequential": cases.sequential,
            "at_once": cases.at_once,
            "fan_out": cases.fan_out,
            "resume": cases.resume,
        }
        await asyncio.to_thread(
            serving.serve,
            {
                **{name: serving.in_loop(loop, case) for name, case in asynchronous.items()},
                "startup": lambda: serving.startup(IMPORTS, ingress, admin),
            },
        )

    await serve_handlers(ingress, admin, service, then=answer)


def main() -> None:
    """Serve, or do a first step."""
    if sys.argv[1] == serving.FIRST_STEP:
        ingress, admin = sys.argv[2:]
        asyncio.run(serve_handlers(ingress, admin, startup_service, then=first_step))
    else:
        asyncio.run(rounds(Path(sys.argv[1]), sys.argv[2]))


if __name__ == "__main__":
    main()
