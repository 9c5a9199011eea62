"""A pool of pretended compute processes, and orders to them."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bbopt.rpc.v1 import insight_service_pb2, study_pb2
from bbopt_server.compute import (
    ComputePool,
    Limits,
)

FAKE = str(Path(__file__).with_name("fake_process.py"))
Scenario = Callable[[ComputePool], Awaitable[None]]


def play(
    orders: Path,
    scenario: Scenario,
    *,
    n_processes: int = 1,
    limits: Limits | None = None,
    large_from: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run a scenario against a pool of pretended processes, and stop the pool."""

    async def run() -> None:
        pool = ComputePool(
            n_processes=n_processes,
            command=[sys.executable, FAKE, str(orders)],
            limits=limits,
            large_from=large_from,
            clock=clock,
        )
        await pool.start()
        try:
            async with asyncio.timeout(30):
                await scenario(pool)
        finally:
            await pool.stop()

    asyncio.run(run())


def order(orders: Path, what: str, *, seed: int = 1, times: int = 1) -> None:
    for i in range(times):
        (orders / f"{what}-{seed}-{i}").touch()


async def until(is_true: Callable[[], bool]) -> None:
    while not is_true():
        await asyncio.sleep(0.005)


def points(*xs: float) -> list[insight_service_pb2.Point]:
    return [
        insight_service_pb2.Point(
            parameters={
                "x": study_pb2.ParamValue(double_value=x),
                "y": study_pb2.ParamValue(double_value=0.0),
            }
        )
        for x in xs
    ]
