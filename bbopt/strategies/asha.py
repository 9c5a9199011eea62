"""``asha``: many configurations begin at the lowest rung, the best of each rung go on.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020. An ask
resumes the best configuration that may be promoted, from the highest rung that has one, and
begins a new random one where there is none; nobody ever waits for a rung to fill. Where trials
run on (``Promotion.CONTINUE``), whoever answers their reports promotes them in place by the
same rungs.
"""

from typing import ClassVar

import numpy as np

from bbopt.specs import CAPABILITIES, AshaSpec, Capabilities, Promotion
from bbopt.stopping import Rungs, initial_stage
from bbopt.stopping.rungs import Run
from bbopt.strategies.candidates import Supply
from bbopt.strategies.recommendation import eligible_rows
from bbopt.strategies.row_counter import RowCounter
from bbopt.strategies.saved import read_scalars
from bbopt.strategies.strategy import (
    Array,
    Recommendation,
    Status,
    StrategyContext,
)
from bbopt.trial import Provenance, Stage, StrategyState, Suggestion

_NAME = "asha"


class AshaSearch(RowCounter):
    """Asynchronous successive halving of random configurations."""

    name = _NAME
    capabilities: ClassVar[Capabilities] = CAPABILITIES[AshaSpec]

    def __init__(
        self, context: StrategyContext, spec: AshaSpec, state: StrategyState | None
    ) -> None:
        """Begin, or continue from a state.

        Args:
            context: The study; its problem has a fidelity.
            spec: Settings.
            state: From ``state()``.
        """
        scalars = read_scalars(state, _NAME)
        super().__init__(scalars)
        self._context = context
        self._spec = spec
        self._supply = Supply(context)
        self._initial_stage = initial_stage(context.problem, spec)
        self._counter = int(scalars.get("counter", 0))
        self._rungs = Rungs(context.problem)
        self._n_folded = 0

    def ask(self, n: int, *, time_left_s: float | None = None) -> list[Suggestion]:
        """Promote what may be promoted, then begin; fast enough for any deadline."""
        del time_left_s
        self._catch_up()
        found: list[Suggestion] = []
        taken: set[int] = set()
        begun = self._supply.nothing()
        self._status = Status.RUNNING
        promotable = self._rungs.all_promotable()
        for _ in range(n):
            run = next(promotable, None)
            row = None if run is not None else self._begin(begun)
            if run is None and row is None:
                run = self._last_promotable(taken, is_idle=not found)
            if row is not None:
                begun = np.concatenate([begun, row])
                found.append(self._first(row[0]))
            elif run is not None:
                taken.add(run.configuration)
                found.append(self._promoted(run))
            else:
                # What is under way may yet be promoted.
                is_open = bool(found) or bool(self._context.columns.pending_numbers)
                self._status = Status.WAITING if is_open else Status.EXHAUSTED
                break
        return found

    def recommend(self) -> Recommendation | None:
        """Choose the best of the feasible trials that were evaluated furthest."""
        self._catch_up()
        columns = self._context.columns
        rows = [int(row) for row in eligible_rows(columns)]
        if not rows:
            return None
        reached = {row: self._rung_of(int(columns.numbers[row])) for row in rows}
        rung = max(reached.values())
        furthest = [row for row in rows if reached[row] == rung]
        best = max(furthest, key=lambda row: (columns.Y[row, 0], -row))
        where = "" if rung < 0 else f" at {self._rungs.steps[rung]}"
        return Recommendation(
            int(columns.numbers[best]), f"best measured feasible value{where}"
        )

    def state(self) -> StrategyState:
        """Return the counters."""
        return StrategyState(_NAME, 1, {"counter": self._counter, "n_told": self._n_told}, {})

    def _catch_up(self) -> None:
        log = self._context.log
        self._rungs.fold(log.events(self._n_folded))
        self._n_folded = log.revision

    def _begin(self, begun: Array) -> Array | None:
        """Draw one new configuration, shape ``(1, D)``; ``None`` when the space ran out."""
        row = self._supply.draw(begun, "asha", self._counter)
        if row is not None:
            self._counter += 1
        return row

    def _last_promotable(self, taken: set[int], *, is_idle: bool) -> Run | None:
        """Choose what to resume when every configuration of a small space has been begun.

        Rungs will not fill any more, so the best one of each goes on, once nobody is under way
        who might still beat it.
        """
        if not is_idle or self._context.columns.pending_numbers:
            return None
        return self._rungs.promotable(taken, at_least=1)

    def _first(self, row: Array) -> Suggestion:
        parameters = self._context.codec.decode(row)
        return Suggestion(parameters, Provenance(_NAME), self._initial_stage)

    def _promoted(self, run: Run) -> Suggestion:
        rung = max(run.scores())
        steps = self._rungs.steps
        runs_on = self._spec.promotion is Promotion.CONTINUE
        stage = Stage(steps[-1] if runs_on else steps[rung + 1], run.number, run.configuration)
        parameters = self._context.log.trials[run.number].parameters
        reason = f"promoted from {steps[rung]}, where trial {run.number} was among the best"
        return Suggestion(parameters, Provenance(_NAME, reason=reason), stage)

    def _rung_of(self, number: int) -> int:
        run = self._rungs.run(number)
        return -1 if run is None else max(run.scores(), default=-1)
