"""The watchdog as a process of its own: who is ended, when, and who is not."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bbopt_client.worker.watchdog import WatchdogProcess
from tests.waiting import wait_until

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
STUBBORN = ["sh", "-c", "trap '' TERM; echo; while :; do sleep 0.1; done"]


@contextmanager
def leader(argv: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a program that leads a group, and reap it whatever happens."""
    with subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE) as program:  # noqa: S603
        try:
            yield program
        finally:
            program.kill()


def test_a_group_that_is_guarded_is_ended_when_the_pipe_closes() -> None:
    watchdog = WatchdogProcess(grace_s=60)
    with leader(SLEEP) as program:
        watchdog.guard(program.pid)
        reaper = threading.Thread(target=program.wait)
        reaper.start()
        watchdog.close()
        reaper.join(30)
        assert program.returncode == -signal.SIGTERM


def test_a_group_that_ignores_the_first_signal_is_killed_after_the_grace() -> None:
    watchdog = WatchdogProcess(grace_s=0.2)
    with leader(STUBBORN) as program:
        assert program.stdout is not None
        program.stdout.readline()
        watchdog.guard(program.pid)
        watchdog.close()
        assert program.wait(30) == -signal.SIGKILL


def test_a_group_that_was_released_is_left_alone() -> None:
    watchdog = WatchdogProcess(grace_s=60)
    with leader(SLEEP) as program:
        watchdog.guard(program.pid)
        watchdog.release(program.pid)
        watchdog.close()
        assert program.poll() is None


def test_signals_to_everything_do_not_end_it() -> None:
    watchdog = WatchdogProcess(grace_s=0)
    with leader(SLEEP) as program:
        wait_until(lambda: ignores(watchdog.pid, signal.SIGTERM))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(watchdog.pid, number)
        watchdog.guard(program.pid)
        watchdog.close()
        assert program.wait(30) == -signal.SIGTERM


def test_its_own_death_harms_nobody() -> None:
    watchdog = WatchdogProcess(grace_s=60)
    os.kill(watchdog.pid, signal.SIGKILL)
    os.waitid(os.P_PID, watchdog.pid, os.WEXITED | os.WNOWAIT)
    with leader(SLEEP) as program:
        watchdog.guard(program.pid)
        watchdog.close()
        assert program.poll() is None


def ignores(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(mask, 16) >> (number - 1) & 1)
