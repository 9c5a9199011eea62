"""Problems: what is refused, and how results are checked, judged and compared."""

import math
from typing import Any

import pytest

from bbopt.errors import SpecError
from bbopt.problem import Budget, Goal, Metric, MetricKind, Noise, Problem
from bbopt.space import Float, Space
from bbopt.trial import Value

SPACE = Space((Float("x", 0, 1),))
LOSS = Metric("loss", goal=Goal.MINIMIZE)
CONSTRAINT, COST, TRACKED = MetricKind.CONSTRAINT, MetricKind.COST, MetricKind.TRACKED
PROBLEM = Problem.of(
    SPACE,
    "-loss",
    constraints=["latency <= 20", "0.1 <= ratio <= 0.9"],
    cost="seconds",
    tracked=["epochs"],
    budget=40,
)
GOOD = {"loss": 1.0, "latency": 20.0, "ratio": 0.5, "seconds": 3.0}


def values(**changes: float) -> dict[str, Value]:
    return {name: Value(value) for name, value in {**GOOD, **changes}.items()}


def fields(metrics: Any = (LOSS,), budget: Budget | None = None) -> list[str]:  # noqa: ANN401
    with pytest.raises(SpecError) as caught:
        Problem(SPACE, metrics, budget or Budget())
    return [violation.field for violation in caught.value.violations]


@pytest.mark.parametrize(
    ("metrics", "field"),
    [
        ((), "metrics"),
        ((LOSS, Metric("other", goal=Goal.MAXIMIZE)), "metrics"),
        ((Metric("loss"),), "metrics[loss].goal"),
        ((LOSS, Metric("loss", TRACKED)), "metrics[loss].name"),
        ((LOSS, Metric("x", TRACKED)), "metrics[x].name"),
        ((LOSS, Metric("a\nb", TRACKED)), "metrics[1].name"),
        ((LOSS, Metric("c", CONSTRAINT)), "metrics[c].upper"),
        ((LOSS, Metric("c", CONSTRAINT, lower=2, upper=1)), "metrics[c].lower"),
        ((LOSS, Metric("c", CONSTRAINT, lower=1, upper=1)), "metrics[c].lower"),
        ((LOSS, Metric("c", CONSTRAINT, upper=math.nan)), "metrics[c].upper"),
        ((LOSS, Metric("c", CONSTRAINT, lower=-math.inf)), "metrics[c].lower"),
        ((LOSS, Metric("c", CONSTRAINT, Goal.MINIMIZE, upper=1)), "metrics[c].goal"),
        ((Metric("loss", goal=Goal.MINIMIZE, upper=1),), "metrics[loss].upper"),
        ((LOSS, Metric("t", TRACKED, lower=0)), "metrics[t].lower"),
        ((LOSS, Metric("s", COST), Metric("t", COST)), "metrics"),
        ((LOSS, *(Metric(f"c{k}", CONSTRAINT, upper=1) for k in range(65))), "metrics"),
        ((Metric("loss", goal="best"),), "metrics[loss].goal"),  # type: ignore[arg-type]
        ((LOSS, Metric("t", "note")), "metrics[t].kind"),  # type: ignore[arg-type]
        ((LOSS, Metric("t", TRACKED, noise=3)), "metrics[t].noise"),  # type: ignore[arg-type]
        ((LOSS, "latency <= 3"), "metrics[1]"),
    ],
)
def test_a_faulty_metric_is_refused_by_field(metrics: Any, field: str) -> None:  # noqa: ANN401
    assert fields(metrics) == [field]


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        (Budget(trials=0), "budget.trials"),
        (Budget(trials=True), "budget.trials"),
        (Budget(trials=2.5), "budget.trials"),  # type: ignore[arg-type]
        (Budget(trials=2**63), "budget.trials"),
        (Budget(cost=-1), "budget.cost"),
        (Budget(cost=math.nan), "budget.cost"),
        (Budget(cost=5), "budget.cost"),
    ],
)
def test_a_faulty_budget_is_refused_by_field(budget: Budget, field: str) -> None:
    assert fields(budget=budget) == [field]


def test_every_fault_of_a_problem_is_listed_at_once() -> None:
    metrics = (Metric("loss"), Metric("c", CONSTRAINT), Metric("x", TRACKED))
    assert fields(metrics, Budget(0, -1.0)) == [
        "metrics[loss].goal",
        "metrics[c].upper",
        "metrics[x].name",
        "budget.trials",
        "budget.cost",
    ]


def test_short_forms_build_the_same_problem_as_long_ones() -> None:
    assert (
        Problem(
            SPACE,
            (
                Metric("loss", goal="minimize"),  # type: ignore[arg-type]
                Metric("latency", CONSTRAINT, upper=20),
                Metric("ratio", CONSTRAINT, lower=0.1, upper=0.9),
                Metric("seconds", COST),
                Metric("epochs", TRACKED),
            ),
            Budget(trials=40),
        )
        == PROBLEM
    )
    assert Problem.of(SPACE.parameters, LOSS).space == SPACE


def test_faults_of_all_short_forms_are_listed() -> None:
    with pytest.raises(SpecError) as caught:
        Problem.of(SPACE, "latency <= 3", constraints=["-loss", "a < 3"])
    assert len(caught.value.violations) == 3


def test_parts_of_a_problem_are_found_by_kind_and_name() -> None:
    assert PROBLEM.objective.name == "loss"
    assert [metric.name for metric in PROBLEM.constraints] == ["latency", "ratio"]
    assert PROBLEM.cost == PROBLEM.metric("seconds")
    assert Problem.of(SPACE, "loss").cost is None
    with pytest.raises(KeyError):
        PROBLEM.metric("nothing")


def test_a_complete_result_has_no_violations() -> None:
    assert PROBLEM.check_result(values()) == []
    assert PROBLEM.check_result(values(epochs=3)) == []
    assert PROBLEM.check_metrics(GOOD) == []


def test_unknown_and_missing_metrics_of_a_result_are_listed() -> None:
    found = PROBLEM.check_result({"loss": Value(1.0), "speed": Value(2.0)})
    assert [violation.field for violation in found] == [
        "metrics[speed]",
        "metrics[latency]",
        "metrics[ratio]",
        "metrics[seconds]",
    ]


def test_a_partial_result_may_miss_metrics_but_not_have_unknown_ones() -> None:
    found = PROBLEM.check_result({"speed": Value(2.0), "loss": Value(math.nan)}, partial=True)
    assert [violation.field for violation in found] == ["metrics[speed]", "metrics[loss].value"]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (Value(math.nan), "value"),
        (Value(math.inf), "value"),
        (Value(-math.inf), "value"),
        (Value(True), "value"),
        (Value("1"), "value"),  # type: ignore[arg-type]
        (Value(1.0, sd=-0.1), "sd"),
        (Value(1.0, sd=math.nan), "sd"),
        (Value(1.0, sd=math.inf), "sd"),
        (Value(1.0, replicates=0), "replicates"),
        (Value(1.0, replicates=True), "replicates"),
    ],
)
def test_a_wrong_number_is_refused_by_field(value: Value, field: str) -> None:
    found = PROBLEM.check_result({**values(), "loss": value})
    assert [violation.field for violation in found] == [f"metrics[loss].{field}"]


@pytest.mark.parametrize("value", [1e308, -1e308, 5e-324, 0.0, -0.0])
def test_extreme_numbers_are_numbers(value: float) -> None:
    assert PROBLEM.check_result(values(loss=value)) == []


def test_a_cost_is_never_negative() -> None:
    found = PROBLEM.check_result(values(seconds=-1.0))
    assert [violation.field for violation in found] == ["metrics[seconds].value"]


def test_reported_noise_must_be_reported() -> None:
    metric = Metric("loss", goal=Goal.MINIMIZE, noise=Noise.REPORTED)
    problem = Problem(SPACE, (metric,))
    assert [v.field for v in problem.check_result({"loss": Value(1.0)})] == ["metrics[loss].sd"]
    assert problem.check_result({"loss": Value(1.0, sd=0.0)}) == []


def test_feasible_means_measured_and_within_every_bound() -> None:
    assert PROBLEM.is_feasible(values())
    assert not PROBLEM.is_feasible(values(latency=20.1))
    assert not PROBLEM.is_feasible(values(ratio=0.05))
    assert not PROBLEM.is_feasible(values(ratio=math.nan))
    assert not PROBLEM.is_feasible({"loss": Value(1.0), "ratio": Value(0.5)})


def test_results_are_ordered_by_feasibility_then_by_the_goal() -> None:
    good, slow, slower = values(), values(latency=22.0), values(latency=40.0, loss=0.0)
    assert PROBLEM.better(values(loss=0.5), good)
    assert not PROBLEM.better(good, values(loss=0.5))
    assert not PROBLEM.better(good, good)
    assert PROBLEM.better(good, values(latency=22.0, loss=-9.0))
    assert PROBLEM.better(slow, slower)
    assert PROBLEM.better(slower, {})
    assert PROBLEM.better(slow, {"loss": Value(0.0)})
    maximised = Problem.of(SPACE, "gain")
    assert maximised.better({"gain": Value(2.0)}, {"gain": Value(1.0)})


def test_violations_are_compared_in_units_of_their_bounds() -> None:
    # 10 % above 20 is less than 100 % below 0.1.
    assert PROBLEM.better(values(latency=22.0), values(ratio=0.0))
