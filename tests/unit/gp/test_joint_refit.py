"""Models refitted together get what each would find by itself."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bbopt.errors import NumericalError
from bbopt.gp import (
    FixedNoise,
    GPModel,
    GPSettings,
    HyperPriors,
    Kernel,
    MapObjective,
    WarpKind,
    joint_refit,
)
from bbopt.gp.joint_refit import fit_together
from bbopt.numerics import stream
from tests.unit.search.fake_spaces import categorical, continuous, ordered

N = 24
Array = NDArray[np.float64]
COLUMNS = (continuous(), categorical(3), continuous(periodic=True), ordered(4))
TARGETS: tuple[Callable[[Array], Array], ...] = (
    lambda X: np.sin(5.0 * X[:, 0]) + X[:, 3],
    lambda X: X[:, 0] - 0.4 + 0.2 * np.cos(9.0 * X[:, 2]),
    lambda X: np.sign(X[:, 3] - 0.3) + X[:, 1],
)


def models(
    n: int = N, n_models: int = 3, settings: GPSettings | None = None, noise_sd: float = 0.0
) -> list[GPModel]:
    """Metrics at the same rows; fitted without the last row, which is then observed."""
    X = stream(n, "joint").random((n, len(COLUMNS)))
    found = []
    for target in TARGETS[:n_models]:
        model = GPModel(COLUMNS, settings or GPSettings(warp=WarpKind.BILOG))
        y = target(X)
        model.observe(X[:-1], y[:-1], np.full(n - 1, noise_sd))
        model.refit()
        model.observe(X[-1:], y[-1:], np.full(1, noise_sd))
        found.append(model)
        noise_sd *= 2.0
    return found


@pytest.mark.parametrize("noise_sd", [0.0, 0.1])
def test_together_they_end_where_each_does_by_itself(noise_sd: float) -> None:
    together, apart = models(noise_sd=noise_sd), models(noise_sd=noise_sd)
    for joint, alone, theta in zip(together, apart, fit_together(together), strict=True):
        assert theta is not None
        joint.refit(theta)
        alone.refit()
        np.testing.assert_allclose(
            joint.hyperparameters.theta, alone.hyperparameters.theta, rtol=1e-7, atol=1e-7
        )
        np.testing.assert_allclose(joint.weights, alone.weights, rtol=1e-6, atol=1e-8)
        assert joint.hyperparameters.n_fitted == N


def test_what_is_not_alike_fits_by_itself() -> None:
    first, second, not_due = models()
    not_due.refit()
    (other_rows,) = models(N - 2, n_models=1)
    fixed = GPSettings(warp=WarpKind.BILOG, noise=FixedNoise())
    (other_noise,) = models(n_models=1, settings=fixed)
    cold = GPModel(COLUMNS, first.settings)
    cold.observe(first.X, first.y)
    asked = [first, other_rows, not_due, second, other_noise, cold]
    is_found = [theta is not None for theta in fit_together(asked)]
    assert is_found == [True, False, False, True, False, False]


def test_when_the_fit_fails_each_fits_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NumericalError("nothing works")

    monkeypatch.setattr(joint_refit, "fit_warm_together", fail)
    assert fit_together(models()) == [None] * 3


def test_a_start_without_a_finite_value_is_left_to_its_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluate = MapObjective.evaluate_with_information

    def spoil(
        self: MapObjective, thetas: np.ndarray, members: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values, gradients, information = evaluate(self, thetas, members)
        values[members == 3] = -np.inf  # the second model's second kernel
        return values, gradients, information

    monkeypatch.setattr(MapObjective, "evaluate_with_information", spoil)
    is_found = [theta is not None for theta in fit_together(models())]
    assert is_found == [True, False, True]


@pytest.mark.parametrize("known", [False, True])
def test_a_joined_objective_says_of_each_member_what_its_part_says(known: bool) -> None:
    rng = stream(0, "joined")
    X = torch.from_numpy(rng.random((9, 3)))
    parts = [
        MapObjective(
            X,
            torch.from_numpy(rng.standard_normal(9)),
            kernels=(Kernel.MATERN52, Kernel.RBF),
            priors=HyperPriors(3),
            group=torch.arange(3),
            noise_variances=torch.from_numpy(rng.random(9)) if known and k != 1 else None,
        )
        for k in range(3)
    ]
    members = np.array([4, 1, 0, 3, 3, 5])
    thetas = rng.normal(0.0, 0.3, (6, 5))
    joined = MapObjective.joined(parts).evaluate_with_information(thetas, members)
    for row, member in enumerate(members):
        part, own = parts[member // 2], np.array([member % 2])
        expected = part.evaluate_with_information(thetas[row : row + 1], own)
        for a, b in zip(joined, expected, strict=True):
            np.testing.assert_allclose(a[row], b[0], rtol=1e-10, atol=1e-10)
