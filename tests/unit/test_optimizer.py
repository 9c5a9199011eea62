"""The ask-tell object: its verbs, its log, and what it adopts from the log."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import NoReturn

import numpy as np
import pytest
import torch

from bbopt import (
    Budget,
    Fixed,
    Float,
    Int,
    Metric,
    MetricKind,
    Noise,
    Optimizer,
    Problem,
    Space,
)
from bbopt.errors import (
    InvalidError,
    NotFoundError,
    PreconditionError,
    SpecError,
    TrialFinishedError,
    UnsupportedError,
)
from bbopt.problem import Goal
from bbopt.specs import GPSpec, RandomSpec, SobolSpec
from bbopt.trial import (
    Asked,
    Completed,
    Failed,
    Infeasible,
    Leased,
    Measurement,
    NewTrial,
    Provenance,
    Requeued,
    Told,
    TrialState,
    Value,
)

SPACE = Space((Float("x", 0.0, 1.0), Int("n", 1, 9), Fixed("tag", "a")))


def problem(**options: object) -> Problem:
    return Problem.of(SPACE, "-loss", **options)  # type: ignore[arg-type]


def _pickled(study: Optimizer) -> Optimizer:
    copied = pickle.loads(pickle.dumps(study))  # noqa: S301 - our own bytes
    assert isinstance(copied, Optimizer)
    return copied


def optimizer(strategy: object = "sobol", **options: object) -> Optimizer:
    return Optimizer(problem(**options), strategy, seed=1)


class TestAskingAndTelling:
    def test_trials_are_numbered_from_one_and_carry_fixed_parameters(self) -> None:
        trials = optimizer().ask(3)
        assert [trial.number for trial in trials] == [1, 2, 3]
        assert all(trial.parameters["tag"] == "a" for trial in trials)
        assert all(trial.state is TrialState.ACTIVE for trial in trials)

    @pytest.mark.parametrize(
        "told",
        [
            0.5,
            np.float32(0.5),
            {"loss": 0.5},
            {"loss": (0.5, 0.1)},
            {"loss": Value(0.5)},
            Completed(Measurement({"loss": Value(0.5)})),
        ],
    )
    def test_a_result_may_be_written_in_several_ways(self, told: object) -> None:
        study = optimizer()
        trial = study.ask()[0]
        study.tell(trial, told)  # type: ignore[arg-type]
        outcome = study.trials[1].outcome
        assert isinstance(outcome, Completed)
        assert outcome.measurement.metrics["loss"].value == 0.5

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_value_that_is_not_finite_makes_its_point_infeasible(self, value: float) -> None:
        study = optimizer()
        study.tell(study.ask()[0], value)
        assert study.trials[1].state is TrialState.INFEASIBLE
        assert study.best() is None

    @pytest.mark.parametrize(
        "told",
        [
            {},
            {"los": 1.0},
            {"loss": "1.0"},
            {"loss": None},
            {"loss": (1.0, -1.0)},
            {"loss": [0.31, 0.29]},
            {"loss": True},
            {"loss": 10**400},
        ],
    )
    def test_a_wrong_result_is_refused_and_changes_nothing(self, told: object) -> None:
        study = optimizer()
        trial = study.ask()[0]
        revision = study.revision
        with pytest.raises(InvalidError, match="metrics"):
            study.tell(trial, told)  # type: ignore[arg-type]
        assert study.revision == revision

    def test_a_bare_number_needs_a_single_metric(self) -> None:
        study = optimizer(constraints=["size <= 3"])
        with pytest.raises(InvalidError, match="one metric"):
            study.tell(study.ask()[0], 1.0)

    def test_what_is_no_trial_is_said(self) -> None:
        with pytest.raises(TypeError, match="a Trial or its number"):
            optimizer().tell({"x": 0.5}, 1.0)  # type: ignore[arg-type]

    @pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, _pickled])
    def test_a_copy_goes_on_like_the_original(
        self, again: Callable[[Optimizer], Optimizer]
    ) -> None:
        study = optimizer("gp")
        for trial in study.ask(6):
            study.tell(trial, float(trial.number))
        study.tell(study.ask()[0], 0.0)
        twin = again(study)
        assert twin.ask(2) == study.ask(2)
        twin.tell(8, 0.0)
        assert study.trials[8].outcome is None

    def test_an_unknown_trial_is_not_found(self) -> None:
        with pytest.raises(NotFoundError):
            optimizer().tell(1, 0.0)

    def test_a_trial_of_another_optimizer_is_refused(self) -> None:
        mine, other = optimizer("sobol"), optimizer("random")
        mine.ask(3)
        theirs = other.ask(3)[2]
        with pytest.raises(InvalidError, match="not of this optimizer"):
            mine.tell(theirs, 1.0)
        assert mine.trials[3].outcome is None

    def test_a_second_result_is_refused_unless_it_is_the_same(self) -> None:
        study = optimizer()
        trial = study.ask()[0]
        study.tell(trial, 1.0)
        study.tell(trial.number, {"loss": 1.0})
        with pytest.raises(TrialFinishedError, match="amend"):
            study.tell(trial, 2.0)

    def test_an_amended_result_replaces_the_first(self) -> None:
        study = optimizer()
        for value, trial in enumerate(study.ask(2)):
            study.tell(trial, float(value))
        study.amend(2, -1.0, "units were wrong")
        best = study.best()
        assert best is not None
        assert best.number == 2

    def test_an_open_trial_cannot_be_amended(self) -> None:
        study = optimizer()
        study.ask()
        with pytest.raises(InvalidError, match="no result"):
            study.amend(1, 0.0)

    def test_an_enqueued_point_is_handed_out_first(self) -> None:
        study = optimizer()
        queued = study.enqueue({"x": 0.25, "n": 3})
        assert queued.state is TrialState.QUEUED
        first, second = study.ask(2)
        assert first.number == queued.number
        assert first.parameters == {"x": 0.25, "n": 3, "tag": "a"}
        assert second.provenance.generator == "sobol"

    def test_a_point_outside_the_space_is_not_enqueued(self) -> None:
        with pytest.raises(InvalidError, match="parameters"):
            optimizer().enqueue({"x": 2.0, "n": 3})

    @pytest.mark.parametrize(
        ("n", "fault"),
        [
            (0, "n: must be at least 1, not 0"),
            (1.5, "n: must be a whole number at least 1, not 1.5"),
            ("3", "n: must be a whole number at least 1, not '3'"),
            (2**31, r"n: must be in \[1, 100000\], not 2147483648"),
        ],
    )
    def test_a_count_that_no_ask_takes_is_refused(self, n: object, fault: str) -> None:
        with pytest.raises(InvalidError, match=fault):
            optimizer().ask(n)  # type: ignore[arg-type]

    @pytest.mark.parametrize("step", [-1, 1.5, "1", 2**63])
    def test_a_step_that_is_none_is_refused(self, step: object) -> None:
        study = optimizer()
        (trial,) = study.ask()
        with pytest.raises(InvalidError, match="step: must be"):
            study.report(trial, step, {})  # type: ignore[arg-type]

    @pytest.mark.parametrize("strategy", ["sobol", "gp", "cma_es"])
    def test_an_ask_that_was_interrupted_leaves_no_trace(
        self, monkeypatch: pytest.MonkeyPatch, strategy: str
    ) -> None:
        def interrupt(_: object) -> NoReturn:
            raise KeyboardInterrupt

        study, twin = (optimizer(strategy) for _ in range(2))
        for _ in range(2):
            kind = type(study._settled())
            with monkeypatch.context() as patched:
                patched.setattr(kind, "state", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    study.ask(2)

            assert study.ask(2) == twin.ask(2)


class TestBudgets:
    def test_no_more_trials_are_handed_out_than_the_budget_allows(self) -> None:
        study = optimizer(budget=3)
        assert len(study.ask(5)) == 3
        study.tell(1, Failed())
        assert len(study.ask(5)) == 1
        assert study.ask() == []

    def test_nothing_is_handed_out_once_the_cost_is_spent(self) -> None:
        study = optimizer(cost="seconds", budget=Budget(cost=10.0))
        study.tell(study.ask()[0], {"loss": 1.0, "seconds": 6.0})
        study.tell(study.ask()[0], {"loss": 1.0, "seconds": 6.0})
        assert study.ask() == []


class TestIncumbents:
    def test_the_best_trial_follows_the_goal_of_the_user(self) -> None:
        for text, number in (("-loss", 1), ("loss", 2)):
            study = Optimizer(Problem.of(SPACE, text), "random")
            for value, trial in enumerate(study.ask(2)):
                study.tell(trial, {"loss": float(value)})
            best = study.best()
            assert best is not None
            assert best.number == number

    def test_an_infeasible_value_is_never_the_best(self) -> None:
        study = optimizer(constraints=["1 <= size <= 3"])
        for loss, size in ((1.0, 0.5), (2.0, 2.0), (0.0, 3.5)):
            study.tell(study.ask()[0], {"loss": loss, "size": size})
        assert study.best() == study.recommend() == study.trials[2]

    def test_a_noisy_recommendation_is_not_fooled_by_one_lucky_value(self) -> None:
        rng = np.random.default_rng(0)
        study = Optimizer(Problem.of(Space((Float("x", 0.0, 1.0),)), "y"), GPSpec(), seed=3)
        for x in np.linspace(0.0, 1.0, 40):
            study.enqueue({"x": float(x)})
            value = -((x - 0.7) ** 2) + 0.05 * rng.normal() + 0.25 * (abs(x - 0.2) < 0.01)
            study.tell(study.ask()[0], value)
        lucky, recommended = study.best(), study.recommend()
        assert lucky is not None
        assert recommended is not None
        assert abs(float(recommended.parameters["x"]) - 0.7) < 0.15


class TestPredictions:
    def test_predictions_are_in_the_units_of_the_user(self) -> None:
        metrics = (
            Metric("loss", goal=Goal.MINIMIZE),
            Metric("size", MetricKind.CONSTRAINT, lower=1.0, upper=5.0),
        )
        study = Optimizer(Problem(Space((Float("x", 0.0, 10.0),)), metrics), "gp", seed=0)
        for x in np.linspace(0.0, 10.0, 12):
            study.enqueue({"x": float(x)})
            study.tell(study.ask()[0], {"loss": 100.0 + 3.0 * x, "size": x})
        inside, outside = study.predict([{"x": 3.0}, {"x": 8.0}])
        assert inside.metrics["loss"].mean == pytest.approx(109.0, abs=0.5)
        assert outside.metrics["size"].mean == pytest.approx(8.0, abs=0.2)
        assert inside.probability_feasible > 0.95
        assert outside.probability_feasible < 0.05

    def test_suggestions_carry_what_the_model_expects(self) -> None:
        study = Optimizer(
            Problem.of(Space((Float("x", 0.0, 1.0),)), "-loss"), GPSpec(n_initial=4)
        )
        for _ in range(8):
            trial = study.ask()[0]
            study.tell(trial, (float(trial.parameters["x"]) - 0.3) ** 2 + 5.0)
        trial = study.ask()[0]
        expected = trial.provenance.predicted["loss"]
        actual = (float(trial.parameters["x"]) - 0.3) ** 2 + 5.0
        assert trial.provenance.generator == "gp"
        assert abs(expected.mean - actual) < max(5.0 * expected.sd, 0.01)

    def test_there_is_no_prediction_before_two_results(self) -> None:
        study = optimizer("gp")
        with pytest.raises(PreconditionError, match="no model"):
            study.predict([{"x": 0.5, "n": 1}])

    def test_a_point_outside_the_space_is_not_predicted(self) -> None:
        with pytest.raises(InvalidError):
            optimizer("gp").predict([{"x": 0.5}])


class TestFolding:
    def test_a_suggestion_is_adopted_only_when_it_is_folded(self) -> None:
        study, twin = optimizer(), optimizer()
        dropped = study.suggest(2)
        kept = study.suggest(2)
        assert dropped == kept
        stored = Asked(
            tuple(
                NewTrial(i, s.parameters, s.provenance)
                for i, s in enumerate(kept.suggestions, 1)
            ),
            kept.state,
        )
        study.fold([stored])
        twin.fold([stored])
        assert study.suggest(1) == twin.suggest(1) != kept

    @pytest.mark.parametrize("strategy", ["sobol", GPSpec(n_initial=2), "cma_es"])
    def test_a_study_that_rests_between_answer_and_commit_goes_on_unchanged(
        self, strategy: object
    ) -> None:
        study, twin = optimizer(strategy), optimizer(strategy)
        for _ in range(4):
            for trial in study.ask():
                study.tell(trial, trial.number / 7.0)
        events = study.log.events()
        for each, must_rest in ((study, True), (twin, False)):
            each.fold(events[each.revision :])
            answer = each.suggest(1)
            if must_rest:
                each.rest()
            (point,) = answer.suggestions
            each.fold([Asked((NewTrial(5, point.parameters, point.provenance),), answer.state)])
        assert study.trials[5] == twin.trials[5]
        one, other = study.suggest(1), twin.suggest(1)
        assert one.suggestions == other.suggestions
        assert one.state.equals(other.state)

    def test_a_log_without_history_suggests_the_same(self) -> None:
        study = optimizer(GPSpec(n_initial=2))
        for _ in range(4):
            for trial in study.ask():
                study.tell(trial, trial.number / 7.0)
        lean = Optimizer(problem(), study.spec, seed=1, keeps_history=False)
        lean.fold(study.log.events())
        assert lean.suggest(1).suggestions == study.suggest(1).suggestions
        states = [each.state for each in lean.log.events() if isinstance(each, Asked)]
        assert states == [None] * 4
        generators = [trial.provenance.generator for trial in study.trials.values()]
        assert [trial.provenance for trial in lean.trials.values()] == [
            Provenance(generator) for generator in generators
        ]

    def test_one_answer_may_be_stored_as_several_asks(self) -> None:
        study, twin = optimizer(), optimizer()
        answer = study.suggest(2)
        for number, suggestion in enumerate(answer.suggestions, 1):
            trial = NewTrial(number, suggestion.parameters, suggestion.provenance)
            study.fold([Asked((trial,), answer.state)])
        twin.ask(2)
        assert study.suggest(1).suggestions[0].parameters == (
            twin.suggest(1).suggestions[0].parameters
        )

    def test_an_ask_without_a_state_does_not_move_the_strategy(self) -> None:
        study, twin = optimizer(), optimizer()
        fallback = twin.suggest(1).suggestions[0]
        moved = NewTrial(1, {"x": 0.5, "n": 5, "tag": "a"}, fallback.provenance)
        study.fold([Asked((moved,), None)])
        assert study.suggest(1).suggestions[0].parameters == fallback.parameters

    def test_events_that_concern_only_the_service_count_in_the_revision(self) -> None:
        study = optimizer()
        study.fold([None, None])
        assert study.revision == 2
        assert study.suggest(1).suggestions[0].provenance.data_revision == 2
        assert len(study.log) == 0

    def test_a_requeued_trial_is_handed_out_again(self) -> None:
        study = optimizer()
        trial = study.ask()[0]
        study.fold([Requeued(trial.number, "preempted", 2)])
        again = study.ask()[0]
        assert (again.number, again.attempt) == (trial.number, 2)
        assert isinstance(study.log.events()[-1], Leased)

    def test_an_infeasible_result_is_no_incumbent_and_no_failure(self) -> None:
        study = optimizer()
        trial = study.ask()[0]
        study.fold([Told(trial.number, Infeasible("diverged"))])
        assert study.trials[1].state is TrialState.INFEASIBLE
        assert study.best() is None


class TestDefinition:
    def test_an_unknown_strategy_is_named_with_those_there_are(self) -> None:
        with pytest.raises(SpecError, match="gp, random, sobol"):
            Optimizer(problem(), "bo")

    @pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1", None])
    def test_a_seed_that_is_no_integer_in_range_is_refused(self, seed: object) -> None:
        with pytest.raises(SpecError, match="seed"):
            Optimizer(problem(), "random", seed)  # type: ignore[arg-type]

    def test_the_largest_seed_works(self) -> None:
        assert Optimizer(problem(), "gp", 2**64 - 1).ask()

    def test_settings_that_belong_to_no_strategy_are_refused(self) -> None:
        with pytest.raises(SpecError, match="belongs to no strategy"):
            Optimizer(problem(), 17)

    def test_what_is_no_problem_and_no_settings_is_said_plainly(self) -> None:
        with pytest.raises(TypeError, match=r"Space; Problem.of\(space"):
            Optimizer(SPACE)  # type: ignore[arg-type]
        with pytest.raises(SpecError, match=r"is a class: give settings, such as GPSpec\(\)"):
            Optimizer(problem(), GPSpec)
        with pytest.raises(SpecError, match="objective: must be text or a Metric, got list"):
            Problem.of(SPACE, ["-loss"])  # type: ignore[arg-type]
        with pytest.raises(SpecError, match=r"constraints: must be a list, such as \['a <= 3"):
            Problem.of(SPACE, "-loss", constraints="a <= 3")

    def test_too_many_parameters_for_a_model_are_refused_with_alternatives(self) -> None:
        wide = Space(tuple(Float(f"x{i}", 0.0, 1.0) for i in range(301)))
        with pytest.raises(UnsupportedError, match=r"301 .*at most 300.*auto, random, sobol"):
            Optimizer(Problem.of(wide, "y"), GPSpec())

    @pytest.mark.parametrize("spec", [RandomSpec(), SobolSpec()])
    def test_baselines_run_under_metric_constraints(self, spec: object) -> None:
        study = optimizer(spec, constraints=["size <= 3"])
        study.tell(study.ask()[0], {"loss": 0.0, "size": 4.0})
        assert study.best() is None

    def test_a_deterministic_problem_of_one_point_is_exhausted_after_it(self) -> None:
        space = Space((Int("n", 1, 2),))
        metric = Metric("y", goal=Goal.MINIMIZE, noise=Noise.NONE)
        study = Optimizer(Problem(space, (metric,)))
        for trial in study.ask(2):
            study.tell(trial, 1.0)
        assert study.suggest(1).space_exhausted
        assert study.ask() == []


class TestThreads:
    def test_suggestions_do_not_depend_on_the_number_of_threads(self) -> None:
        n_before = torch.get_num_threads()
        suggested = []
        try:
            for n_threads in (1, 2):
                torch.set_num_threads(n_threads)
                study = Optimizer(problem(), GPSpec(n_initial=4), seed=4)
                for _ in range(6):
                    trial = study.ask()[0]
                    study.tell(trial, float(trial.parameters["x"]))
                suggested.append(study.suggest(1).suggestions)
                assert torch.get_num_threads() == n_threads
        finally:
            torch.set_num_threads(n_before)
        assert suggested[0] == suggested[1]
