"""Sends intermediate reports beside the evaluation, so that a slow or absent server never
holds up the program whose output has to be read.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping

from bbopt.errors import BboptError
from bbopt.trial import Value

_MOST_WAITING = 256
_CLOSE_S = 2.0


class Reporter:
    """A thread that sends one trial's reports in order; when too many wait, the oldest go."""

    def __init__(self, send: Callable[[int, Mapping[str, Value]], bool]) -> None:
        """Start idle; the thread begins with the first report.

        Args:
            send: Sends the metrics of a step and answers whether to stop early.
        """
        self._send = send
        self._waiting: deque[tuple[int, Mapping[str, Value]]] = deque(maxlen=_MOST_WAITING)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self.should_stop = False
        self.problem = ""
        """The last reason why a report was not taken."""

    def submit(self, step: int, metrics: Mapping[str, Value]) -> None:
        """Queue a report; returns at once."""
        with self._changed:
            self._waiting.append((step, metrics))
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="bbopt-report", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Send what waits, but not for longer than a moment: the final result matters more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
        with self._changed:
            self._waiting.clear()

    def _run(self) -> None:
        while (report := self._next()) is not None:
            try:
                self.should_stop = self._send(*report) or self.should_stop
            except BboptError as error:
                # Reports are a courtesy; the heartbeat tells when the trial itself is lost.
                self.problem = str(error)

    def _next(self) -> tuple[int, Mapping[str, Value]] | None:
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            return self._waiting.popleft() if self._waiting else None
