"""The default strategy: when it models, what it avoids, and what it does when things break."""

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor

from bbopt import (
    Categorical,
    Equals,
    Float,
    Int,
    Metric,
    MetricKind,
    Noise,
    Optimizer,
    Problem,
    Space,
)
from bbopt.acquisition import LogExpectedImprovement
from bbopt.errors import NumericalError
from bbopt.gp import GPModel, WarpKind
from bbopt.problem import Goal
from bbopt.search import maximise_batch
from bbopt.space import Between, Linear, Scale
from bbopt.specs import GPSpec, Quality
from bbopt.strategies import gp_goal, gp_rows, gp_search, gp_surrogates
from bbopt.strategies.pace import Effort, Pace
from bbopt.trial import Infeasible, Stopped, Trial
from bbopt.trial.trial import Measurement, Value

SHORT = GPSpec(n_initial=4)


def box(d: int = 2, noise: Noise = Noise.LEARNED, **defaults: float) -> Problem:
    space = Space(
        tuple(Float(f"x{i}", 0.0, 1.0, default=defaults.get(f"x{i}")) for i in range(d))
    )
    return Problem(space, (Metric("loss", goal=Goal.MINIMIZE, noise=noise),))


def bowl(trial: Trial) -> float:
    return sum((float(v) - 0.3) ** 2 for v in trial.parameters.values())


def run(study: Optimizer, n: int, value: Callable[[Trial], object] = bowl) -> list[Trial]:
    trials = []
    for _ in range(n):
        (trial,) = study.ask()
        study.tell(trial, value(trial))  # type: ignore[arg-type]
        trials.append(trial)
    return trials


def generators(trials: list[Trial]) -> list[str]:
    return [trial.provenance.generator for trial in trials]


class TestInitialDesign:
    @pytest.mark.parametrize(("d", "n"), [(1, 5), (3, 5), (4, 10), (6, 10)])
    def test_its_size_grows_with_the_dimension(self, d: int, n: int) -> None:
        trials = run(Optimizer(box(d), "gp", seed=1), n + 2)
        assert generators(trials) == ["center"] + ["sobol"] * (n - 1) + ["gp"] * 2

    def test_it_sees_every_branch_of_a_conditional_space_several_times(self) -> None:
        branches = tuple("abcd")
        children = (Float(n, 0.0, 1.0, active_if=Equals("model", (n,))) for n in branches)
        space = Space((Categorical("model", branches), *children))
        problem = Problem(space, (Metric("loss", goal=Goal.MINIMIZE),))
        trials = run(Optimizer(problem, "gp", seed=1), 17, lambda _: 1.0)
        assert generators(trials) == ["center"] + ["sobol"] * 15 + ["gp"]
        seen = Counter(trial.parameters["model"] for trial in trials[:16])
        assert min(seen[branch] for branch in branches) >= 2

    def test_the_defaults_of_the_space_come_first(self) -> None:
        study = Optimizer(box(2, x0=0.25, x1=0.5), SHORT)
        trials = run(study, 5)
        assert trials[0].parameters == {"x0": 0.25, "x1": 0.5}
        assert generators(trials) == ["default", "sobol", "sobol", "sobol", "gp"]

    def test_defaults_come_as_they_were_written_with_all_that_hangs_on_them(self) -> None:
        rate = Float("rate", 1e-5, 1.0, scale=Scale.LOG, default=1e-3)
        child = Float("decay", 0.0, 0.9, default=0.3, active_if=Between("rate", 1e-3, 1.0))
        problem = Problem(Space((rate, child)), (Metric("loss", goal=Goal.MINIMIZE),))
        (trial,) = Optimizer(problem, SHORT).ask()
        assert trial.parameters == {"rate": 1e-3, "decay": 0.3}

    def test_defaults_that_somebody_enqueued_are_not_tried_twice(self) -> None:
        study = Optimizer(box(2, x0=0.25, x1=0.5), SHORT)
        study.enqueue({"x0": 0.25, "x1": 0.5})
        assert generators(run(study, 2)) == ["enqueued", "sobol"]

    def test_partial_defaults_are_no_point(self) -> None:
        (trial,) = run(Optimizer(box(2, x0=0.25), SHORT), 1)
        assert trial.parameters == {"x0": 0.5, "x1": 0.5}
        assert generators([trial]) == ["center"]

    def test_a_middle_that_is_not_feasible_is_left_out(self) -> None:
        reals = (Float("x0", 0.0, 1.0), Float("x1", 0.0, 1.0))
        space = Space(reals, constraints=(Linear({"x0": 1.0, "x1": 1.0}, upper=0.5),))
        problem = Problem(space, (Metric("loss", goal=Goal.MINIMIZE),))
        assert generators(run(Optimizer(problem, SHORT), 1)) == ["sobol"]

    def test_the_first_batch_does_not_repeat_the_middle(self) -> None:
        problem = Problem(Space((Int("n", 1, 3),)), (Metric("loss", goal=Goal.MINIMIZE),))
        trials = Optimizer(problem, SHORT).ask(3)
        assert sorted(t.parameters["n"] for t in trials) == [1, 2, 3]

    def test_results_from_elsewhere_count_towards_it(self) -> None:
        study = Optimizer(box(2), SHORT)
        for x in (0.1, 0.5, 0.7, 0.9):
            study.enqueue({"x0": x, "x1": 1.0 - x})
        run(study, 4)
        assert generators(run(study, 1)) == ["gp"]

    def test_without_results_a_large_first_batch_is_quasi_random(self) -> None:
        trials = Optimizer(box(2), SHORT).ask(12)
        assert generators(trials) == ["center"] + ["sobol"] * 11
        assert len({tuple(t.parameters.values()) for t in trials}) == 12


class TestSearch:
    @pytest.mark.parametrize("quality", list(Quality))
    def test_it_finds_the_bottom_of_a_bowl(self, quality: Quality) -> None:
        study = Optimizer(box(3), GPSpec(quality=quality), seed=2)
        run(study, 15)
        best = study.best()
        assert best is not None
        assert bowl(best) < 5e-3

    def test_a_batch_spreads(self) -> None:
        study = Optimizer(box(2), SHORT, seed=3)
        run(study, 5, lambda trial: math.sin(9.0 * float(trial.parameters["x0"])))
        batch = np.array([list(t.parameters.values()) for t in study.ask(5)], dtype=float)
        distances = np.abs(batch[:, None] - batch[None]).max(axis=2) + np.eye(5)
        assert distances.min() > 1e-3

    @pytest.mark.parametrize(("edge", "loss"), [(0.2, 1e-3), (0.5, 0.056)])
    def test_the_best_point_that_does_not_crash_is_found(
        self, edge: float, loss: float
    ) -> None:
        def value(trial: Trial) -> object:
            return Infeasible() if float(trial.parameters["x0"]) < edge else bowl(trial)

        study = Optimizer(box(2), "gp", seed=4)
        trials = run(study, 20, value)
        best = study.best()
        assert best is not None
        assert bowl(best) < loss
        n_crashed = sum(float(t.parameters["x0"]) < edge for t in trials[5:])
        assert n_crashed <= (2 if edge == 0.2 else 10)

    def test_a_first_feasible_point_is_found_where_it_is_rare(self) -> None:
        metrics = (
            Metric("loss", goal=Goal.MINIMIZE),
            Metric("size", MetricKind.CONSTRAINT, upper=0.1),
        )
        study = Optimizer(Problem(box(2).space, metrics), SHORT, seed=5)

        def value(trial: Trial) -> object:
            x, y = (float(v) for v in trial.parameters.values())
            return {"loss": x + y, "size": math.hypot(x - 0.83, y - 0.22)}

        run(study, 15, value)
        assert study.best() is not None
        batch = study.ask(3)
        assert len({tuple(t.parameters.values()) for t in batch}) == 3

    def test_reported_noise_is_believed(self) -> None:
        study = Optimizer(box(1, Noise.REPORTED), SHORT, seed=6)
        for x, loss, sd in (
            (0.2, 1.0, 0.01),
            (0.5, -3.0, 5.0),
            (0.8, 0.0, 0.01),
            (0.9, 0.1, 0.01),
        ):
            study.enqueue({"x0": x})
            study.tell(study.ask()[0], {"loss": (loss, sd)})
        recommended = study.recommend()
        assert recommended is not None
        assert recommended.parameters["x0"] != 0.5

    def test_a_partial_result_of_a_stopped_trial_is_used(self) -> None:
        study = Optimizer(box(2), SHORT, seed=7)
        for _ in range(6):
            trial = study.ask()[0]
            study.tell(trial, Stopped(Measurement({"loss": Value(bowl(trial))})))
        assert study.ask()[0].provenance.generator == "gp"

    @pytest.mark.parametrize("noise", [Noise.LEARNED, Noise.REPORTED])
    def test_noise_that_is_seen_changes_the_model_and_what_is_wanted(
        self, monkeypatch: pytest.MonkeyPatch, noise: Noise
    ) -> None:
        """Bad values stay on their scale, improvements are augmented, a rebuild goes on."""
        augmented = []

        def spy(model: GPModel, best: Tensor, *, is_augmented: bool) -> LogExpectedImprovement:
            augmented.append((model.settings.warp, is_augmented))
            return LogExpectedImprovement(model, best, is_augmented=is_augmented)

        monkeypatch.setattr(gp_goal, "LogExpectedImprovement", spy)
        errors = np.random.default_rng(5)

        def measure(trial: Trial, sd: float) -> dict[str, tuple[float, float] | float]:
            value = bowl(trial) + sd * float(errors.standard_normal())
            return {"loss": (value, sd) if noise is Noise.REPORTED else value}

        study, twin = (Optimizer(box(2, noise), SHORT, seed=6) for _ in range(2))
        run(study, 20, lambda trial: measure(trial, 0.1))
        assert augmented[-1] == (WarpKind.STANDARDISE, True)
        twin.fold(study.log.events())
        assert twin.suggest(1).suggestions == study.suggest(1).suggestions
        augmented.clear()
        run(Optimizer(box(2, noise), SHORT, seed=6), 20, lambda trial: measure(trial, 0.0))
        assert set(augmented) == {(WarpKind.HALF_RANK, False)}

    def test_one_uncertain_value_does_not_make_an_objective_noisy(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        models = []

        def spy(model: GPModel, best: Tensor, *, is_augmented: bool) -> LogExpectedImprovement:
            models.append(model.settings.warp)
            return LogExpectedImprovement(model, best, is_augmented=is_augmented)

        monkeypatch.setattr(gp_goal, "LogExpectedImprovement", spy)
        study = Optimizer(box(2, Noise.REPORTED), SHORT, seed=6)
        run(study, 12, lambda t: {"loss": (bowl(t), 5.0 if t.number == 3 else 1e-4)})
        assert set(models) == {WarpKind.HALF_RANK}

    def test_noise_that_is_seen_lets_a_discrete_point_be_measured_again(self) -> None:
        problem = Problem(Space((Int("n", 1, 8),)), (Metric("y", goal=Goal.MAXIMIZE),))
        study = Optimizer(problem, SHORT, seed=8)
        rng = np.random.default_rng(0)

        def value(trial: Trial) -> float:
            return -abs(float(trial.parameters["n"]) - 3.0) + float(rng.normal())

        trials = run(study, 30, value)
        counts = np.bincount([int(t.parameters["n"]) for t in trials], minlength=9)
        assert counts[2:5].sum() > 15

    @pytest.mark.parametrize(("noise", "is_over"), [(Noise.LEARNED, False), (Noise.NONE, True)])
    def test_a_space_whose_points_are_all_under_way_is_exhausted_only_without_noise(
        self, noise: Noise, is_over: bool
    ) -> None:
        metric = Metric("loss", goal=Goal.MINIMIZE, noise=noise)
        study = Optimizer(Problem(Space((Int("n", 1, 5),)), (metric,)), SHORT, seed=1)
        run(study, 4, lambda trial: (float(trial.parameters["n"]) - 2.2) ** 2)
        trials = study.ask(12)
        assert len(trials) == (1 if is_over else 5)

        answer = study.suggest(1)
        assert (answer.suggestions, answer.space_exhausted) == ((), is_over)

        for trial in trials:
            study.tell(trial, 1.0)
        assert len(study.suggest(1).suggestions) == (0 if is_over else 1)


class TestLadder:
    def test_a_failed_fit_still_answers_and_says_so(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise NumericalError("no luck")

        study = Optimizer(box(2), SHORT, seed=9)
        run(study, 6)
        monkeypatch.setattr(GPModel, "refit", fail)
        provenance = study.ask()[0].provenance
        assert provenance.generator == "gp"
        assert provenance.degraded_from == "gp"
        assert "no luck" in provenance.reason

    def test_a_failed_search_falls_back_to_the_prior(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []
        search = maximise_batch

        def fail_once(*arguments: object, **options: object) -> object:
            calls.append(1)
            if len(calls) == 1:
                raise NumericalError("not positive definite")
            return search(*arguments, **options)  # type: ignore[arg-type]

        study = Optimizer(box(2), SHORT, seed=10)
        run(study, 6, lambda trial: math.sin(9.0 * float(trial.parameters["x0"])))
        monkeypatch.setattr(gp_search, "maximise_batch", fail_once)
        provenance = study.ask()[0].provenance
        assert (provenance.generator, provenance.degraded_from) == ("gp", "gp")
        assert "prior-mode hyperparameters: not positive definite" in provenance.reason

    def test_a_model_that_never_works_leaves_quasi_random_points(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> object:
            raise NumericalError("broken")

        study = Optimizer(box(2), SHORT, seed=11)
        run(study, 6)
        monkeypatch.setattr(gp_search, "maximise_batch", fail)
        trials = study.ask(3)
        assert generators(trials) == ["sobol"] * 3
        assert all(t.provenance.degraded_from == "gp" for t in trials)
        monkeypatch.undo()
        assert study.ask()[0].provenance.degraded_from == ""


class TestDeadlines:
    def test_no_time_means_no_model(self) -> None:
        study = Optimizer(box(2), SHORT, seed=12)
        run(study, 6)
        (suggestion,) = study.suggest(1, time_left_s=0.0).suggestions
        assert suggestion.provenance.generator == "sobol"
        assert suggestion.provenance.degraded_from == "gp"

    def test_a_little_time_means_no_refit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        study = Optimizer(box(2), SHORT, seed=13)
        run(study, 6)
        monkeypatch.setattr(Pace, "effort", lambda *_, **__: Effort.SHORT)
        before = dict(study._strategy._surrogates.saved)  # type: ignore[attr-defined]
        (suggestion,) = study.suggest(1, time_left_s=0.02).suggestions
        assert suggestion.provenance.generator == "gp"
        assert "no refit" in suggestion.provenance.reason
        assert study._strategy._surrogates.saved == before  # type: ignore[attr-defined]

    def test_plenty_of_time_changes_nothing(self) -> None:
        study = Optimizer(box(2), SHORT, seed=14)
        run(study, 6)
        unhurried = study.suggest(1).suggestions
        assert study.suggest(1, time_left_s=1e6).suggestions == unhurried


class TestManyResults:
    def test_a_large_study_stands_on_a_subset_and_survives_a_rebuild(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gp_rows, "MAX_EXACT", 40)
        monkeypatch.setattr(gp_rows, "N_NEAR", 20)
        monkeypatch.setattr(gp_rows, "N_ANYWHERE", 10)
        monkeypatch.setattr(gp_rows, "RENEW_EVERY", 6)
        study = Optimizer(box(2), SHORT, seed=15)
        for trial in study.ask(38):
            study.tell(trial, bowl(trial))
        for _ in range(12):
            run(study, 1)
            rebuilt = Optimizer(box(2), SHORT, seed=15)
            rebuilt.fold(study.log.events())
            assert study.suggest(1).suggestions == rebuilt.suggest(1).suggestions
        surrogates = study._strategy._surrogates  # type: ignore[attr-defined]
        assert 30 <= len(surrogates.rows("objective")) <= 36
        best = study.best()
        assert best is not None
        assert bowl(best) < 1e-3


def test_fits_start_cold_with_every_doubling_even_if_the_count_jumps() -> None:
    schedule = gp_surrogates.DoublingSchedule(cold_every=10)
    due = [n for n in range(1, 200) if schedule.is_cold_due(n, n - 1)]
    assert due == [1, 10, 20, 40, 80, 160]
    assert schedule.is_cold_due(45, 37)
    assert not schedule.is_cold_due(79, 41)
