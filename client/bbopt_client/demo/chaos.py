"""The demo under fire: SIGKILL for a worker in the middle of a trial, then for the server."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bbopt.trial import TrialState
from bbopt_client.demo.server import DemoServer
from bbopt_client.trial import Trial

LEASE_S = 6.0
"""Term of the leases: how long a killed worker's trial waits before it is handed out again."""
AWAY_S = 3.0
"""How long the killed server is left dead, before it takes its time to start."""
MIN_TRIALS, MIN_WORKERS = 4, 2


@dataclass(frozen=True, slots=True)
class Strikes:
    """What was killed, and when."""

    worker: str = ""
    """The killed worker, as its log file is named; empty if none was."""
    trial: int = 0
    """The trial that it was evaluating."""
    n_before: int = 0
    """Results that the server had when it was killed."""
    away_s: float = 0.0
    """From the server's death until it answered again; 0 if it was not killed."""


class Chaos:
    """Kills one worker, then the server, and remembers what it did."""

    def __init__(self, n_trials: int, server: DemoServer) -> None:
        """Wait for the first chance.

        Args:
            n_trials: The study's budget; a quarter of it in, a worker dies, half of it in,
                the server.
            server: The server to kill and to bring back.
        """
        self._n_trials = n_trials
        self._server = server
        self._worker = ""
        self._trial = 0
        self._n_before = 0
        self._away_s = 0.0

    def record(self) -> Strikes:
        """Say what was killed so far."""
        return Strikes(self._worker, self._trial, self._n_before, self._away_s)

    def act(
        self,
        trials: Sequence[Trial],
        workers: Sequence["subprocess.Popen[bytes]"],
        say: Callable[[str], None],
    ) -> None:
        """Kill what it is time to kill.

        Args:
            trials: All trials of the study, as of now.
            workers: Its worker processes, in the order of their logs.
            say: Takes lines about what happens.
        """
        n_final = sum(trial.state.is_final for trial in trials)
        if not self._worker:
            if n_final >= self._n_trials // 4:
                self._kill_worker(trials, workers, say)
        elif not self._away_s and n_final >= self._n_trials // 2:
            self._kill_server(n_final, say)

    def end(self) -> None:
        """Kill the server once more: what is read from now on comes from its file."""
        self._server.kill()
        self._server.start()

    def _kill_worker(
        self,
        trials: Sequence[Trial],
        workers: Sequence["subprocess.Popen[bytes]"],
        say: Callable[[str], None],
    ) -> None:
        """Kill the worker that began last: it is surely in the middle of its trial."""
        active = [
            trial
            for trial in trials
            if trial.state is TrialState.ACTIVE and trial.start_time is not None
        ]
        if not active:
            return
        latest = max(active, key=lambda trial: (trial.start_time, trial.number))
        for position, worker in enumerate(workers, 1):
            # A worker's name is its host, its process and a random part.
            if f"-{worker.pid}-" in latest.worker and worker.poll() is None:
                worker.kill()
                worker.wait()
                self._worker, self._trial = f"worker-{position}", latest.number
                say(f"chaos    killed {self._worker}, which was evaluating trial {self._trial}")

    def _kill_server(self, n_final: int, say: Callable[[str], None]) -> None:
        killed_at = time.monotonic()
        self._server.kill()
        self._n_before = n_final
        say(f"chaos    killed the server, which had {n_final} results")
        time.sleep(AWAY_S)
        self._server.start()
        self._away_s = time.monotonic() - killed_at
        say(f"chaos    the server is back after {self._away_s:.1f} s")
