"""Which studies have brought down compute too often to be tried again for a while."""

from collections import deque
from collections.abc import Callable


class Quarantine:
    """Counts the processes that died or hung while they worked for a study."""

    def __init__(
        self, clock: Callable[[], float], *, max_crashes: int = 3, window_s: float = 600.0
    ) -> None:
        """Set aside a study at its ``max_crashes``-th crash within ``window_s`` seconds.

        Args:
            clock: Monotonic seconds.
            max_crashes: At least 1.
            window_s: A crash is forgotten after this long.
        """
        self._clock = clock
        self._max_crashes = max_crashes
        self._window_s = window_s
        self._crashes: dict[str, deque[float]] = {}

    def record(self, uid: str) -> None:
        """Blame a study for the end of a process."""
        self._drop_expired()
        crashes = self._crashes.setdefault(uid, deque(maxlen=self._max_crashes))
        crashes.append(self._clock())

    def time_left_s(self, uid: str) -> float:
        """Say how long a study stays set aside; 0 if it is not."""
        crashes = self._crashes.get(uid, deque())
        if len(crashes) < self._max_crashes:
            return 0.0
        return max(0.0, crashes[0] + self._window_s - self._clock())

    def _drop_expired(self) -> None:
        """Keep the table as small as the number of studies that crashed of late."""
        horizon = self._clock() - self._window_s
        self._crashes = {
            uid: crashes for uid, crashes in self._crashes.items() if crashes[-1] >= horizon
        }
