"""Functions drawn from a posterior, and batches chosen by what they say jointly."""

import numpy as np
import pytest
import torch

from bbopt.acquisition.pathwise import JointChoice, SamplePaths
from bbopt.gp import GPModel, GPSettings, Kernel, WarpKind
from bbopt.numerics import stream
from tests.unit.search.fake_spaces import continuous


def model_of(*kernels: Kernel, d: int = 2, n: int = 15, noise: float = 0.05) -> GPModel:
    rng = stream(4, "paths")
    X = rng.random((n, d))
    settings = GPSettings(kernels=kernels, warp=WarpKind.STANDARDISE)
    model = GPModel((continuous(),) * d, settings)
    model.observe(X, np.sin(4.0 * X).sum(1) + noise * rng.standard_normal(n))
    model.refit()
    return model


@pytest.mark.parametrize(
    "kernels", [(Kernel.RBF,), (Kernel.MATERN52,), (Kernel.MATERN52, Kernel.RBF)]
)
def test_samples_have_the_posteriors_mean_and_covariance(kernels: tuple[Kernel, ...]) -> None:
    model = model_of(*kernels)
    X = torch.from_numpy(np.concatenate([stream(5, "points").random((6, 2)), model.X[:2]]))
    values = torch.cat(
        [SamplePaths(model, 32, rng=stream(i, "draw")).values(X) for i in range(300)]
    ).numpy()
    posterior, log_weights, _ = model.searchable()
    mean, covariance = (part.numpy() for part in posterior.predict_jointly(X))
    weights = log_weights.exp().numpy()
    expected = weights @ mean
    apart = mean - expected
    spread = np.einsum("e,eij->ij", weights, covariance + apart[:, :, None] * apart[:, None])
    unit = np.sqrt(spread.diagonal())
    assert np.abs((values.mean(axis=0) - expected) / unit).max() < 0.12
    assert np.abs((np.cov(values.T) - spread) / np.outer(unit, unit)).max() < 0.2


def test_gradients_are_those_of_finite_differences() -> None:
    columns = (continuous(), continuous(periodic=True), continuous())
    model = GPModel(columns, GPSettings(warp=WarpKind.STANDARDISE))
    rng = stream(6, "gradients")
    rows = rng.random((12, 3))
    model.observe(rows, rows @ np.array([1.0, -2.0, 0.5]))
    model.refit()
    paths = SamplePaths(model, 16, rng=rng)
    X = torch.from_numpy(0.1 + 0.8 * rng.random((5, 3)))
    path = np.array([0, 3, 7, 12, 15])
    current = torch.zeros(16, dtype=torch.float64)
    value, gradient = paths.value_and_gradient(X, path)
    assert torch.allclose(value, paths.values(X)[torch.from_numpy(path), torch.arange(5)])
    gain, slope = paths.improvement(X, current)
    assert torch.allclose(gain, paths.values(X).clamp(min=0.0).mean(0))
    for column in range(3):
        step = torch.zeros_like(X)
        step[:, column] = 1e-6
        up, down = (paths.value_and_gradient(X + s, path)[0] for s in (step, -step))
        assert torch.allclose((up - down) / 2e-6, gradient[:, column], atol=1e-5)
        up, down = (paths.improvement(X + s, current)[0] for s in (step, -step))
        assert torch.allclose((up - down) / 2e-6, slope[:, column], atol=1e-5)


class TestJointChoice:
    def test_it_takes_each_time_what_adds_most(self) -> None:
        rng = stream(7, "choice")
        values, base = rng.standard_normal((64, 300)), rng.random(64)
        choice = JointChoice(values, base)
        current = base.copy()
        for _ in range(80):
            gains = np.maximum(values - current[:, None], 0.0).mean(axis=0)
            index, gain = choice.best(1)[0]
            assert gain == pytest.approx(gains.max(), abs=1e-15)
            choice.take(index)
            current = np.maximum(current, values[:, index])

    def test_with_nothing_to_gain_the_highest_means_come_first(self) -> None:
        values = np.array([[0.0, 2.0, 1.0], [0.0, 2.0, 1.0]])
        choice = JointChoice(values, np.full(2, 5.0))
        taken = []
        while best := choice.best(1):
            taken.append(best[0][0])
            choice.take(taken[-1])
        assert taken == [1, 2, 0]

    def test_what_is_infeasible_in_a_world_adds_nothing_there(self) -> None:
        values = np.array([[3.0, 1.0], [3.0, 1.0]])
        is_possible = np.array([[False, True], [False, True]])
        choice = JointChoice(values, np.zeros(2), is_possible=is_possible)
        assert choice.best(2) == [(1, 1.0), (0, 0.0)]
