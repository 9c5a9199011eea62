"""Ends the programs of a worker that was killed, which nobody else would do.

A worker starts this file as a program beside its own (``WatchdogProcess``) and writes the
number of every process group that it starts down a pipe, ``+123``, and ``-123`` once it has
ended it. When the pipe closes while groups are left, their worker is dead, however it died:
they get SIGTERM, and SIGKILL after the grace. A signal on the parent's death
(``PR_SET_PDEATHSIG``) would be lighter, but Linux alone has it, it reaches the child alone and
not what that has started (``sh -c``, data loaders), and it follows the thread that forked.

The watchdog needs the standard library only and has a session of its own, so that what is sent
to the worker's group or terminal passes it by. A program is not watched between its fork and
the line about it, about a millisecond.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

_POLL_S = 0.05


class WatchdogProcess:
    """A worker's watchdog; closing it ends every group that is still guarded."""

    def __init__(self, grace_s: float) -> None:
        """Start it.

        Args:
            grace_s: From SIGTERM to SIGKILL, once the worker is dead.

        Raises:
            OSError: It cannot be started.
        """
        self._lock = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603 - this file, by our own interpreter
            [sys.executable, "-I", "-S", __file__, str(grace_s)],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def guard(self, group: int) -> None:
        """Take a process group into its care."""
        self._write(f"+{group}\n")

    def release(self, group: int) -> None:
        """Say that a group has been ended, before its number can be used again."""
        self._write(f"-{group}\n")

    def close(self) -> None:
        """Let it go; returns when it has left, which may take the grace."""
        with self._lock:
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.wait()

    def _write(self, line: str) -> None:
        pipe = self._process.stdin
        # A broken pipe: somebody killed the watchdog; the trials matter more than it does.
        with self._lock, contextlib.suppress(BrokenPipeError):
            if pipe is not None and not pipe.closed:
                os.write(pipe.fileno(), line.encode())


def watch(grace_s: float) -> None:
    """Read which groups there are until the pipe closes, then end those that are left."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    if not groups:
        return
    groups = {group for group in groups if _signal(group, signal.SIGTERM)}
    deadline = time.monotonic() + grace_s
    while groups and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        groups = {group for group in groups if _signal(group, 0)}
    for group in groups:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Signal a process group; say whether there is one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # Members that we may not signal, or, on macOS, zombies alone.
    return True


def main() -> None:
    """Be a watchdog until the worker is gone."""
    # The worker decides when it is over, not who signals everything at once (systemd, Slurm).
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    watch(float(sys.argv[1]))


if __name__ == "__main__":
    main()
