import numpy as np
import pytest
import torch

from bbopt.errors import NumericalError
from bbopt.gp import (
    FitSettings,
    FixedNoise,
    HyperPriors,
    Kernel,
    LearnedNoise,
    MapObjective,
    RefitSchedule,
    fit_map,
)
from bbopt.numerics import stream

THOROUGH = FitSettings(500, 500, 1e-10, 1e-10)


def objective(n: int, d: int, kernel: Kernel, priors: HyperPriors) -> MapObjective:
    rng = stream(n, "fit", d)
    features = rng.random((n, d))
    y = np.sin(6.0 * features[:, 0]) + 0.5 * features[:, 1] ** 2 + 0.05 * rng.standard_normal(n)
    y = (y - y.mean()) / y.std(ddof=1)
    return MapObjective(
        torch.from_numpy(features),
        torch.from_numpy(y),
        kernels=(kernel,),
        priors=priors,
        group=torch.arange(d),
    )


@pytest.mark.parametrize("kernel", list(Kernel))
@pytest.mark.parametrize(("n", "d"), [(10, 2), (40, 3), (60, 8)])
def test_the_loose_stopping_rules_lose_less_than_a_twentieth_of_a_nat(
    kernel: Kernel, n: int, d: int
) -> None:
    priors = HyperPriors(d)
    goal = objective(n, d, kernel, priors)
    quick = fit_map(goal, priors, warm_start=None)
    thorough = fit_map(goal, priors, warm_start=None, settings=THOROUGH)
    assert quick.values[0] <= thorough.values[0] + 0.05
    assert quick.n_evaluations < thorough.n_evaluations


def test_a_stuck_warm_start_is_left_when_a_cold_one_is_due() -> None:
    priors = HyperPriors(2)
    goal = objective(30, 2, Kernel.MATERN52, priors)
    lower, upper = priors.bounds()
    stuck = np.array([upper[0], upper[1], -0.1, lower[3]])  # all of it is noise
    alone = fit_map(goal, priors, warm_start=stuck[None], settings=FitSettings(60, 1))
    both = fit_map(
        goal, priors, warm_start=stuck[None], is_cold_due=True, settings=FitSettings(60, 1)
    )
    assert both.values[0] < alone.values[0] - 1.0
    assert both.values[0] == pytest.approx(fit_map(goal, priors, warm_start=None).values[0])


def test_hyperparameters_stay_inside_their_bounds() -> None:
    priors = HyperPriors(3, LearnedNoise(1e-6))
    theta = fit_map(objective(20, 3, Kernel.RBF, priors), priors, warm_start=None).theta[0]
    lower, upper = priors.bounds()
    assert ((theta >= lower) & (theta <= upper)).all()


def test_a_fixed_noise_is_not_fitted() -> None:
    priors = HyperPriors(2, FixedNoise(1e-4))
    theta = fit_map(objective(20, 2, Kernel.RBF, priors), priors, warm_start=None).theta[0]
    assert theta[2] == pytest.approx(np.log(1e-4), abs=1e-12)


def test_data_that_cannot_be_modelled_are_a_typed_error() -> None:
    priors = HyperPriors(1)
    goal = MapObjective(
        torch.full((3, 1), float("nan"), dtype=torch.float64),
        torch.zeros(3, dtype=torch.float64),
        kernels=(Kernel.RBF,),
        priors=priors,
        group=torch.arange(1),
    )
    with pytest.raises(NumericalError):
        fit_map(goal, priors, warm_start=None)


def test_every_new_observation_triggers_a_refit_while_that_is_cheap() -> None:
    schedule = RefitSchedule()
    assert all(schedule.is_due(n, n - 1) for n in range(1, 201))
    assert not schedule.is_due(100, 100)
    assert not schedule.is_due(0, 0)


def test_later_a_refit_waits_for_two_percent_of_growth() -> None:
    schedule = RefitSchedule()
    assert not schedule.is_due(507, 500)
    assert schedule.is_due(510, 500)


def test_every_tenth_observation_is_also_fitted_cold_even_if_the_count_jumps_over_it() -> None:
    schedule = RefitSchedule()
    assert schedule.is_cold_due(20, 19)
    assert schedule.is_cold_due(23, 17)
    assert not schedule.is_cold_due(29, 21)
    assert schedule.is_cold_due(3, 0)


def test_large_data_are_fitted_cold_every_hundredth_observation() -> None:
    schedule = RefitSchedule()
    assert not schedule.is_cold_due(520, 508)
    assert schedule.is_cold_due(601, 590)


def test_with_few_observations_a_cold_fit_finds_a_mode_beside_the_prior_s_own() -> None:
    priors = HyperPriors(2)
    few = objective(12, 2, Kernel.MATERN52, priors)
    best = fit_map(few, priors, warm_start=None).values[0]
    for shift in (0.0, -1.0, 1.0):
        start = priors.mode()
        start[:2] += shift
        assert best <= few(start)[0]
        warm = fit_map(few, priors, warm_start=start[None], settings=THOROUGH)
        assert best <= warm.values[0] + 0.01
