"""Wide batches: drawn functions, the trust region, and what a study sees of them."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from bbopt import Categorical, Float, Int, Linear, Metric, Optimizer, Problem, Space
from bbopt.acquisition import IntegratedLogExpectedImprovement, LogExpectedImprovement
from bbopt.gp import GPModel, GPSettings, WarpKind
from bbopt.numerics import stream
from bbopt.replay import replay
from bbopt.search import maximise_batch
from bbopt.space import Codec, Parameter, ParamValue
from bbopt.specs import GPSpec, Quality
from bbopt.strategies import StrategyContext, gp_batch, gp_region
from bbopt.strategies.gp_batch import choose_batch
from bbopt.strategies.gp_region import Region, RegionSearch
from bbopt.strategies.gp_search import N_GREEDY
from bbopt.strategies.strategy import Array
from bbopt.trial import (
    Columns,
    Completed,
    Enqueued,
    Event,
    Measurement,
    NewTrial,
    Provenance,
    Told,
    Value,
)

FAST = GPSpec(quality=Quality.FAST)
MINIMISED = (Metric.parse("-loss"),)


def cube(d: int) -> Space:
    return Space(tuple(Float(f"x{i}", 0.0, 1.0) for i in range(d)))


def bowl_model(d: int, n: int) -> GPModel:
    X = stream(1, "bowl").random((n, d))
    y = -((X - 0.4) ** 2).sum(1) + 0.2 * np.sin(9.0 * X[:, 0])
    model = GPModel(Codec(cube(d)).columns, GPSettings(warp=WarpKind.STANDARDISE))
    model.observe(X, y)
    model.refit()
    return model


def batch_of(
    model: GPModel, n: int, *, pending: Array | None = None, side: float = 2.0
) -> Array:
    d = model.X.shape[1]
    found = choose_batch(
        Codec(cube(d)),
        model,
        n,
        centre=model.X[int(np.argmax(model.y))],
        sides=np.full(d, side),
        measured=model.X,
        achieved=model.X,
        pending=np.empty((0, d)) if pending is None else pending,
        draw_feasibility=lambda *_: None,
        rng=stream(2, "batch"),
        reason="",
    )
    return np.array([each.x for each in found])


def joint_gain(model: GPModel, X: Array) -> float:
    """Joint expected improvement in standardised units, by sampling."""
    normal = torch.from_numpy(stream(3, "joint").standard_normal((len(X), 4000)))
    best = model.fitted_means().amax(1)
    total = 0.0
    moments = model.posterior.predict_jointly(torch.from_numpy(X))
    for e, (weight, mean, covariance) in enumerate(zip(model.weights, *moments, strict=True)):
        root = torch.linalg.cholesky(covariance + 1e-8 * torch.eye(len(X), dtype=torch.float64))
        reached = (mean[:, None] + root @ normal).amax(0)
        total += weight * float((reached - best[e]).clamp(min=0.0).mean())
    return total


def nearest(X: Array) -> float:
    """Median distance of a point to the nearest other one."""
    apart = np.linalg.norm(X[:, None] - X, axis=2) + 1e9 * np.eye(len(X))
    return float(np.median(apart.min(axis=1)))


class TestBatch:
    def test_the_first_points_do_not_depend_on_how_many_follow(self) -> None:
        model = bowl_model(3, 20)
        assert np.array_equal(batch_of(model, 7), batch_of(model, 20)[:7])

    def test_its_points_are_apart_from_each_other_and_from_what_is_known(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gp_batch, "BLOCK", 12)  # so that there are several
        model = bowl_model(2, 20)
        X = np.concatenate([model.X, batch_of(model, 30)])
        assert len(X) == 50
        apart = np.abs(X[:, None] - X).max(axis=2) + np.eye(len(X))
        assert apart.min() >= 1e-6

    def test_it_stays_in_its_box(self) -> None:
        model = bowl_model(3, 20)
        centre = model.X[int(np.argmax(model.y))]
        assert np.abs(batch_of(model, 30, side=0.1) - centre).max() <= 0.05 + 1e-12

    def test_what_is_pending_is_not_chosen_again(self) -> None:
        model = bowl_model(2, 12)
        first = batch_of(model, 5)
        second = batch_of(model, 5, pending=first)
        assert np.abs(first[:, None] - second).max(axis=2).min() > 1e-3

    @pytest.mark.slow
    def test_it_spreads_more_than_a_greedy_one_and_gains_as_much(self) -> None:
        model = bowl_model(4, 40)
        codec = Codec(cube(4))
        rng = stream(4, "greedy")
        best = model.fitted_means().amax(1)

        def acquisition(
            rows: Array,
        ) -> LogExpectedImprovement | IntegratedLogExpectedImprovement:
            if not len(rows):
                return LogExpectedImprovement(model, best)
            return IntegratedLogExpectedImprovement(model, best, rows, rng=rng)

        nothing = np.empty((0, 4))
        incumbents = model.X[np.argsort(-model.y)[:5]]
        greedy = np.array(
            [
                each.x
                for each in maximise_batch(
                    acquisition, codec, rng, n=50, pending=nothing, incumbents=incumbents
                )
            ]
        )
        wide = batch_of(model, 50)
        assert joint_gain(model, wide) > 0.97 * joint_gain(model, greedy)
        assert nearest(wide) > nearest(greedy)


class TestRegion:
    @staticmethod
    def search(
        values: Callable[[Array], Array], n: int
    ) -> tuple[RegionSearch, StrategyContext, list[Event]]:
        problem = Problem(cube(2), MINIMISED)
        codec = Codec(problem.space)
        X = stream(5, "region").random((n, 2))
        events: list[Event] = []
        for number, (x, y) in enumerate(zip(X, values(X), strict=True), 1):
            told = Told(number, Completed(Measurement({"loss": Value(float(y))})))
            trial = NewTrial(number, codec.decode(x), Provenance("enqueued"))
            events += [Enqueued(trial), told]
        context = StrategyContext(problem, codec, Columns(problem, codec, events), 1)
        return RegionSearch(context, GPSettings()), context, events

    @staticmethod
    def tell(context: StrategyContext, x: Array, y: float) -> None:
        number = len(context.columns) + 1
        trial = NewTrial(number, context.codec.decode(x), Provenance("enqueued"))
        context.columns.fold(Enqueued(trial))
        context.columns.fold(Told(number, Completed(Measurement({"loss": Value(y)}))))

    def test_it_opens_at_the_best_result_and_halves_where_nothing_gets_better(self) -> None:
        search, context, _ = self.search(lambda X: ((X - 0.5) ** 2).sum(1), 30)
        model = bowl_model(2, 10)
        region = search.advance(0, model)
        best = int(np.argmax(context.columns.Y[:, 0]))
        assert np.array_equal(region.centre, context.columns.X[best])
        for k in range(4):
            self.tell(context, np.array([0.9, 0.1 + 0.01 * k]), 5.0)
        assert search.advance(0, model).length == region.length / 2

    def test_three_successes_in_a_row_double_it(self) -> None:
        search, context, _ = self.search(lambda X: ((X - 0.5) ** 2).sum(1), 30)
        model = bowl_model(2, 10)
        lengths = [search.advance(0, model).length]
        for k in range(12):
            self.tell(context, np.array([0.5, 0.4 + 0.005 * k]), -1.0 - k)
            lengths.append(search.advance(0, model).length)
        assert lengths[0] == lengths[8]
        assert lengths[-1] == 2 * lengths[0]

    def test_it_waits_for_as_many_results_as_are_outstanding(self) -> None:
        search, context, _ = self.search(lambda X: ((X - 0.5) ** 2).sum(1), 30)
        model = bowl_model(2, 10)
        first = search.advance(49, model)
        for k in range(48):
            self.tell(context, np.array([0.9, 0.1 + 0.01 * k]), 5.0)
        assert search.advance(49, model).length == first.length
        self.tell(context, np.array([0.91, 0.1]), 5.0)
        assert search.advance(49, model).length < first.length

    def test_a_spent_region_closes_and_another_opens_away_from_it(self) -> None:
        search, context, _ = self.search(lambda X: ((X - 0.5) ** 2).sum(1), 30)
        model = bowl_model(2, 10)
        home = search.advance(0, model)
        rng = stream(6, "tells")
        for _ in range(20):
            for x in rng.random((4, 2)):
                self.tell(context, x, 5.0)
            region = search.advance(0, model)
            if region.n_closed:
                break
        assert region.n_closed == 1
        assert np.array_equal(region.closed, home.centre[None])
        assert np.abs(region.centre - home.centre).max() > gp_region.CLOSED_RADIUS

    def test_it_survives_being_stored(self) -> None:
        search, _, _ = self.search(lambda X: X.sum(1), 30)
        region = search.advance(0, bowl_model(2, 10))
        again = Region.read(region.scalars(), region.arrays())
        assert again is not None
        assert again.scalars() == region.scalars()
        for name, array in region.arrays().items():
            assert np.array_equal(again.arrays()[name], array)

    @pytest.mark.parametrize("scale", [0.0, 1e-300, 1e300])
    def test_values_of_any_size_are_judged(self, scale: float) -> None:
        search, context, _ = self.search(lambda X: scale * X.sum(1), 30)
        model = bowl_model(2, 10)
        search.advance(0, model)
        for k in range(40):
            self.tell(context, np.array([0.9, 0.1 + 0.01 * k]), scale)
            assert np.isfinite(search.advance(0, model).best)


def run(
    problem: Problem,
    evaluate: Callable[[Mapping[str, ParamValue]], float | dict[str, float]],
    batches: list[int],
) -> Optimizer:
    optimizer = Optimizer(problem, FAST, seed=3)
    for n in batches:
        trials = optimizer.ask(n)
        assert len(trials) == n
        assert len({str(sorted(trial.parameters.items())) for trial in trials}) == n
        for trial in trials:
            assert not problem.space.check(trial.parameters)
            assert not trial.provenance.degraded_from
            optimizer.tell(trial, evaluate(trial.parameters))
    return optimizer


def is_regional(reason: str) -> bool:
    return reason.startswith("trust region")


class TestStudies:
    def test_the_points_after_the_first_ones_come_from_the_region(self) -> None:
        optimizer = run(Problem(cube(2), MINIMISED), lambda p: float(p["x0"]), [20, 20])
        reasons = [trial.provenance.reason for trial in optimizer.trials.values()][20:]
        assert [is_regional(reason) for reason in reasons] == [False] * N_GREEDY + [True] * 4

    def test_asked_one_by_one_they_come_from_it_while_many_are_outstanding(self) -> None:
        optimizer = run(Problem(cube(2), MINIMISED), lambda p: float(p["x0"]), [24])
        asked = [optimizer.ask()[0] for _ in range(N_GREEDY + 3)]
        assert [is_regional(t.provenance.reason) for t in asked[-4:]] == [
            False,
            True,
            True,
            True,
        ]
        assert len({str(sorted(t.parameters.items())) for t in asked}) == len(asked)

    def test_the_first_points_do_not_depend_on_how_many_are_asked_for(self) -> None:
        problem = Problem(cube(2), MINIMISED)
        few = run(problem, lambda p: float(p["x0"]), [24]).suggest(18).suggestions
        many = run(problem, lambda p: float(p["x0"]), [24]).suggest(30).suggestions
        assert [s.parameters for s in few] == [s.parameters for s in many[:18]]

    def test_wide_batches_replay(self) -> None:
        problem = Problem(cube(2), MINIMISED)
        optimizer = run(problem, lambda p: (float(p["x0"]) - 0.3) ** 2, [20, 18, 18])
        assert not replay(problem, FAST, 3, list(optimizer.log.events()))

    @pytest.mark.parametrize(
        ("more", "constraints"),
        [
            ((Categorical("c", ("a", "b")), Int("k", 1, 9)), ()),
            ((Float("y", 0.0, 1.0),), (Linear({"x": 1.0, "y": 1.0}, upper=1.0),)),
        ],
    )
    def test_mixed_and_constrained_spaces_work(
        self, more: tuple[Parameter, ...], constraints: tuple[Linear, ...]
    ) -> None:
        space = Space((Float("x", 0.0, 1.0), *more), constraints)
        run(Problem(space, MINIMISED), lambda p: float(p["x"]), [20, 20])

    def test_points_at_the_border_of_a_measured_constraint_often_keep_it(self) -> None:
        problem = Problem(cube(2), (*MINIMISED, Metric.parse("c <= 0")))

        def evaluate(p: Mapping[str, ParamValue]) -> dict[str, float]:
            a, b = float(p["x0"]), float(p["x1"])
            return {"loss": a + b, "c": 1.1 - a - b}

        optimizer = run(problem, evaluate, [20, 40])
        late = [t for t in optimizer.trials.values() if is_regional(t.provenance.reason)]
        kept = [evaluate(trial.parameters)["c"] <= 0.0 for trial in late]
        assert len(late) == 24
        assert np.mean(kept) > 0.25
