"""The event loop of a server: asyncio's own, which looks for input less often while busy."""

import asyncio
import selectors
import time
from collections.abc import Callable

_PERIOD_S = 0.0003
"""A twelfth of what a call takes under load; looking more often only costs."""


class PatientSelector(selectors.DefaultSelector):
    """Finds nothing where it has looked a moment ago and would not wait.

    asyncio looks after every turn of its callbacks, and an ask and a tell take a dozen turns: a
    system call and the interpreter's lock each time, a tenth of what they cost the loop.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Look at once; ``clock`` gives seconds."""
        super().__init__()
        self._clock = clock
        self._looked_at = -_PERIOD_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; see ``selectors.BaseSelector``."""
        may_wait = timeout is None or timeout > 0
        if not may_wait and self._clock() - self._looked_at < _PERIOD_S:
            return []
        found = super().select(timeout)
        self._looked_at = self._clock()
        return found


def new_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop for a server that has many callers."""
    return asyncio.SelectorEventLoop(PatientSelector())
