"""What a compute process may use of the machine: one thread, and a core where one is named."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from bbopt.errors import InvalidError
from bbopt_server.compute import ComputePool
from bbopt_server.settings import parse
from tests.unit.compute.pools import FAKE

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system binds no process to a core"
)


def started(cores: list[int], tmp_path: Path) -> list[tuple[set[int], dict[str, str]]]:
    """Start three processes; return the cores and the environment of each."""

    async def scenario() -> list[tuple[set[int], dict[str, str]]]:
        command = [sys.executable, FAKE, str(tmp_path)]
        pool = ComputePool(n_processes=3, cores=cores, command=command)
        await pool.start()
        try:
            async with asyncio.timeout(60):
                while not pool.is_ready:
                    await asyncio.sleep(0.01)
            return [(os.sched_getaffinity(pid), environment(pid)) for pid in pool.pids if pid]
        finally:
            await pool.stop()

    return asyncio.run(scenario())


def environment(pid: int) -> dict[str, str]:
    words = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)


def test_processes_are_bound_to_the_named_cores_in_turn(tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    found = [bound for bound, _ in started(cores, tmp_path)]
    assert found == [{cores[i % len(cores)]} for i in range(3)]


def test_processes_run_anywhere_and_on_one_thread_each_by_default(tmp_path: Path) -> None:
    for bound, variables in started([], tmp_path):
        assert bound == os.sched_getaffinity(0)
        for library in ("OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "BLIS_NUM", "VECLIB_MAXIMUM"):
            assert variables[f"{library}_THREADS"] == "1"


def test_cores_are_read_from_the_flag() -> None:
    core = min(os.sched_getaffinity(0))
    assert parse([], {}).compute_cores == ()
    assert parse(["--compute-cores", f"{core}, {core}"], {}).compute_cores == (core, core)


@pytest.mark.parametrize("text", ["x", "0-3", "-1", "1,,2", "99999"])
def test_a_core_that_cannot_be_used_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="compute-cores"):
        parse([f"--compute-cores={text}"], {})
