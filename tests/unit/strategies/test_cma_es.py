"""``cma_es``: how well it does beside the bare package, and what ends a generation."""

import numpy as np
import pytest

from bbopt import Bool, Categorical, Float, Int, Metric, Optimizer, Problem, Space
from bbopt.errors import DataLossError, SpecError, UnsupportedError
from bbopt.problem import Goal, MetricKind, Noise
from bbopt.space import Codec, Equals, Linear
from bbopt.specs import CmaEsSpec
from bbopt.strategies.ranking import rank
from bbopt.testing.example_problems import box_problem, measure
from bbopt.trial import Abandoned, Columns, Failed, Infeasible, StrategyState, Trial
from bbopt.trial.told import ToldOutcome
from tests.unit.population.ellipsoid import TARGET, Ellipsoid

SIX = CmaEsSpec(population=6)


def evaluations(ellipsoid: Ellipsoid, seed: int, *, share_lost: float = 0.0) -> int:
    """Count trials, the lost ones too, until one reaches the target."""
    optimizer = Optimizer(ellipsoid.problem, "cma_es", seed=seed)
    rng = np.random.default_rng(seed)
    while len(optimizer.trials) < 20_000:
        trials = optimizer.ask(8)
        for trial in trials:
            if rng.random() < share_lost:
                optimizer.tell(trial, Failed("its machine is gone"))
                continue
            loss = ellipsoid.of(trial.parameters)
            optimizer.tell(trial, loss)
            if loss <= TARGET:
                return trial.number
    raise AssertionError("the target was not reached")


def test_it_needs_about_as_many_evaluations_as_the_bare_package() -> None:
    ellipsoid = Ellipsoid(4, 1)
    bare = ellipsoid.bare_evaluations(1)
    assert evaluations(ellipsoid, 1) <= 1.3 * bare
    assert evaluations(ellipsoid, 1, share_lost=0.2) <= 2.0 * bare


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_turned_coordinates_cost_what_they_cost_the_bare_package() -> None:
    for seed in range(1, 6):
        ellipsoid = Ellipsoid(10, seed)
        bare = ellipsoid.bare_evaluations(seed)
        whole = evaluations(ellipsoid, seed)
        lossy = evaluations(ellipsoid, seed, share_lost=0.2)
        print(f"seed {seed}: bare {bare}, cma_es {whole}, a fifth lost {lossy}")
        assert whole <= 1.3 * bare
        assert lossy <= 2.0 * bare


def test_integers_and_booleans_are_found_exactly() -> None:
    integers = tuple(Int(f"n{i}", -10, 10) for i in range(3))
    space = Space((*integers, Bool("b"), Float("x", -1.0, 1.0), Float("y", -1.0, 1.0)))
    problem = Problem(space, (Metric("loss", goal=Goal.MINIMIZE),))
    optimizer = Optimizer(problem, CmaEsSpec(population=12), seed=3)

    def loss(trial: Trial) -> float:
        values = trial.parameters
        total = sum((float(values[f"n{i}"]) - 2 * i - 1) ** 2 for i in range(3))
        total += (float(values["x"]) - 0.3) ** 2 + (float(values["y"]) + 0.2) ** 2
        return total + (0.0 if values["b"] else 1.0)

    for _ in range(120):
        for trial in optimizer.ask(12):
            optimizer.tell(trial, loss(trial))
    best = optimizer.best()
    assert best is not None
    assert [best.parameters[f"n{i}"] for i in range(3)] == [1, 3, 5]
    assert best.parameters["b"] is True
    assert loss(best) < 1e-6


# ---------------------------------------------------------------------- generations


def test_an_ask_gets_nothing_while_a_generation_waits() -> None:
    optimizer = Optimizer(box_problem(), SIX)
    trials = optimizer.ask(4) + optimizer.ask(4)
    assert len(trials) == 6
    assert optimizer.ask(4) == []
    assert not optimizer.suggest(1).space_exhausted
    for trial in trials[1:]:
        optimizer.tell(trial, measure(trial))
    assert optimizer.ask() == []
    optimizer.tell(trials[0], measure(trials[0]))
    assert len(optimizer.ask(9)) == 6


def test_lost_slots_are_drawn_again_from_the_same_distribution() -> None:
    optimizer = Optimizer(box_problem(), SIX)
    trials = optimizer.ask(6)
    outcomes: list[ToldOutcome] = [Failed(), Abandoned(), 1.0, 2.0, 3.0]
    for trial, outcome in zip(trials[:5], outcomes, strict=True):
        optimizer.tell(trial, outcome)
    again = optimizer.ask(6)
    assert [t.provenance.reason for t in again] == [
        "generation 1, slot 7",
        "generation 1, slot 8",
    ]
    for trial in (*again, trials[5]):
        optimizer.tell(trial, measure(trial))
    assert optimizer.ask()[0].provenance.reason == "generation 2, slot 1"


def test_a_state_does_not_grow_while_every_trial_fails() -> None:
    optimizer = Optimizer(box_problem(), SIX)
    for _ in range(30):
        for trial in optimizer.ask(6):
            optimizer.tell(trial, Failed("the cluster is down"))
    state = optimizer.suggest(1).state
    assert len(optimizer.trials) == 180
    assert len(state.arrays["slots"]) <= 10 * 6 + 2
    assert state.scalars["sigma"] == 0.2


def test_a_quorum_ends_a_generation_instead_of_waiting() -> None:
    optimizer = Optimizer(box_problem(), CmaEsSpec(population=10, quorum=0.8))
    trials = optimizer.ask(10)
    for trial in trials[:7]:
        optimizer.tell(trial, measure(trial))
    assert optimizer.ask() == []
    optimizer.tell(trials[7], measure(trials[7]))
    late = optimizer.ask()[0]
    assert late.provenance.reason == "generation 2, slot 1"
    state = optimizer.suggest(1).state
    optimizer.tell(trials[8], 1e9)
    assert optimizer.suggest(1).state.arrays["mean"].tobytes() == state.arrays["mean"].tobytes()


def test_an_ask_does_not_give_up_what_it_hands_out_itself() -> None:
    optimizer = Optimizer(box_problem(), CmaEsSpec(population=10, quorum=0.8))
    for trial in optimizer.ask(8):
        optimizer.tell(trial, measure(trial))
    assert len(optimizer.ask(4)) == 2


def test_points_that_somebody_else_proposed_do_not_fill_slots() -> None:
    plain, other = (Optimizer(box_problem(), SIX, seed=1) for _ in range(2))
    foreign = other.enqueue({"x1": 0.5, "x2": 0.5})
    assert other.ask()[0].number == foreign.number
    other.tell(foreign, 1e6)
    for optimizer in (plain, other):
        for trial in optimizer.ask(6):
            optimizer.tell(trial, measure(trial))
    assert [t.parameters for t in plain.ask(6)] == [t.parameters for t in other.ask(6)]


def test_a_generation_of_infeasible_points_shrinks_towards_the_best_feasible_one() -> None:
    optimizer = Optimizer(box_problem(), SIX)
    optimizer.enqueue({"x1": 0.8, "x2": 0.8})
    optimizer.tell(optimizer.ask()[0], 1.0)
    trials = optimizer.ask(6)
    for trial in trials:
        optimizer.tell(trial, Infeasible("diverged"))
    state = optimizer.suggest(1).state
    assert state.scalars["sigma"] == pytest.approx(0.7 * 0.2)
    assert state.arrays["mean"] == pytest.approx(0.7 * 0.5 + 0.3 * 0.9)


def test_a_converged_distribution_starts_again_with_twice_the_population() -> None:
    optimizer = Optimizer(box_problem(1), CmaEsSpec(), seed=2)
    sizes = set()
    for _ in range(150):
        trials = optimizer.ask(100)
        sizes.add(len(trials))
        for trial in trials:
            optimizer.tell(trial, -abs(float(trial.parameters["x1"]) - 0.25))
    assert {4, 8} <= sizes


def test_a_plateau_is_left() -> None:
    optimizer = Optimizer(box_problem(2), SIX, seed=2)
    for _ in range(25):
        for trial in optimizer.ask(100):
            optimizer.tell(trial, 1.0)
    assert int(optimizer.suggest(1).state.scalars["n_restarts"]) > 0


def test_the_first_generation_is_about_the_default_point() -> None:
    space = Space((Float("x", 0.0, 1.0, default=0.9), Float("y", 0.0, 1.0, default=0.1)))
    problem = Problem(space, (Metric("z", goal=Goal.MINIMIZE),))
    trials = Optimizer(problem, CmaEsSpec(sigma0=0.01)).ask(6)
    for trial in trials:
        assert float(trial.parameters["x"]) == pytest.approx(0.9, abs=0.06)
        assert float(trial.parameters["y"]) == pytest.approx(0.1, abs=0.06)


def test_known_points_are_not_measured_again_without_noise() -> None:
    space = Space((Int("n", 1, 6), Int("m", 1, 6)))
    problem = Problem(space, (Metric("z", goal=Goal.MINIMIZE, noise=Noise.NONE),))
    optimizer = Optimizer(problem, "cma_es", seed=1)
    seen = []
    while trials := optimizer.ask(3):
        for trial in trials:
            seen.append((trial.parameters["n"], trial.parameters["m"]))
            optimizer.tell(trial, float(trial.parameters["n"]))
    assert len(seen) == len(set(seen)) == 36


# ---------------------------------------------------------------------- ranks


def test_feasible_points_rank_before_near_misses_before_broken_ones() -> None:
    metrics = (
        Metric("y", goal=Goal.MINIMIZE),
        Metric("a", MetricKind.CONSTRAINT, upper=100.0),
        Metric("b", MetricKind.CONSTRAINT, lower=1.0),
    )
    problem = Problem(Space((Float("x", 0.0, 1.0),)), metrics)
    optimizer = Optimizer(problem, "random")
    outcomes: list[ToldOutcome] = [
        Infeasible("diverged"),
        {"y": 0.0, "a": 150.0, "b": 2.0},  # misses by half a unit
        {"y": 5.0, "a": 1.0, "b": 2.0},
        {"y": 0.0, "a": 110.0, "b": 1.0},  # misses by a tenth
        {"y": 4.0, "a": 1.0, "b": 1.0},
        {"y": 0.0, "a": 1.0, "b": 0.2},  # misses by 0.8
    ]
    for outcome in outcomes:
        optimizer.tell(optimizer.ask()[0], outcome)
    columns = Columns(problem, Codec(problem.space), optimizer.log.events())
    order, is_flat = rank(columns, np.arange(6))
    assert order is not None
    assert order.tolist() == [4, 2, 3, 1, 5, 0]
    assert not is_flat
    assert rank(columns, np.array([0]))[0] is None
    assert rank(columns, np.array([2, 2]))[1]


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"sigma0": 0.0}, "sigma0"),
        ({"sigma0": float("nan")}, "sigma0"),
        ({"population": 3}, "population"),
        ({"population": 4097}, "population"),
        ({"quorum": 0.4}, "quorum"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], field: str) -> None:
    with pytest.raises(SpecError, match=field):
        CmaEsSpec(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("space", "feature"),
    [
        (Space((Categorical("c", ("a", "b", "c")),)), "3 values in no order"),
        (
            Space((Bool("b"), Float("x", 0.0, 1.0, active_if=Equals("b", (True,))))),
            "conditional parameters",
        ),
        (
            Space(
                (Float("x", 0.0, 1.0), Float("y", 0.0, 1.0)),
                (Linear({"x": 1.0, "y": 1.0}, upper=1.0),),
            ),
            "constraints between parameters",
        ),
    ],
)
def test_what_it_cannot_handle_is_refused_with_those_that_can(
    space: Space, feature: str
) -> None:
    with pytest.raises(UnsupportedError, match=f"{feature}.*these can: .*gp"):
        Optimizer(Problem(space, (Metric("loss", goal=Goal.MINIMIZE),)), "cma_es")


def test_a_state_that_lacks_something_is_data_loss() -> None:
    optimizer = Optimizer(box_problem(), SIX)
    state = optimizer.suggest(1).state
    arrays = {name: array for name, array in state.arrays.items() if name != "path_c"}
    broken = StrategyState(state.kind, state.schema, state.scalars, arrays)
    with pytest.raises(DataLossError, match="path_c"):
        type(optimizer._strategy)(optimizer._context, SIX, broken)  # type: ignore[call-arg]
