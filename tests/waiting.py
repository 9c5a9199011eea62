"""Waiting for what other threads and processes do, and a clock that need not be waited for."""

import time
from collections.abc import Callable
from pathlib import Path


class Clock:
    """Moves when it is told to."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def wait_until(is_so: Callable[[], bool], *, limit_s: float = 60.0) -> None:
    """Wait for something, and fail the test when it does not come."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
