"""``auto``: the service chooses the strategy, and says in each suggestion what and why."""

from dataclasses import replace
from typing import ClassVar, Final

from bbopt.specs import CAPABILITIES, AutoSpec, Capabilities, GPSpec, SobolSpec
from bbopt.strategies.design import SobolSearch
from bbopt.strategies.gp_search import GPSearch
from bbopt.strategies.saved import read_scalars
from bbopt.strategies.strategy import (
    Array,
    Predictions,
    Recommendation,
    Status,
    Strategy,
    StrategyContext,
)
from bbopt.trial import StrategyState, Suggestion

MIN_BUDGET: Final = 4
"""Trials below which a model would never get to answer."""


class AutoStrategy:
    """Delegates to one other strategy, chosen from the problem alone."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES[AutoSpec]

    def __init__(
        self, context: StrategyContext, spec: AutoSpec, state: StrategyState | None
    ) -> None:
        """Choose, or continue from a state.

        Args:
            context: The study.
            spec: Settings.
            state: From ``state()``.
        """
        scalars = dict(read_scalars(state, "auto"))
        name, self._reason = choose(context)
        # A study keeps the strategy that it started with when a newer version would choose
        # another one.
        name = str(scalars.pop("chosen", name))
        child = None if state is None else replace(state, kind=name, scalars=scalars)
        self._name = name
        self._child: Strategy
        if name == "gp":
            self._child = GPSearch(context, GPSpec(quality=spec.quality), child)
        else:
            self._child = SobolSearch(context, SobolSpec(), child)

    @property
    def n_told(self) -> int:
        """Rows of the columns that have been told."""
        return self._child.n_told

    def ask(self, n: int, *, time_left_s: float | None = None) -> list[Suggestion]:
        """Ask the chosen strategy; each suggestion says which it is and why."""
        chosen = f"auto chose {self._name}: {self._reason}"
        found = self._child.ask(n, time_left_s=time_left_s)
        reasons = [_join(s.provenance.reason, chosen) for s in found]
        return [
            replace(s, provenance=replace(s.provenance, reason=reason))
            for s, reason in zip(found, reasons, strict=True)
        ]

    def tell(self, rows: range) -> None:
        """Hand rows on."""
        self._child.tell(rows)

    def inject(self, rows: range) -> None:
        """Hand rows on."""
        self._child.inject(rows)

    def recommend(self) -> Recommendation | None:
        """Ask the chosen strategy."""
        return self._child.recommend()

    def predict(self, X: Array) -> Predictions:
        """Ask the chosen strategy.

        Raises:
            UnsupportedError: It has no model.
            PreconditionError: There are too few results for a model yet.
        """
        return self._child.predict(X)

    def status(self) -> Status:
        """Say what the last ask could do."""
        return self._child.status()

    def state(self) -> StrategyState:
        """Return the chosen strategy's state and its name."""
        child = self._child.state()
        return replace(child, kind="auto", scalars={"chosen": self._name, **child.scalars})


def choose(context: StrategyContext) -> tuple[str, str]:
    """Choose a strategy for a problem.

    Returns:
        Its name, and why.
    """
    d = context.codec.dim
    limit = CAPABILITIES[GPSpec].max_dimensions
    if d == 0:
        return "sobol", "nothing is searched"
    if d > limit:
        return "sobol", f"{d} searched parameters, and a model learns up to {limit}"
    trials = context.problem.budget.trials
    if trials is not None and trials < MIN_BUDGET:
        return "sobol", f"a budget of {trials} trials is too small for a model"
    return "gp", f"{d} searched parameters, few enough for a model"


def _join(first: str, second: str) -> str:
    return f"{first}; {second}" if first else second
