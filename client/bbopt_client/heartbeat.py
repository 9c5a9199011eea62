"""Keeps the leases of held trials alive, and brings back what the server wants of them.

One thread for a whole client, started with the first held trial, sends one call per study for
all its trials at a third of the shortest lease. A call that fails is tried again sooner: the
lease is burning down.
"""

import enum
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

from bbopt.errors import BboptError, NotFoundError
from bbopt.rpc.v1.optimization_service_pb2 import (
    HeartbeatTrialsRequest,
    HeartbeatTrialsResponse,
)
from bbopt_client.connection import Connection

logger = logging.getLogger("bbopt.client")

_PERIOD_WITHOUT_EXPIRY_S = 30.0
"""A lease that never expires needs no heartbeat, but a trial still wants to hear orders."""
_RETRY_S = 2.0
_MAX_TIMEOUT_S = 10.0


class Directive(enum.Enum):
    """What a worker is to do with a trial that it holds."""

    NONE = "none"
    """Go on."""
    STOP = "stop"
    """Finish soon and tell what there is."""
    CANCEL = "cancel"
    """The result is no longer wanted."""
    LOST = "lost"
    """Another worker has the trial, or it is queued again; a result is still data."""

    @property
    def is_final(self) -> bool:
        """Whether the trial is out of this worker's hands."""
        return self in (Directive.CANCEL, Directive.LOST)


_DIRECTIVES = {
    HeartbeatTrialsResponse.Directive.ACTION_STOP_EARLY: Directive.STOP,
    HeartbeatTrialsResponse.Directive.ACTION_CANCEL: Directive.CANCEL,
    HeartbeatTrialsResponse.Directive.ACTION_LEASE_LOST: Directive.LOST,
}
"""Anything else means to go on: an order of a newer server is not guessed at."""


class Held(Protocol):
    """A trial that this process holds."""

    @property
    def name(self) -> str:
        """Full resource name."""
        ...

    @property
    def study_name(self) -> str:
        """Full resource name of its study."""
        ...

    @property
    def lease_token(self) -> str:
        """Proves the hold."""
        ...

    @property
    def lease_s(self) -> float:
        """Seconds between signs of life; 0 when the lease never expires."""
        ...

    def receive(self, directive: Directive, reason: str) -> None:
        """Take an order."""
        ...


class Heartbeats:
    """The trials that a client holds, and the thread that keeps them."""

    def __init__(
        self,
        connection: Connection,
        worker: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        is_threaded: bool = True,
    ) -> None:
        self._connection = connection
        self._worker = worker
        self._monotonic = monotonic
        self._is_threaded = is_threaded
        self._changed = threading.Condition()
        self._held: dict[str, dict[str, Held]] = {}
        """Study -> name -> trial."""
        self._due: dict[str, float] = {}
        self._is_stopped = False
        self._wakes_at = -math.inf
        """When the thread will look for itself; minus infinity: it is about to."""
        self._thread: threading.Thread | None = None

    def hold(self, trial: Held) -> None:
        """Keep a trial's lease alive from now on."""
        with self._changed:
            of_study = self._held.setdefault(trial.study_name, {})
            of_study[trial.name] = trial
            due = self._monotonic() + _period_s(of_study)
            due = self._due[trial.study_name] = min(self._due.get(trial.study_name, due), due)
            if self._thread is None and self._is_threaded and not self._is_stopped:
                self._thread = threading.Thread(
                    target=self._run, name="bbopt-heartbeats", daemon=True
                )
                self._thread.start()
            if due < self._wakes_at:  # Or it would take turns with whoever asked, for nothing.
                self._changed.notify()

    def drop(self, trial: Held) -> None:
        """Send no more signs of life for a trial."""
        with self._changed:
            of_study = self._held.get(trial.study_name, {})
            if of_study.get(trial.name) is trial:
                del of_study[trial.name]
                if not of_study:
                    del self._held[trial.study_name], self._due[trial.study_name]

    def held(self, study_name: str) -> tuple[Held, ...]:
        """Return the trials of a study that this client holds."""
        with self._changed:
            return tuple(self._held.get(study_name, {}).values())

    def find(self, trial_name: str) -> Held | None:
        """Return a held trial by its full name."""
        with self._changed:
            return self._held.get(trial_name.rpartition("/trials/")[0], {}).get(trial_name)

    def beat(self) -> float | None:
        """Send the heartbeats that are due.

        Returns:
            Seconds until the next one is due; ``None`` while nothing is held.
        """
        now = self._monotonic()
        with self._changed:
            due = [study for study, at in self._due.items() if at <= now]
        for study in due:
            self._beat_study(study)
        with self._changed:
            if not self._due:
                return None
            return max(0.0, min(self._due.values()) - self._monotonic())

    def stop(self) -> None:
        """End the thread; held trials are left to their leases."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            self.beat()
            with self._changed:
                self._wakes_at = min(self._due.values(), default=math.inf)
                wait_s = self._wakes_at - self._monotonic()
                if wait_s > 0.0 and not self._is_stopped:
                    self._changed.wait(wait_s if wait_s < math.inf else None)
                self._wakes_at = -math.inf
                if self._is_stopped:
                    return

    def _beat_study(self, study: str) -> None:
        with self._changed:
            trials = list(self._held.get(study, {}).values())
            if not trials:
                return
            period_s = _period_s(self._held[study])
        request = HeartbeatTrialsRequest(
            parent=study,
            worker_id=self._worker,
            held=[
                HeartbeatTrialsRequest.Held(trial=each.name, lease_token=each.lease_token)
                for each in trials
            ],
        )
        timeout_s = min(period_s, _MAX_TIMEOUT_S)
        next_s = period_s
        try:
            response = self._connection.call(
                lambda stubs: stubs.optimization.HeartbeatTrials,
                request,
                deadline_s=timeout_s,
                attempt_timeout_s=timeout_s,
            )
        except NotFoundError as error:
            for trial in trials:
                self._order(trial, Directive.CANCEL, str(error))
        except BboptError as error:
            logger.warning("heartbeat for %d trials of %s: %s", len(trials), study, error)
            next_s = min(period_s, _RETRY_S)
        else:
            for trial, directive in zip(trials, response.directives, strict=False):
                action = _DIRECTIVES.get(directive.action, Directive.NONE)
                self._order(trial, action, directive.reason)
        with self._changed:
            if study in self._due:
                self._due[study] = self._monotonic() + next_s

    def _order(self, trial: Held, directive: Directive, reason: str) -> None:
        if directive is not Directive.NONE:
            trial.receive(directive, reason)
        if directive.is_final:
            self.drop(trial)


def _period_s(trials: dict[str, Held]) -> float:
    leases = [trial.lease_s for trial in trials.values() if trial.lease_s > 0]
    return min(leases) / 3 if leases else _PERIOD_WITHOUT_EXPIRY_S
