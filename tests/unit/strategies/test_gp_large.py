"""The default strategy above 1000 results: chosen rows, all results in view, bounded work."""

import numpy as np
import pytest
import torch

from bbopt import Categorical, Float, Metric, MetricKind, Noise, Optimizer, Problem, Space
from bbopt.gp import GPModel, Hyperparameters
from bbopt.numerics import stream
from bbopt.problem import Goal
from bbopt.problems import hartmann6
from bbopt.space import Codec
from bbopt.specs import GPSpec, Quality
from bbopt.strategies import StrategyContext, gp_rows
from bbopt.strategies.gp_rows import choose_rows
from bbopt.strategies.gp_settings import ModelChoices
from bbopt.strategies.gp_surrogates import Surrogates
from bbopt.strategies.strategy import Array
from bbopt.trial import (
    Completed,
    Enqueued,
    Event,
    Infeasible,
    Measurement,
    NewTrial,
    Outcome,
    Provenance,
    Told,
    Value,
)
from bbopt.trial.columns import Columns

FAST = GPSpec(n_initial=4, quality=Quality.FAST)


def measured(**values: float) -> Completed:
    return Completed(Measurement({name: Value(value) for name, value in values.items()}))


def log_of(codec: Codec, X: Array, outcomes: list[Outcome]) -> list[Event]:
    events: list[Event] = []
    for number, (x, outcome) in enumerate(zip(X, outcomes, strict=True), 1):
        trial = NewTrial(number, codec.decode(x), Provenance("enqueued"))
        events += [Enqueued(trial), Told(number, outcome)]
    return events


def box(d: int) -> Problem:
    space = Space(tuple(Float(f"x{i}", 0.0, 1.0) for i in range(d)))
    return Problem(space, (Metric("loss", goal=Goal.MINIMIZE),))


def bowls(problem: Problem, n: int) -> tuple[Codec, list[Event]]:
    codec = Codec(problem.space)
    X = codec.sample(stream(n, "bowls"), n)
    return codec, log_of(codec, X, [measured(loss=float(v)) for v in ((X - 0.3) ** 2).sum(1)])


class TestChosenRows:
    def test_they_hold_the_best_and_depend_on_data_and_seed_alone(self) -> None:
        problem = box(3)
        codec, events = bowls(problem, 600)
        columns = Columns(problem, codec, events)
        context = StrategyContext(problem, codec, columns, 1, "cpu")
        rows = choose_rows(context, 500, n_near=70, n_anywhere=30)
        assert len(set(rows)) == 100
        assert rows.max() < 500
        distance = ((columns.X[:500] - columns.X[columns.Y[:500, 0].argmax()]) ** 2).sum(1)
        nearest = np.argsort(distance)[:5]
        assert set(nearest) <= set(rows)
        np.testing.assert_array_equal(rows, choose_rows(context, 500, n_near=70, n_anywhere=30))

    def test_a_study_without_one_feasible_point_has_some_too(self) -> None:
        problem = box(2)
        codec = Codec(problem.space)
        X = codec.sample(stream(1, "crashes"), 60)
        columns = Columns(problem, codec, log_of(codec, X, [Infeasible("crash")] * 60))
        context = StrategyContext(problem, codec, columns, 1, "cpu")
        assert len(choose_rows(context, 60, n_near=20, n_anywhere=10)) == 30


class TestBoundedWork:
    @pytest.fixture(autouse=True)
    def small_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        limits = {"MAX_EXACT": 60, "N_NEAR": 30, "N_ANYWHERE": 10}
        limits |= {"RENEW_EVERY": 10, "MAX_JOINED": 20}
        for name, limit in limits.items():
            monkeypatch.setattr(gp_rows, name, limit)

    def test_many_tells_without_an_ask_do_not_grow_the_model(self) -> None:
        _, events = bowls(box(2), 400)
        study = Optimizer(box(2), FAST, seed=1)
        study.fold(events[:140])
        study.ask()
        study.fold(
            Told(e.number + 1, e.outcome)
            if isinstance(e, Told)
            else Enqueued(NewTrial(e.trial.number + 1, e.trial.parameters, e.trial.provenance))
            for e in events[140:]
            if isinstance(e, Told | Enqueued)
        )
        predicted = study.predict([{"x0": 0.3, "x1": 0.3}])[0].metrics["loss"]
        assert predicted.mean == pytest.approx(0.0, abs=0.02)
        surrogates = study._strategy._surrogates  # type: ignore[attr-defined]
        assert len(surrogates.rows("objective")) == 40

    def test_recommend_looks_at_the_model_s_rows_only(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, events = bowls(box(2), 300)
        study = Optimizer(box(2), FAST, seed=1)
        study.fold(events)
        study.ask()
        sizes: list[int] = []
        predict = GPModel.predict

        def counted(self: GPModel, X: Array) -> object:
            sizes.append(len(X))
            return predict(self, X)

        monkeypatch.setattr(GPModel, "predict", counted)
        recommended = study.recommend()
        assert recommended is not None
        loss = sum((float(v) - 0.3) ** 2 for v in recommended.parameters.values())
        assert loss < 0.01
        assert max(sizes) <= 40

    def test_pending_points_are_kept_away_from(self) -> None:
        _, events = bowls(box(2), 200)
        study = Optimizer(box(2), FAST, seed=1)
        study.fold(events)
        points = np.array([list(t.parameters.values()) for t in study.ask(3)], dtype=float)
        gaps = [np.abs(points[i] - points[j]).max() for i in range(3) for j in range(i)]
        # The optimum is known to some 1e-4; a point that is only not a duplicate is 1e-6 away.
        assert min(gaps) > 5e-6


@pytest.mark.slow
def test_a_large_study_with_constraints_categories_and_crashes_is_searched() -> None:
    space = Space(
        (Categorical("kind", ("a", "b", "c")), Float("x", 0.0, 1.0), Float("y", 0.0, 1.0))
    )
    metrics = (
        Metric("loss", goal=Goal.MINIMIZE),
        Metric("load", MetricKind.CONSTRAINT, upper=0.5),
    )
    problem = Problem(space, metrics)
    codec = Codec(space)

    def evaluate(point: dict[str, object]) -> Outcome:
        x, y = float(str(point["x"])), float(str(point["y"]))
        if x + y > 1.6:
            return Infeasible("crash")
        shift = {"a": 0.0, "b": 0.4, "c": 0.8}[str(point["kind"])]
        return measured(loss=(x - 0.6) ** 2 + (y - 0.6) ** 2 + shift, load=x - 0.1)

    X = codec.sample(stream(4, "large"), 3000)
    events = log_of(codec, X, [evaluate(dict(codec.decode(x))) for x in X])
    study, twin = (Optimizer(problem, FAST, seed=3) for _ in range(2))
    study.fold(events)
    for _ in range(4):
        (trial,) = study.ask()
        study.tell(trial, evaluate(dict(trial.parameters)))
    assert trial.provenance.generator == "gp"
    assert trial.provenance.degraded_from == ""
    assert trial.parameters["kind"] == "a"
    assert abs(float(trial.parameters["x"]) - 0.6) < 0.02
    assert abs(float(trial.parameters["y"]) - 0.6) < 0.1
    surrogates = study._strategy._surrogates  # type: ignore[attr-defined]
    assert all(len(surrogates.rows(each.name)) <= 1200 for each in surrogates.outputs)
    twin.fold(study.log.events())
    assert twin.suggest(1).suggestions == study.suggest(1).suggestions


@pytest.mark.slow
def test_the_model_of_a_large_study_is_nearly_as_good_as_the_exact_one() -> None:
    known = hartmann6(Noise.LEARNED)
    codec, optimum, n = Codec(known.problem.space), known.optimizer, 2000
    rng = stream(5, "quality")
    center = codec.encode(optimum)

    def near(k: int) -> Array:
        return np.clip(center + 0.1 * rng.standard_normal((k, codec.dim)), 0.0, 1.0)

    def function(X: Array) -> Array:
        return np.array([known.evaluate(codec.decode(x))["value"] for x in X])

    X = rng.permutation(np.concatenate([rng.random((n - 600, codec.dim)), near(600)]))
    y = function(X) + 0.02 * rng.standard_normal(n)
    columns = Columns(
        known.problem, codec, log_of(codec, X, [measured(value=float(v)) for v in y])
    )
    context = StrategyContext(known.problem, codec, columns, 1, "cpu")
    surrogates = Surrogates(context, ModelChoices(), torch.device("cpu"))
    model = surrogates.refit()[0]["objective"]
    assert model.n == 1000
    exact = GPModel.restored(
        codec.columns,
        columns.X,
        columns.Y[:, 0],
        hyperparameters=Hyperparameters(model.hyperparameters.theta, n),
        settings=model.settings,
    )

    def scores(of: GPModel, points: Array) -> tuple[float, float]:
        prediction, unit = of.predict(points), y.std()
        error, sd = (prediction.mean + function(points)) / unit, prediction.sd / unit
        density = 0.5 * (error / sd) ** 2 + np.log(sd)
        return float(np.sqrt((error**2).mean())), float(density.mean())

    for points, factor in ((near(500), 2.0), (rng.random((500, codec.dim)), 3.0)):
        (rmse, density), (exact_rmse, exact_density) = (
            scores(model, points),
            scores(exact, points),
        )
        assert rmse < factor * exact_rmse
        assert density < exact_density + 1.0
