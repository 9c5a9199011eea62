"""One child process and everything it starts: a process group that never outlives its trial.

The child leads a session and process group of its own and reads nothing from the terminal.
Its end is noticed without reaping it, the rest of its group is killed while the zombie still
holds the group's number, and only then is it reaped: no signal can hit a stranger.
"""

import contextlib
import os
import selectors
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias

from bbopt_client.worker.watchdog import WatchdogProcess

StreamName: TypeAlias = Literal["stdout", "stderr"]
_CHUNK = 1 << 16


class ProcessGroup:
    """A running command. Use as a context manager: leaving it kills what is left."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        watchdog: WatchdogProcess | None = None,
    ) -> None:
        """Start a command.

        Args:
            argv: The program and its words; no shell looks at them.
            cwd: Directory to run in.
            environment: The whole environment of the child.
            watchdog: Ends the group should this process be killed.

        Raises:
            OSError: The program cannot be started.
            ValueError: A word or a variable contains a NUL character.
        """
        self._process = subprocess.Popen(  # noqa: S603 - the user's own command, never a shell
            list(argv),
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._watchdog = watchdog
        if watchdog is not None:
            watchdog.guard(self._process.pid)
        self._selector = selectors.DefaultSelector()
        for name, stream in (
            ("stdout", self._process.stdout),
            ("stderr", self._process.stderr),
        ):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._selector.register(stream.fileno(), selectors.EVENT_READ, name)
        self._exit_watch = _watch_exit(self._process.pid)
        if self._exit_watch is not None:
            self._selector.register(self._exit_watch, selectors.EVENT_READ, "exit")

    @property
    def pid(self) -> int:
        """Process id of the child, and number of its group."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finish()

    def read(self, timeout_s: float) -> list[tuple[StreamName, bytes]]:
        """Wait for output, the child's end or the timeout, and return what there is."""
        output: list[tuple[StreamName, bytes]] = []
        for key, _ in self._selector.select(timeout_s):
            if key.data != "exit":
                output.extend(self._drain(key.fd, key.data))
        return output

    def _drain(self, descriptor: int, name: StreamName) -> list[tuple[StreamName, bytes]]:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return []
        if not data:
            self._selector.unregister(descriptor)
            return []
        return [(name, data)]

    def has_exited(self) -> bool:
        """Say whether the child has ended, without reaping it."""
        if self._process.returncode is not None:
            return True
        if not hasattr(os, "waitid"):  # pragma: no cover - not on Linux
            return self._process.poll() is not None
        # WNOWAIT leaves the zombie, which keeps the group's number from being used again.
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, flags) is not None

    def send(self, number: signal.Signals) -> None:
        """Signal every process of the group that is left."""
        if self._process.returncode is None:
            # PermissionError: macOS answers so for a group of zombies.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def finish(self) -> tuple[int, list[tuple[StreamName, bytes]]]:
        """Kill what is left of the group, reap the child and read its last output.

        Returns:
            The exit code (negative: the signal that ended it) and the last output.
        """
        self.send(signal.SIGKILL)
        if self._watchdog is not None:
            # Before the child is reaped: then its number may become a stranger's.
            self._watchdog.release(self._process.pid)
            self._watchdog = None
        code = self._process.wait()
        output: list[tuple[StreamName, bytes]] = []
        # Bounded: a grandchild that left the session may hold the pipe and keep writing.
        for _ in range(64):
            if not (more := self._drain_all()):
                break
            output.extend(more)
        self._close()
        return code, output

    def _drain_all(self) -> list[tuple[StreamName, bytes]]:
        if self._process.stdout is None or self._process.stdout.closed:
            return []
        return [
            chunk
            for key in list(self._selector.get_map().values())
            if key.data != "exit"
            for chunk in self._drain(key.fd, key.data)
        ]

    def _close(self) -> None:
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._selector.close()
        if self._exit_watch is not None:
            os.close(self._exit_watch)
            self._exit_watch = None


def _watch_exit(pid: int) -> int | None:
    """Open a descriptor that becomes readable when the process ends, where there are such."""
    if not hasattr(os, "pidfd_open"):  # pragma: no cover - not on Linux
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # pragma: no cover - an old kernel or a strict sandbox
        return None
