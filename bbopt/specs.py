"""Settings of strategies: what a study may name, importable without the engine.

``Capabilities`` live here too, so that a server can refuse a study it could not serve
before any model is loaded.
"""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from bbopt.errors import SpecError, Violation
from bbopt.problem import Noise, Problem
from bbopt.space import Bool, Categorical, Fixed, Parameter

MAX_POPULATION: Final = 4096
"""Points in a generation of a population method."""
MAX_LEASE_S: Final = 30 * 24 * 3600.0
"""The longest lease that can be asked for, but for one that never expires."""


class Quality(enum.Enum):
    """How much computing an ask may spend on a better suggestion."""

    FAST = "fast"
    BALANCED = "balanced"
    THOROUGH = "thorough"


@dataclass(frozen=True, slots=True)
class RandomSpec:
    """Points drawn uniformly from the space."""


@dataclass(frozen=True, slots=True)
class SobolSpec:
    """Points of a scrambled Sobol sequence, which cover the space evenly."""


@dataclass(frozen=True, slots=True)
class GPSpec:
    """Gaussian-process surrogate with (constrained) log expected improvement."""

    n_initial: int | None = None
    """Points before the first model, the defaults or the middle of the space and quasi-random
    ones; ``None``: 10 for four or more searched parameters, 5 below, and at least four for each
    value of a categorical parameter that others hang on.
    """
    quality: Quality = Quality.BALANCED


@dataclass(frozen=True, slots=True)
class CmaEsSpec:
    """Covariance matrix adaptation: generations of points from a normal distribution that
    learns from their ranking.

    Raises:
        SpecError: A setting is out of range; every one is listed.
    """

    sigma0: float = 0.2
    """Standard deviation of the first generation, as a share of each range, in ``(0, 1]``."""
    population: int | None = None
    """Points in a generation, 4 to 4096; ``None``: ``4 + floor(3 ln d)`` for d parameters.
    More find better optima of rugged functions, and use more workers.
    """
    quorum: float = 1.0
    """Share of a generation's results, in ``[0.5, 1]``, with which it ends rather than let a
    worker wait for the others.
    """

    def __post_init__(self) -> None:
        violations = []
        if not 0.0 < self.sigma0 <= 1.0:
            violations.append(Violation("sigma0", f"must be in (0, 1], not {self.sigma0}"))
        if self.population is not None and not 4 <= self.population <= MAX_POPULATION:
            text = f"must be in [4, {MAX_POPULATION}], not {self.population}"
            violations.append(Violation("population", text))
        if not 0.5 <= self.quorum <= 1.0:
            violations.append(Violation("quorum", f"must be in [0.5, 1], not {self.quorum}"))
        if violations:
            raise SpecError(violations)


@dataclass(frozen=True, slots=True)
class AutoSpec:
    """The service chooses, and says in each suggestion what it chose and why."""

    quality: Quality = Quality.BALANCED


class Promotion(enum.Enum):
    """How a configuration gets from one rung of the fidelity to the next."""

    RESUME = "resume"
    """A trial ends at its rung; a promotion is another trial that resumes it."""
    CONTINUE = "continue"
    """A trial runs on while a report at a rung finds it among the best; otherwise it is told to
    stop, and another trial may resume it once it is among the best after all.
    """


@dataclass(frozen=True, slots=True)
class AshaSpec:
    """Asynchronous successive halving: many configurations begin at the lowest rung of the
    fidelity, the best of each rung go on to the next.
    """

    promotion: Promotion = Promotion.RESUME


StrategySpec: TypeAlias = RandomSpec | SobolSpec | GPSpec | CmaEsSpec | AutoSpec | AshaSpec


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a strategy can handle; checked when a study is created."""

    supports_metric_constraints: bool
    """Learns measured constraints (not only reports feasibility)."""
    supports_parameter_constraints: bool
    supports_conditions: bool
    supports_noise: bool
    is_model_based: bool
    max_dimensions: int
    max_choices: int | None = None
    """Most values of a parameter without an order; ``None``: any number."""
    waits_for_results: bool = False
    """An ask may hand out fewer points than wanted, or none, until open trials end."""
    needs_fidelity: bool = False
    """Makes sense only where the problem says how far a trial may be evaluated."""
    ignores_results: bool = False
    """Its points are a series: the next ones are the same whatever happens meanwhile, where the
    space is not finite. The strategy is a ``Series``.
    """


NAMES: Mapping[str, type[StrategySpec]] = {
    "auto": AutoSpec,
    "random": RandomSpec,
    "sobol": SobolSpec,
    "gp": GPSpec,
    "cma_es": CmaEsSpec,
    "asha": AshaSpec,
}
"""The name of each strategy on the wire, in study files and on the command line."""

CAPABILITIES: Mapping[type[StrategySpec], Capabilities] = {
    RandomSpec: Capabilities(
        supports_metric_constraints=False,
        supports_parameter_constraints=True,
        supports_conditions=True,
        supports_noise=True,
        is_model_based=False,
        max_dimensions=2000,
        ignores_results=True,
    ),
    SobolSpec: Capabilities(
        supports_metric_constraints=False,
        supports_parameter_constraints=True,
        supports_conditions=True,
        supports_noise=True,
        is_model_based=False,
        max_dimensions=2000,
        ignores_results=True,
    ),
    GPSpec: Capabilities(
        supports_metric_constraints=True,
        supports_parameter_constraints=True,
        supports_conditions=True,
        supports_noise=True,
        is_model_based=True,
        max_dimensions=300,
    ),
    CmaEsSpec: Capabilities(
        supports_metric_constraints=True,
        supports_parameter_constraints=False,
        supports_conditions=False,
        supports_noise=True,
        is_model_based=False,
        max_dimensions=100,
        max_choices=2,
        waits_for_results=True,
    ),
    AutoSpec: Capabilities(
        supports_metric_constraints=True,
        supports_parameter_constraints=True,
        supports_conditions=True,
        supports_noise=True,
        is_model_based=True,
        max_dimensions=2000,
    ),
    AshaSpec: Capabilities(
        supports_metric_constraints=False,
        supports_parameter_constraints=True,
        supports_conditions=True,
        supports_noise=True,
        is_model_based=False,
        max_dimensions=2000,
        needs_fidelity=True,
    ),
}


def find_unsupported(
    problem: Problem, capabilities: Capabilities, *, name: str
) -> list[Violation]:
    """List the features of a problem that a strategy cannot handle.

    A strategy without a model may run under metric constraints: it evaluates and reports them,
    as the baseline that it is. A model that ignored them would mislead.

    Args:
        problem: What is to be optimised.
        capabilities: What the strategy can handle.
        name: The strategy's, for the message.

    Returns:
        One violation per feature; the message names the strategies that can. Empty when the
        strategy fits.
    """
    return [
        Violation("strategy", f"{name} cannot handle {feature}; {_those_that_can(problem)}")
        for feature in _missing(problem, capabilities)
    ]


def _missing(problem: Problem, capabilities: Capabilities) -> list[str]:
    searched = [p for p in problem.space.parameters if not isinstance(p, Fixed)]
    has_conditions = any(p.active_if is not None for p in searched)
    is_noisy = problem.objective.noise is not Noise.NONE
    limit = capabilities.max_dimensions
    n_choices = max(map(_n_choices, searched), default=0)
    max_choices = capabilities.max_choices
    tests = (
        (
            len(searched) > limit,
            f"{len(searched)} searched parameters (at most {limit})",
        ),
        (
            bool(problem.space.constraints) and not capabilities.supports_parameter_constraints,
            "constraints between parameters",
        ),
        (has_conditions and not capabilities.supports_conditions, "conditional parameters"),
        (
            max_choices is not None and n_choices > max_choices,
            f"a parameter with {n_choices} values in no order (at most {max_choices})",
        ),
        (is_noisy and not capabilities.supports_noise, "noisy metrics"),
        (
            bool(problem.constraints)
            and capabilities.is_model_based
            and not capabilities.supports_metric_constraints,
            "metric constraints",
        ),
        (
            capabilities.needs_fidelity and problem.fidelity is None,
            "a problem without a fidelity",
        ),
    )
    return [feature for is_missing, feature in tests if is_missing]


def _n_choices(parameter: Parameter) -> int:
    match parameter:
        case Categorical(choices=choices):
            return len(choices)
        case Bool():
            return 2
        case _:
            return 0


def _those_that_can(problem: Problem) -> str:
    able = [name for name, spec in NAMES.items() if not _missing(problem, CAPABILITIES[spec])]
    return f"these can: {', '.join(able)}" if able else "no built-in strategy can"


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """How long a worker may hold a trial without a sign of life, and what follows.

    A study that was created before leases had a limit keeps its longer ones, so the limit is
    none of this class: ``of_new_study`` applies it.

    Raises:
        SpecError: A setting is out of range; every one is listed.
    """

    duration_s: float = 60.0
    """Seconds a lease lasts between heartbeats; 0 for leases that never expire."""
    max_attempts: int = 3
    """Times a point is handed out before a lost trial counts as FAILED."""

    def __post_init__(self) -> None:
        fault = None
        if not 0 <= self.duration_s < math.inf:
            fault = f"must be finite and not negative, not {self.duration_s} s"
        _check_lease(fault, self.max_attempts)

    @classmethod
    def of_new_study(cls, duration_s: float, max_attempts: int) -> "LeasePolicy":
        """Make the policy of a study that does not exist yet.

        Raises:
            SpecError: A setting is out of range, or a lease lasts longer than 30 days.
        """
        _check_lease(lease_fault(duration_s), max_attempts)
        return cls(duration_s, max_attempts)


def _check_lease(fault: str | None, max_attempts: int) -> None:
    violations = [] if fault is None else [Violation("duration_s", fault)]
    if not 1 <= max_attempts < 2**31:
        text = f"must be in [1, 2**31), not {max_attempts}"
        violations.append(Violation("max_attempts", text))
    if violations:
        raise SpecError(violations)


def lease_fault(duration_s: float) -> str | None:
    """Say why a lease of so many seconds cannot be asked for."""
    if 0 <= duration_s <= MAX_LEASE_S:
        return None
    return f"must be at most 30 days, or 0 for never, not {duration_s} s"


@dataclass(frozen=True, slots=True)
class StudySpec:
    """Everything that defines a study; two equal specs are the same study."""

    problem: Problem
    strategy: StrategySpec = field(default_factory=AutoSpec)
    seed: int | None = None
    """In ``[0, 2**64)``; same spec, seed and log give the same suggestions. ``None``: the
    server draws one, so that no study that exists is without.
    """
    lease: LeasePolicy = field(default_factory=LeasePolicy)

    @property
    def drawn_seed(self) -> int:
        """The seed of a study that exists; 0 for one that does not yet, and was given none."""
        return self.seed or 0
