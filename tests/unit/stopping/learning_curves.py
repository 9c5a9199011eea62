"""Workers that train on synthetic learning curves, on a simulated clock; some of them die."""

import heapq
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from bbopt.optimizer import Optimizer
from bbopt.problem import Fidelity, Metric, Problem
from bbopt.space import Float, ParamValue, Space
from bbopt.trial import Completed, Failed, Measurement, Requeued, Stopped, Told, Trial, Value

FIDELITY = Fidelity("epochs", low=1, high=81, eta=3)
PROBLEM = Problem(
    Space(tuple(Float(name, 0.0, 1.0) for name in "abcd")),
    (Metric.parse("-loss"),),
    fidelity=FIDELITY,
)
MAX_ATTEMPTS = 3


def loss(parameters: Mapping[str, ParamValue], epoch: int) -> float:
    """A power law towards a floor; good configurations may begin slowly."""
    a, b, c, d = (float(parameters[name]) for name in "abcd")
    floor = 0.1 + (a - 0.3) ** 2 + (b - 0.7) ** 2 + 0.5 * (c - 0.5) ** 2
    speed = 0.4 + 0.6 * d
    return floor + (1.0 - 0.3 * c) * math.exp(-speed * math.log(epoch))


@dataclass
class Listener:
    """What a test may watch; by default nothing."""

    began: Callable[[Trial], None] = lambda *_: None
    reported: Callable[[Trial, int, float, bool], None] = lambda *_: None
    ended: Callable[[Trial, int, bool], None] = lambda *_: None


@dataclass
class Work:
    """One trial in the hands of a worker."""

    trial: Trial
    epoch: int
    """The last one that it has finished."""
    dies_after: float
    """Epoch."""
    speed: float


@dataclass
class Cluster:
    """Workers in parallel, one trial each, that report every epoch.

    A worker that dies is replaced; what it ran is queued again, as a server does it.
    """

    optimizer: Optimizer
    seed: int
    n_workers: int = 16
    death_rate: float = 0.1
    """Share of the ways from one rung to the next on which the worker dies."""
    ignores_budget: bool = False
    """Train to the end unless stopped, instead of to the trial's fidelity."""
    listener: Listener = field(default_factory=Listener)
    n_epochs: int = 0
    """Spent so far, by the living and the dead."""
    n_deaths: int = 0
    best_full: float = math.inf
    """Lowest loss after all epochs."""
    _rng: np.random.Generator = field(init=False)

    def run(self, is_over: Callable[["Cluster"], bool]) -> None:
        """Run until the condition holds."""
        self._rng = np.random.default_rng(self.seed)
        order = itertools.count()
        clock: list[tuple[float, int, Work | None]] = [
            (0.0, next(order), None) for _ in range(self.n_workers)
        ]
        checkpoints: dict[int, int] = {}
        while not is_over(self):
            now, _, work = heapq.heappop(clock)
            if work is None:
                work = self._take(checkpoints)
            elif not self._train(work, checkpoints):
                work = None
            pause = 0.0 if work is None else work.speed
            heapq.heappush(clock, (now + pause, next(order), work))

    def _take(self, checkpoints: Mapping[int, int]) -> Work:
        asked = self.optimizer.ask(1)
        assert asked, "a free worker got nothing to do"
        (trial,) = asked
        self.listener.began(trial)
        assert trial.stage is not None
        epoch = checkpoints.get(trial.stage.resume_from or 0, 0)
        return Work(trial, epoch, self._fate(epoch), float(self._rng.uniform(0.5, 1.5)))

    def _fate(self, epoch: int) -> float:
        """Draw after which epoch before the next rung the worker dies, if it does."""
        if self._rng.random() >= self.death_rate:
            return math.inf
        next_rung = min(steps for steps in FIDELITY.rungs if steps > epoch)
        return int(self._rng.integers(epoch, next_rung))

    def _train(self, work: Work, checkpoints: dict[int, int]) -> bool:
        """Train for one epoch; return whether there is more to do."""
        trial, stage = work.trial, work.trial.stage
        assert stage is not None
        self.n_epochs += 1
        if work.epoch >= work.dies_after:
            self._die(trial)
            return False
        work.epoch += 1
        value = loss(trial.parameters, work.epoch)
        should_stop = self.optimizer.report(trial, work.epoch, value)
        self.listener.reported(trial, work.epoch, value, should_stop)
        end = FIDELITY.high if self.ignores_budget else stage.fidelity
        if not should_stop and work.epoch < end:
            if work.epoch in FIDELITY.rungs:
                work.dies_after = self._fate(work.epoch)
            return True
        checkpoints[trial.number] = work.epoch
        measurement = Measurement({"loss": Value(value)})
        outcome = Stopped(measurement) if should_stop else Completed(measurement)
        self.optimizer.tell(trial, outcome)
        self.listener.ended(trial, work.epoch, True)
        if work.epoch == FIDELITY.high:
            self.best_full = min(self.best_full, value)
        return False

    def _die(self, trial: Trial) -> None:
        self.n_deaths += 1
        attempt = self.optimizer.trials[trial.number].attempt
        if attempt < MAX_ATTEMPTS:
            self.optimizer.fold([Requeued(trial.number, "lost", attempt + 1)])
        else:
            self.optimizer.fold([Told(trial.number, Failed("lost too often"))])
            self.listener.ended(trial, 0, False)
