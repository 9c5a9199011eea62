"""Child processes that leave nothing behind: each in its own group, all ended together.

A watchdog ends them should this process be killed.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bbopt_client.worker.watchdog import WatchdogProcess


@dataclass(slots=True)
class ProcessGroup:
    """The demo's children; leaving the ``with`` block ends every one and what it started."""

    grace_s: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _watchdog: WatchdogProcess | None = None

    def start(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own, so that Ctrl-C reaches only the demo."""
        with log.open("ab") as output:
            child = subprocess.Popen(  # noqa: S603 - the demo's own commands
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=None if environment is None else dict(environment),
            )
        self.children.append(child)
        if self._watchdog is not None:
            self._watchdog.guard(child.pid)
        return child

    def has_ended(self, child: "subprocess.Popen[bytes]") -> bool:
        """Say whether a child has ended; its number may be another's from then on."""
        if child.poll() is None:
            return False
        self._release(child)
        return True

    def _release(self, child: "subprocess.Popen[bytes]") -> None:
        if self._watchdog is not None:
            self._watchdog.release(child.pid)

    def stop(self) -> None:
        """End every child: the last started first, politely, then for good."""
        for child in reversed(self.children):
            _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + self.grace_s
        for child in reversed(self.children):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))
            _signal_group(child, signal.SIGKILL)
            self._release(child)
            child.wait()
        self.children.clear()

    def __enter__(self) -> Self:
        self._watchdog = WatchdogProcess(self.grace_s)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.close()


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    """Signal a child's whole group; its leader may be gone while members remain."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)
