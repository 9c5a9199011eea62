"""What the default strategy falls back to: every rung of the ladder, reached by breaking what
is above it, and the data that might break it by themselves.

Newest hyperparameters, the same with jitter, the earlier ones, the prior's mode, quasi-random.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from bbopt import (
    Bool,
    Categorical,
    Float,
    Int,
    Metric,
    Noise,
    Optimizer,
    Problem,
    Space,
)
from bbopt.errors import NumericalError
from bbopt.gp import objective, posterior
from bbopt.gp.objective import MapObjective
from bbopt.gp.posterior import Posterior
from bbopt.numerics import CholeskyFactor, linalg
from bbopt.problem import Goal
from bbopt.replay import replay
from bbopt.specs import GPSpec, Quality
from bbopt.strategies import gp_search
from bbopt.trial import Failed, Infeasible, Suggestion
from tests.properties.gp_cases import Case, check_case, check_suggestion

SPEC = GPSpec(n_initial=4, quality=Quality.FAST)
PROBLEM = Problem(
    Space((Float("x", 0.0, 1.0), Float("y", 0.0, 1.0))), (Metric("loss", goal=Goal.MINIMIZE),)
)
Break = Callable[[pytest.MonkeyPatch], None]


def started(problem: Problem = PROBLEM, n: int = 8) -> Optimizer:
    """Return a study with some results; the next ask refits."""
    study = Optimizer(problem, SPEC, seed=3)
    for _ in range(n):
        (trial,) = study.ask()
        study.tell(trial, sum((float(v) - 0.3) ** 2 for v in trial.parameters.values()))
    return study


def rebuilt(study: Optimizer) -> Optimizer:
    """Return the study as another process would have it: every factor is computed anew."""
    other = Optimizer(study.problem, study.spec, study.seed)
    other.fold(study.log.events())
    return other


def ask(study: Optimizer, n: int = 1) -> Sequence[Suggestion]:
    """Ask, and check what must hold on every rung."""
    answers = study.suggest(n).suggestions
    assert len(answers) == n
    for answer in answers:
        check_suggestion(study.problem, answer)
    return answers


# ---------------------------------------------------------------------- rungs


def raising(error: Exception) -> Callable[..., object]:
    def broken(*_: object, **__: object) -> object:
        raise error

    return broken


def _no_factor(patch: pytest.MonkeyPatch) -> None:
    """No matrix can be factorized, however much jitter it gets."""
    factorize = torch.linalg.cholesky_ex

    def broken(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lower, info = factorize(matrix)
        return lower, torch.ones_like(info)

    patch.setattr(torch.linalg, "cholesky_ex", broken)


def _no_factor_in_lapack(patch: pytest.MonkeyPatch) -> None:
    """The library itself raises."""
    patch.setattr(torch.linalg, "cholesky_ex", raising(linalg.FAILURES[1]("singular")))


def _no_number_in_a_factor(patch: pytest.MonkeyPatch) -> None:
    def broken(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full_like(matrix, torch.nan), torch.zeros(matrix.shape[:-2])

    patch.setattr(torch.linalg, "cholesky_ex", broken)


def _no_inverse(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch, "cholesky_inverse", raising(linalg.FAILURES[1]("singular")))


def _no_likelihood(patch: pytest.MonkeyPatch) -> None:
    def broken(
        _: MapObjective, thetas: objective.Array, __: object
    ) -> tuple[objective.Array, objective.Array, objective.Array]:
        square = (*thetas.shape, thetas.shape[1])
        n = len(thetas)
        return np.full(n, np.nan), np.full(thetas.shape, np.nan), np.full(square, np.nan)

    patch.setattr(MapObjective, "evaluate_with_information", broken)


def _no_acquisition(patch: pytest.MonkeyPatch) -> None:
    """Every acquisition value is NaN."""
    settle = Posterior.set_targets

    def broken(self: Posterior, y: torch.Tensor) -> None:
        settle(self, y)
        self.alpha = self.alpha * torch.nan

    patch.setattr(Posterior, "set_targets", broken)


def _no_search(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gp_search, "maximise_batch", raising(NumericalError("broken")))


@pytest.mark.parametrize(
    "fraction", [f for f in linalg.JITTER_LADDER if f > 0.0], ids=lambda f: f"{f:g}"
)
def test_every_rung_of_jitter_is_reached_and_recorded(
    monkeypatch: pytest.MonkeyPatch, fraction: float
) -> None:
    factorize = torch.linalg.cholesky_ex
    scales: list[float] = []

    def needy(matrix: torch.Tensor) -> CholeskyFactor:
        """Factorize with matrices counted as indefinite below a jitter of the fraction."""
        scale = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)
        scales.append(float(scale.max()))

        def patched(shifted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            lower, info = factorize(shifted)
            added = (shifted - matrix).diagonal(dim1=-2, dim2=-1).mean(-1)
            return lower, torch.where(added < 0.9 * fraction * scale, 1, info).to(info.dtype)

        with monkeypatch.context() as patch:
            patch.setattr(torch.linalg, "cholesky_ex", patched)
            return linalg.cholesky(matrix)

    study = started()
    monkeypatch.setattr(posterior, "cholesky", needy)
    (answer,) = ask(study)
    assert answer.provenance.generator == "gp"
    assert answer.provenance.degraded_from == "gp"
    added = f"{fraction * scales[-1]:.1e}"
    assert answer.provenance.reason == (
        f"model of objective made positive definite by adding {added} to its diagonal"
    )


KEPT = "fit of objective failed ({}), earlier hyperparameters kept"


@pytest.mark.parametrize(
    ("breakage", "why"),
    [
        (_no_factor, "no hyperparameters give a covariance that can be factorized"),
        (_no_number_in_a_factor, "no hyperparameters give a covariance that can be factorized"),
        (_no_likelihood, "no hyperparameters give a covariance that can be factorized"),
        (_no_factor_in_lapack, "singular"),
        (_no_inverse, "singular"),
    ],
)
def test_a_fit_that_fails_leaves_the_earlier_hyperparameters(
    monkeypatch: pytest.MonkeyPatch, breakage: Break, why: str
) -> None:
    study = started()
    before = study._strategy._surrogates.saved["objective"]  # type: ignore[attr-defined]
    breakage(monkeypatch)
    (answer,) = ask(study)
    assert answer.provenance.generator == "gp"
    assert answer.provenance.reason == KEPT.format(why)
    assert study._strategy._surrogates.saved["objective"] is before  # type: ignore[attr-defined]


@pytest.mark.parametrize("breakage", [_no_factor, _no_factor_in_lapack, _no_number_in_a_factor])
def test_a_factorization_that_fails_leaves_the_prior_s_mode(
    monkeypatch: pytest.MonkeyPatch, breakage: Break
) -> None:
    study = rebuilt(started())
    breakage(monkeypatch)
    (answer,) = ask(study)
    assert answer.provenance.generator == "gp"
    assert answer.provenance.reason.startswith("prior-mode hyperparameters: ")
    assert answer.provenance.predicted


@pytest.mark.parametrize("breakage", [_no_acquisition, _no_search])
def test_a_model_without_any_number_leaves_quasi_random_points(
    monkeypatch: pytest.MonkeyPatch, breakage: Break
) -> None:
    study = started()
    with monkeypatch.context() as patch:
        breakage(patch)
        answers = ask(study, 3)
    assert {answer.provenance.generator for answer in answers} == {"sobol"}
    assert all(a.provenance.reason.startswith("the model failed: ") for a in answers)
    assert len({tuple(answer.parameters.values()) for answer in answers}) == 3
    assert ask(study)[0].provenance.degraded_from == ""


def test_a_log_with_answers_from_every_rung_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    study = started()
    for breakage in (_no_factor, _no_search, _no_acquisition):
        with monkeypatch.context() as patch:
            breakage(patch)
            (trial,) = study.ask()
        assert trial.provenance.degraded_from == "gp"
        study.tell(trial, 1.0)
        (trial,) = study.ask()
        assert trial.provenance.degraded_from == ""
        study.tell(trial, 0.5)
    assert replay(PROBLEM, SPEC, 3, list(study.log.events())) == []


@pytest.mark.parametrize("breakage", [_no_factor, _no_factor_in_lapack])
def test_predictions_and_recommendations_survive_a_failed_factorization(
    monkeypatch: pytest.MonkeyPatch, breakage: Break
) -> None:
    study = rebuilt(started())
    breakage(monkeypatch)
    (prediction,) = study.predict([{"x": 0.5, "y": 0.5}])
    assert np.isfinite([prediction.metrics["loss"].mean, prediction.metrics["loss"].sd]).all()
    assert study.recommendation() is not None


def test_what_is_not_a_number_is_never_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    study = started()
    _no_acquisition(monkeypatch)
    with pytest.raises(NumericalError, match="not a number"):
        study.predict([{"x": 0.5, "y": 0.5}])
    recommended, best = study.recommend(), study.best()
    assert recommended is not None
    assert recommended == best


# ---------------------------------------------------------------------- data

WORST_DATA = {
    "no two results agree at one point": Case(60, rows="all the same", values="noise only"),
    "one result": Case(1),
    "two results": Case(2),
    "two equal results at one point": Case(2, rows="all the same", values="constant"),
    "constant outcomes": Case(100, values="constant"),
    "huge and tiny values": Case(30, values="huge and tiny"),
    "values at the ends of the range": Case(30, values="at the ends of the range"),
    "denormal values": Case(30, values="denormal"),
    "an outlier of a million sd": Case(30, values="one outlier of a million sd"),
    "values that are not finite": Case(30, values="not finite", constraint="not finite"),
    "every trial failed": Case(20, failed=1.0),
    "every point infeasible": Case(20, crashed=1.0, n_asked=3),
    "every trial failed or infeasible": Case(20, crashed=1.0, failed=0.5),
    "a constraint that is always kept": Case(20, constraint="zero"),
    "a constraint that is never kept": Case(20, constraint="constant"),
    "a constraint of constant values, flat objective": Case(
        20, values="constant", constraint="constant"
    ),
    "one parameter": Case(30, d=1),
    "fifty parameters": Case(30, d=50, values="noisy", n_asked=2),
    "fifty parameters and two results": Case(2, d=50),
    "pending points equal to finished ones": Case(20, n_pending=5, n_asked=3),
    "pending points on one point, noise-free": Case(
        20, rows="all the same", n_pending=5, n_asked=3, noise=Noise.NONE
    ),
    "reported noise of 1e300": Case(20, noise=Noise.REPORTED, sd=1e300),
    "reported noise of nothing": Case(20, rows="repeated", noise=Noise.REPORTED, sd=0.0),
}


@pytest.mark.parametrize("case", WORST_DATA.values(), ids=WORST_DATA.keys())
def test_whatever_the_data_an_ask_gets_points_of_the_space(case: Case) -> None:
    has_data = case.n > 1 and case.failed < 1.0
    for answer in check_case(case):
        assert (answer.provenance.generator == "gp") == has_data
        assert answer.provenance.degraded_from == ""


@pytest.mark.slow
@pytest.mark.parametrize("values", ["constant", "noise only"])
@pytest.mark.parametrize("rows", ["all the same", "repeated", "spread"])
def test_a_thousand_results_that_teach_little_are_survived(rows: str, values: str) -> None:
    answers = check_case(Case(1000, 3, rows, values, quality=Quality.FAST))
    assert answers[0].provenance.generator == "gp"


# ---------------------------------------------------------------------- discrete spaces

DISCRETE = {
    "integers": Space((Int("i", 1, 3), Int("j", 0, 2))),
    "names": Space((Categorical("c", ("a", "b", "c")), Categorical("e", ("u", "v", "w")))),
    "both": Space((Int("i", 1, 3), Categorical("c", ("a", "b", "c")))),
    "a coin": Space((Bool("b"),)),
}


@pytest.mark.parametrize("space", DISCRETE.values(), ids=DISCRETE.keys())
@pytest.mark.parametrize("outcome", [1.0, Infeasible("diverged")], ids=["flat", "infeasible"])
def test_a_discrete_space_runs_out_and_says_so(space: Space, outcome: object) -> None:
    problem = Problem(space, (Metric("y", goal=Goal.MAXIMIZE, noise=Noise.NONE),))
    study = Optimizer(problem, SPEC, seed=5)
    seen = set()
    while trials := study.ask(2):
        for trial in trials:
            assert problem.space.check(trial.parameters) == []
            seen.add(tuple(trial.parameters.values()))
            study.tell(trial, outcome)  # type: ignore[arg-type]
        assert len(study.trials) <= 9
    assert len(seen) == len(study.trials)
    assert study.suggest(1).space_exhausted


def test_points_whose_worker_failed_do_not_use_up_a_discrete_space() -> None:
    problem = Problem(DISCRETE["both"], (Metric("y", goal=Goal.MAXIMIZE, noise=Noise.NONE),))
    study = Optimizer(problem, SPEC, seed=6)
    for _ in range(20):
        (trial,) = study.ask()
        study.tell(trial, Failed("the machine"))
