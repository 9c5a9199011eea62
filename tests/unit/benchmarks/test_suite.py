"""The problems of the benchmark are what their records say."""

import math

import numpy as np
import pytest

from bbopt.space import Codec, ParamValue
from bbopt.trial import Value
from benchmarks import suite

ANALYTIC = [name for name in suite.MAKERS if name != "gbm_diabetes"]


def is_feasible(target: suite.SuiteProblem, metrics: dict[str, float]) -> bool:
    values = {name: Value(value) for name, value in metrics.items()}
    return target.problem.is_feasible(values)


@pytest.mark.parametrize("name", ANALYTIC)
def test_no_random_feasible_point_beats_the_optimum(name: str) -> None:
    target = suite.make(name)
    assert target.optimum is not None
    codec = Codec(target.problem.space)
    for x in codec.sample(np.random.default_rng(0), 500):
        metrics = target.evaluate(codec.decode(x))
        assert all(math.isfinite(value) for value in metrics.values())
        if is_feasible(target, metrics):
            assert metrics[target.problem.objective.name] >= target.optimum


@pytest.mark.parametrize(
    ("name", "scale", "number", "offset"),
    [("ackley10s", 10.0, 1, 0.0), ("rosenbrock4s", 1.0, 2, 1.0)],
)
def test_a_shifted_problem_has_its_optimum_off_the_middle(
    name: str, scale: float, number: int, offset: float
) -> None:
    target = suite.make(name)
    names = [parameter.name for parameter in target.problem.space.parameters]
    shift = scale * np.random.default_rng(1000 + number).uniform(-0.6, 0.6, len(names))
    best = {each: float(by) + offset for each, by in zip(names, shift, strict=True)}
    assert not target.problem.space.check(best)
    assert target.evaluate(best)["value"] == pytest.approx(0.0, abs=1e-12)


def test_the_welded_beam_is_cheapest_on_the_edge_of_its_constraints() -> None:
    target = suite.make("weldedbeam4")
    best = {"h": 0.168, "l": 4.06708477, "t": 10.0, "b": 0.168}
    metrics = target.evaluate(best)
    assert metrics["cost"] == pytest.approx(target.optimum, rel=1e-5)
    assert metrics["shear"] == pytest.approx(0.0, abs=1.0)  # of 13600
    assert max(metrics[name] for name in ("bending", "weld", "material", "buckling")) <= 0.0
    assert not is_feasible(target, target.evaluate({**best, "h": 0.16}))


def test_mixed_ackley_is_zero_only_with_the_right_categories() -> None:
    target = suite.make("mixed_ackley")
    shift = np.random.default_rng(1009).uniform(-0.6, 0.6, 3)
    best: dict[str, ParamValue] = {f"x{i}": float(shift[i]) for i in range(3)}
    best |= {"k0": "c", "k1": "a", "k2": "b", "k3": "c", "n0": 7}
    assert not target.problem.space.check(best)
    assert target.evaluate(best)["value"] == pytest.approx(0.0, abs=1e-12)
    assert target.evaluate({**best, "k1": "b"})["value"] > 1.0
    assert target.evaluate({**best, "n0": 6})["value"] > 0.1


def test_the_ball_keeps_the_optimum_of_hartmann() -> None:
    target = suite.make("chartmann6")
    best = (0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054)
    names = [parameter.name for parameter in target.problem.space.parameters]
    metrics = target.evaluate(dict(zip(names, best, strict=True)))
    assert is_feasible(target, metrics)
    assert metrics["value"] == pytest.approx(target.optimum)
    assert not is_feasible(target, target.evaluate(dict.fromkeys(names, 0.9)))


def test_a_set_stands_for_its_problems_each_once() -> None:
    names = suite.names_of(["hartmann6", "slice16"])
    assert names[0] == "hartmann6"
    assert sorted(names) == sorted(suite.SLICE16)
    assert len(names) == 16


def test_an_unknown_problem_is_refused() -> None:
    with pytest.raises(KeyError, match="hartmann7"):
        suite.make("hartmann7")


def test_functions_of_coco_are_made_by_name() -> None:
    pytest.importorskip("cocoex", reason="needs the bench extra")
    target = suite.make("coco/bbob/f3/d5/i1")
    assert len(target.problem.space.parameters) == 5
    assert target.optimum == -462.09
    value = target.evaluate(dict.fromkeys((f"x{i}" for i in range(5)), 0.5))["value"]
    assert value > target.optimum
    with pytest.raises(KeyError, match="d5"):
        suite.make("coco/bbob/d5")
