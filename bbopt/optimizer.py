"""``Optimizer``: the pure ask-tell object.

It is a problem, a strategy, a seed and a log of what happened; nothing else. The same log gives
the same suggestions, in a script, in a server's compute process, after a crash.

Two ways to use it. A script calls ``ask`` and ``tell``, and the optimizer writes its own log. A
server keeps the log itself: it calls ``suggest``, which commits nothing, writes the answer into
the store (which numbers trials) and hands every stored event to ``fold``. The strategy's state
is adopted only from a folded ``Asked`` event, so a live optimizer and one that was rebuilt from
the log are equal to the last bit.
"""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from bbopt.errors import (
    InvalidError,
    NotFoundError,
    SpecError,
    TrialFinishedError,
    UnsupportedError,
)
from bbopt.problem import Problem
from bbopt.space import Codec, ParamValue
from bbopt.specs import NAMES, AshaSpec, find_unsupported
from bbopt.stopping import Rungs, initial_stage, reason_to_stop
from bbopt.strategies import (
    BUILDERS,
    Recommendation,
    Series,
    Status,
    Strategy,
    StrategyContext,
    build,
    capabilities_of,
    checked_answer,
    one_thread,
    recommend_measured,
    spec_of,
)
from bbopt.trial import (
    Amended,
    Asked,
    Columns,
    Enqueued,
    Event,
    Leased,
    Log,
    Measurement,
    NewTrial,
    Predicted,
    Provenance,
    Reported,
    StopRequested,
    StrategyState,
    Suggestion,
    Told,
    Trial,
    TrialState,
)
from bbopt.trial.told import Number, ToldOutcome, outcome_of, values_of, whole_number

MAX_AT_ONCE = 100_000
"""Points that one ask may compute: as many as a study may have."""
UNSUCCESSFUL = (TrialState.FAILED, TrialState.ABANDONED)
"""Final states of trials that do not count against a budget."""


@dataclass(frozen=True, slots=True)
class Suggested:
    """The answer to ``suggest``: to be stored as an ``Asked`` event, or dropped."""

    suggestions: tuple[Suggestion, ...]
    """At most as many as were asked for."""
    state: StrategyState
    """The strategy's state after this ask; belongs into the ``Asked`` event."""
    space_exhausted: bool
    """Fewer points than asked for, because every point of a discrete space has been taken."""
    states: tuple[StrategyState, ...] = ()
    """Of a strategy that ignores results, the state after each point: any first few of the
    points may be stored, each time with the state after the last of them, and the rest later.
    """


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model expects of a trial at one point."""

    metrics: Mapping[str, Predicted]
    """The objective and every measured constraint, in the user's units."""
    probability_feasible: float
    """Probability that all metric constraints hold and the trial does not crash."""


class Optimizer:
    """Ask for points, tell what they measured.

    Not safe for threads.
    """

    def __init__(
        self,
        problem: Problem,
        strategy: object | None = None,
        seed: int = 0,
        *,
        device: str = "cpu",
        keeps_history: bool = True,
    ) -> None:
        """Start with an empty log.

        Args:
            problem: What is sought.
            strategy: Settings (a ``StrategySpec``, or those of a plug-in) or a name; ``None``
                is ``auto``.
            seed: Of all randomness, in ``[0, 2**64)``.
            device: Where models are computed: ``cpu``, ``cuda``, ``cuda:<index>``, or ``auto``,
                which is the CPU unless a CUDA device was measured to be faster. The log says
                where each ask was.
            keeps_history: Whether ``log`` keeps what only people and replays read: the
                strategy's state of every ask, and of a point's provenance more than its
                generator. Without, a study takes half the memory, and suggests the same.

        Raises:
            SpecError: There is no such strategy, or the seed is no integer in range.
            UnsupportedError: The strategy cannot handle the problem.
        """
        try:
            self.seed = operator.index(seed)
        except TypeError as error:
            raise SpecError.of("seed", f"must be an integer, not {seed!r}") from error
        if not 0 <= self.seed < 2**64:
            raise SpecError.of("seed", f"must be in [0, 2**64), not {self.seed}")
        if not isinstance(problem, Problem):
            kind = type(problem).__name__
            raise TypeError(f"not a Problem but of type {kind}; Problem.of(space, '-loss')?")
        self.problem = problem
        self.spec = spec_of(strategy)
        violations = find_unsupported(
            problem, capabilities_of(self.spec), name=_name_of(self.spec)
        )
        if violations:
            raise UnsupportedError(violations)
        self._keeps_history = keeps_history
        self._origins: dict[str, Provenance] = {}
        self.log = Log()
        """Everything that happened, in order."""
        codec = Codec(problem.space)
        self._columns = Columns(problem, codec)
        self._context = StrategyContext(
            problem, codec, self._columns, self.seed, device, log=self.log
        )
        self._initial_stage = initial_stage(problem, self.spec)
        self._rungs: Rungs | None = None
        self._n_in_rungs = 0
        self._strategy = build(self._context, self.spec)
        self._committed: StrategyState | None = None
        self._proposed: StrategyState | None = None
        self._must_rebuild = False
        self._revision = 0

    def __reduce__(self) -> tuple[object, ...]:
        """Copy and pickle as what it is: a problem, a strategy, a seed and a log."""
        if not self._keeps_history:
            raise TypeError("an Optimizer that keeps no history cannot be copied or pickled")
        events = tuple(self.log.events())
        return _replayed, (self.problem, self.spec, self.seed, self._context.device, events)

    # ------------------------------------------------------------------ the user's verbs

    @property
    def trials(self) -> Mapping[int, Trial]:
        """Every trial by number."""
        return self.log.trials

    def ask(self, n: int = 1) -> list[Trial]:
        """Hand out trials to evaluate: enqueued ones first, then the strategy's.

        Args:
            n: How many.

        Returns:
            At most ``n`` trials; fewer when the strategy needs results first, when every point
            of a discrete space has been taken, or when the budget is spent.
        """
        n = whole_number("n", n, 1)
        queued = self.log.queued[:n]
        for trial in queued:
            self.fold([Leased(trial.number, "", trial.attempt)])
        numbers = [trial.number for trial in queued]
        n_new = self._n_affordable(n - len(queued))
        if n_new > 0:
            suggested = self.suggest(n_new)
            first = len(self.trials) + 1
            new = tuple(
                NewTrial(number, suggestion.parameters, suggestion.provenance, suggestion.stage)
                for number, suggestion in enumerate(suggested.suggestions, first)
            )
            if new:
                self.fold([Asked(new, suggested.state)])
                numbers += [trial.number for trial in new]
        return [self.trials[number] for number in numbers]

    def report(
        self, trial: Trial | int, step: int, values: float | Mapping[str, Number]
    ) -> bool:
        """Record an intermediate measurement.

        Args:
            trial: The trial or its number.
            step: How far its configuration is evaluated, in steps of the problem's fidelity
                where there is one; at least 0. The last report of a step counts.
            values: As for ``tell``; metrics may be missing.

        Returns:
            Whether to stop evaluating: tell what there is, as ``Stopped``.

        Raises:
            NotFoundError: There is no such trial.
            InvalidError: A metric is unknown, or a value is no finite number.
            TrialFinishedError: The trial has its final result already.
        """
        known = self._trial(trial)
        if known.outcome is not None:
            raise TrialFinishedError(f"trial {known.number} is {known.state.value}")
        step = whole_number("step", step, 0, 2**63 - 1)
        metrics = values_of(self.problem, values)
        violations = self.problem.check_result(metrics, partial=True)
        if violations:
            raise InvalidError(violations)
        self.fold([Reported(known.number, Measurement(metrics, step))])
        if known.state is TrialState.ACTIVE and isinstance(self.spec, AshaSpec):
            reason = reason_to_stop(
                self._folded_rungs(), self.spec.promotion, known.number, (step,)
            )
            if reason is not None:
                self.fold([StopRequested(known.number, reason)])
        return self.trials[known.number].state is TrialState.STOPPING

    def tell(self, trial: Trial | int, outcome: ToldOutcome) -> None:
        """Record how a trial ended.

        Args:
            trial: The trial or its number.
            outcome: Values by metric name, each a number, a ``(mean, sd)`` pair or a ``Value``;
                a bare number where there is only one metric; or an ``Outcome`` such as
                ``Failed("out of memory")``. A value that is NaN or infinite makes the point
                infeasible.

        Raises:
            NotFoundError: There is no such trial.
            InvalidError: A metric is unknown or missing, or a value is not a number.
            TrialFinishedError: The trial already has another outcome; use ``amend``.
        """
        known = self._trial(trial)
        result = outcome_of(self.problem, outcome)
        if known.outcome is not None:
            if known.outcome == result:
                return
            raise TrialFinishedError(
                f"trial {known.number} is {known.state.value}; amend() corrects a result"
            )
        self.fold([Told(known.number, result)])

    def amend(self, trial: Trial | int, outcome: ToldOutcome, message: str = "") -> None:
        """Correct the outcome of a finished trial.

        Args:
            trial: The trial or its number.
            outcome: As for ``tell``.
            message: Why.

        Raises:
            NotFoundError: There is no such trial.
            InvalidError: The trial has no outcome yet, or the new one is wrong.
        """
        known = self._trial(trial)
        if known.outcome is None:
            raise InvalidError.of("trial", f"trial {known.number} has no result to amend")
        self.fold([Amended(known.number, outcome_of(self.problem, outcome), message)])

    def enqueue(self, parameters: Mapping[str, ParamValue]) -> Trial:
        """Put a point in the queue; the next ``ask`` hands it out.

        Raises:
            InvalidError: The point is not in the space.
        """
        number = len(self.trials) + 1
        provenance = Provenance("enqueued", data_revision=self._revision)
        point = self._point(parameters)
        self.fold([Enqueued(NewTrial(number, point, provenance, self._initial_stage))])
        return self.trials[number]

    def best(self) -> Trial | None:
        """Return the trial with the best measured feasible value; ``None`` if there is none."""
        found = recommend_measured(self._columns)
        return None if found is None else self.trials[found.number]

    def recommend(self) -> Trial | None:
        """Return the evaluated trial to deploy; ``None`` while nothing feasible is known.

        With noisy metrics this is the one the model expects to be best, which need not be the
        one that measured best.
        """
        found = self.recommendation()
        return None if found is None else self.trials[found.number]

    def recommendation(self) -> Recommendation | None:
        """Return the number of the trial to deploy and how it was chosen."""
        with one_thread():
            return self._settled().recommend()

    def predict(self, points: Sequence[Mapping[str, ParamValue]]) -> list[Prediction]:
        """Predict metrics at points, in the user's units.

        Raises:
            InvalidError: A point is not in the space.
            UnsupportedError: The strategy has no model.
            PreconditionError: There are too few results for a model yet.
        """
        if isinstance(points, Mapping):
            raise InvalidError.of("points", "must be a list of points")
        codec = self._context.codec
        rows = [codec.encode(self._point(point)) for point in points]
        with one_thread():
            predicted = self._settled().predict(np.array(rows).reshape(-1, codec.dim))
        return [
            Prediction(
                {
                    name: Predicted(float(moments.mean[i]), float(moments.sd[i]))
                    for name, moments in predicted.metrics.items()
                },
                float(predicted.probability_feasible[i]),
            )
            for i in range(len(rows))
        ]

    # ------------------------------------------------------------------ the server's verbs

    @property
    def revision(self) -> int:
        """How many events have been folded: the log position that answers have seen."""
        return self._revision

    def fold(self, events: Iterable[Event | None]) -> None:
        """Take over what happened, in log order.

        Args:
            events: The next events of the log. ``None`` stands for an event that concerns only
                the service (a study was paused); it counts in ``revision`` and does nothing.

        Raises:
            DataLossError: An event cannot follow those before it.
        """
        for event in events:
            if event is not None:
                self.log.append(self._kept(event))
                self._columns.fold(event)
                if isinstance(event, Asked) and event.state is not None:
                    self._commit(event.state)
            self._revision += 1

    def suggest(self, n: int, *, time_left_s: float | None = None) -> Suggested:
        """Compute suggestions and commit nothing.

        Called twice without an ``Asked`` event in between, it starts from the same state twice.

        Args:
            n: How many points.
            time_left_s: Seconds until the caller gives up; ``None`` for no deadline. A shorter
                search than usual is recorded in the suggestions' provenance.

        Returns:
            The suggestions and the strategy's state after them.
        """
        n = whole_number("n", n, 1, MAX_AT_ONCE)
        strategy = self._settled()
        self._must_rebuild = True  # Whatever ends it below has left it halfway.
        own = self._columns
        if strategy.n_told < len(own.X):
            self._tell_new_rows(strategy)
        with one_thread():
            suggestions = strategy.ask(n, time_left_s=time_left_s)
        proposed = strategy.state()
        if type(self.spec) not in BUILDERS:
            suggestions = checked_answer(self.problem.space, suggestions, proposed, n)
        self._proposed, self._must_rebuild = proposed, False
        stamped = tuple(
            replace(
                s,
                provenance=replace(s.provenance, data_revision=self._revision),
                stage=s.stage or self._initial_stage,
            )
            for s in suggestions
        )
        is_exhausted = len(stamped) < n and strategy.status() is Status.EXHAUSTED
        states: tuple[StrategyState, ...] = ()
        if strategy.capabilities.ignores_results:
            states = tuple(cast(Series, strategy).states())
        return Suggested(stamped, proposed, is_exhausted, states)

    def _kept(self, event: Event) -> Event:
        """Return what the log keeps of an event."""
        if self._keeps_history or not isinstance(event, Asked):
            return event
        trials = [
            replace(trial, provenance=self._origin(trial.provenance.generator))
            for trial in event.trials
        ]
        return Asked(tuple(trials), None)

    def _origin(self, generator: str) -> Provenance:
        return self._origins.setdefault(generator, Provenance(generator))

    def rest(self) -> None:
        """Let go of the models, which take most of the memory.

        Whoever asks next has them rebuilt from the state that was committed last, to the last
        bit, without a fit.
        """
        self._strategy = build(self._context, self.spec, self._committed)
        self._must_rebuild, self._proposed = False, None

    # ------------------------------------------------------------------ state

    def _commit(self, state: StrategyState) -> None:
        if self._proposed is not None and state.equals(self._proposed):
            self._committed, self._proposed = self._proposed, None
            self._must_rebuild = False  # The strategy is where it proposed to be.
        elif self._committed is None or not state.equals(self._committed):
            self._committed = state
            self._must_rebuild = True

    def _settled(self) -> Strategy:
        """Return the strategy at the last committed state."""
        if self._must_rebuild or self._proposed is not None:
            self._strategy = build(self._context, self.spec, self._committed)
            self._must_rebuild, self._proposed = False, None
        return self._strategy

    def _tell_new_rows(self, strategy: Strategy) -> None:
        numbers = self._columns.numbers
        for row in range(strategy.n_told, len(numbers)):
            generator = self.trials[int(numbers[row])].provenance.generator
            is_foreign = generator in ("enqueued", "fallback")
            (strategy.inject if is_foreign else strategy.tell)(range(row, row + 1))

    def _folded_rungs(self) -> Rungs:
        if self._rungs is None:
            self._rungs = Rungs(self.problem)
        self._rungs.fold(self.log.events(self._n_in_rungs))
        self._n_in_rungs = self.log.revision
        return self._rungs

    # ------------------------------------------------------------------ small parts

    def _n_affordable(self, n: int) -> int:
        """Return how many of ``n`` more trials the budget allows to hand out."""
        budget = self.problem.budget
        if budget.cost is not None and self._cost() >= budget.cost:
            return 0
        if budget.trials is None:
            return n
        n_lost = sum(self.log.n_in(state) for state in UNSUCCESSFUL)
        n_used = len(self.trials) - n_lost
        return min(n, max(0, budget.trials - n_used))

    def _cost(self) -> float:
        metric = self.problem.cost
        if metric is None:
            return 0.0
        measurements = [
            getattr(trial.outcome, "measurement", None) for trial in self.trials.values()
        ]
        return math.fsum(
            measurement.metrics[metric.name].value
            for measurement in measurements
            if measurement is not None and metric.name in measurement.metrics
        )

    def _trial(self, trial: Trial | int) -> Trial:
        try:
            number = trial.number if isinstance(trial, Trial) else operator.index(trial)
        except TypeError as error:
            raise TypeError(f"a trial is a Trial or its number, not {trial!r}") from error
        if number not in self.trials:
            raise NotFoundError(f"there is no trial {number}")
        known = self.trials[number]
        if isinstance(trial, Trial) and trial.parameters != known.parameters:
            raise InvalidError.of(
                "trial", f"not of this optimizer: its trial {number} has other parameters"
            )
        return known

    def _point(self, parameters: Mapping[str, ParamValue]) -> Mapping[str, ParamValue]:
        violations = self.problem.space.check(parameters)
        if violations:
            raise InvalidError(violations)
        return self.problem.space.canonical(parameters)


def _replayed(
    problem: Problem, spec: object, seed: int, device: str, events: Iterable[Event]
) -> Optimizer:
    optimizer = Optimizer(problem, spec, seed, device=device)
    optimizer.fold(events)
    return optimizer


def _name_of(spec: object) -> str:
    names = [name for name, kind in NAMES.items() if type(spec) is kind]
    return names[0] if names else type(spec).__name__
