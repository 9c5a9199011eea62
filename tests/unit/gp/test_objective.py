import math

import gpytorch
import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP
from numpy.typing import NDArray

from bbopt.gp import FixedNoise, HyperPriors, Kernel, LearnedNoise, LogNormalPrior, MapObjective
from bbopt.numerics import stream


def problem(
    n: int, d: int, *, group: list[int] | None = None, known: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    rng = stream(n, "objective", d)
    features = rng.random((n, d))
    y = np.sin(5.0 * features[:, 0]) + features[:, -1] ** 2 + 0.1 * rng.standard_normal(n)
    y = (y - y.mean()) / max(y.std(), 1e-9)
    groups = list(range(d)) if group is None else group
    variances = torch.from_numpy(rng.random(n)) if known else None
    return torch.from_numpy(features), torch.from_numpy(y), torch.tensor(groups), variances


@pytest.mark.parametrize("kernel", list(Kernel))
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("group", [None, [0, 0, 1, 2, 2]])
def test_the_gradient_agrees_with_finite_differences(
    kernel: Kernel, known: bool, group: list[int] | None
) -> None:
    features, y, groups, variances = problem(25, 5, group=group, known=known)
    priors = HyperPriors(int(groups.max()) + 1)
    objective = MapObjective(
        features, y, kernels=(kernel,), priors=priors, group=groups, noise_variances=variances
    )
    theta = priors.mode() + stream(1, "theta").normal(0.0, 0.3, priors.size)
    _, gradient = objective(theta)
    for i, slope in enumerate(gradient):
        step = np.zeros(priors.size)
        step[i] = 1e-5
        numeric = (objective(theta + step)[0] - objective(theta - step)[0]) / 2e-5
        assert slope == pytest.approx(numeric, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kernel", list(Kernel))
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("group", [None, [0, 0, 1, 2, 2]])
def test_the_information_is_that_of_the_derivatives_of_the_covariance(
    kernel: Kernel, known: bool, group: list[int] | None
) -> None:
    features, y, groups, variances = problem(15, 5, group=group, known=known)
    priors = HyperPriors(int(groups.max()) + 1)
    objective = MapObjective(
        features, y, kernels=(kernel,), priors=priors, group=groups, noise_variances=variances
    )
    theta = priors.mode() + stream(2, "theta").normal(0.0, 0.3, priors.size)

    def covariance(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        z = features.numpy() * np.exp(-theta[groups.numpy()])
        s = ((z[:, None] - z[None]) ** 2).sum(-1)
        t = np.sqrt(5.0 * s)
        k = np.exp(-s / 2) if kernel is Kernel.RBF else (1 + t + 5 * s / 3) * np.exp(-t)
        own = np.zeros(15) if variances is None else variances.numpy()
        total: NDArray[np.float64] = np.exp(theta[-1]) * k
        return total + np.diag(math.exp(theta[-2]) + 1e-10 + own)

    inverse, ones = np.linalg.inv(covariance(theta)), np.ones((15, 1))
    projected = inverse - inverse @ ones @ ones.T @ inverse / (ones.T @ inverse @ ones)
    steps = 1e-5 * np.eye(priors.size)
    slopes = [(covariance(theta + step) - covariance(theta - step)) / 2e-5 for step in steps]
    pulled = np.array([slope @ projected @ y.numpy() for slope in slopes])
    precision = np.diag(priors.packed().root_precision ** 2)

    value, gradient, information = objective.evaluate_with_information(
        theta[None], np.array([0])
    )
    expected = 0.5 * pulled @ projected @ pulled.T + precision
    np.testing.assert_allclose(information[0], expected, rtol=1e-6, atol=1e-7)
    assert value[0] == -objective(theta)[0]
    np.testing.assert_array_equal(gradient[0], -objective(theta)[1])


@pytest.mark.parametrize("kernel", list(Kernel))
def test_the_value_is_the_dense_formula(kernel: Kernel) -> None:
    features, y, group, variances = problem(12, 2, known=True)
    priors = HyperPriors(2)
    theta = np.array([-0.5, 0.3, -3.0, 0.4])
    assert variances is not None
    z = features.numpy() * np.exp(-theta[:2])
    s = ((z[:, None] - z[None]) ** 2).sum(-1)
    t = np.sqrt(5.0 * s)
    k = np.exp(-s / 2) if kernel is Kernel.RBF else (1 + t + 5 * s / 3) * np.exp(-t)
    K = math.exp(0.4) * k + np.diag(math.exp(-3.0) + 1e-10 + variances.numpy())
    ones = np.ones(12)
    mean = ones @ np.linalg.solve(K, y.numpy()) / (ones @ np.linalg.solve(K, ones))
    r = y.numpy() - mean
    expected = (
        0.5 * r @ np.linalg.solve(K, r)
        + 0.5 * np.linalg.slogdet(K)[1]
        + 6 * math.log(2 * math.pi)
        - priors.log_density(theta)[0]
    )
    objective = MapObjective(
        features, y, kernels=(kernel,), priors=priors, group=group, noise_variances=variances
    )
    assert objective(theta)[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [8, 40])
def test_value_and_gradient_agree_with_botorch(n: int) -> None:
    """Same kernel, priors and parameters as SingleTaskGP, whose output scale is fixed at
    one."""
    d = 3
    features, y, group, _ = problem(n, d)
    y = (y - y.mean()) / y.std()
    model = SingleTaskGP(features, y[:, None], outcome_transform=None)
    model.train()
    log_scales = np.array([-0.7, 0.1, 0.5])
    log_noise = -4.5
    model.covar_module.lengthscale = torch.from_numpy(np.exp(log_scales))
    model.likelihood.noise = math.exp(log_noise)
    free_scale = LogNormalPrior(0.0, 1.0, has_jacobian=False)
    priors = HyperPriors(
        d, LearnedNoise(1e-4, LogNormalPrior(-4.0, 1.0, has_jacobian=True)), None, free_scale
    )
    theta = np.array([*log_scales, log_noise, 0.0])
    objective = MapObjective(features, y, kernels=(Kernel.RBF,), priors=priors, group=group)

    K = model.covar_module(features).to_dense() + math.exp(log_noise) * torch.eye(n)
    solved = torch.linalg.solve(K, torch.stack([y, torch.ones_like(y)], 1))
    model.mean_module.constant = solved[:, 0].sum() / solved[:, 1].sum()
    mll = gpytorch.ExactMarginalLogLikelihood(model.likelihood, model)
    theirs = -mll(model(features), y) * n
    theirs.backward()
    value, gradient = objective(theta)
    ours = value + free_scale.log_density(np.zeros(1))[0]
    assert ours == pytest.approx(float(theirs.detach()), abs=1e-6)
    # Theirs is by length scale and noise, ours by their logarithms.
    scales, noise = model.covar_module.raw_lengthscale, model.likelihood.raw_noise
    np.testing.assert_allclose(gradient[:d], (scales.grad * scales).detach()[0], atol=1e-6)
    np.testing.assert_allclose(gradient[d], (noise.grad * noise).detach()[0], atol=1e-6)


def test_repeated_rows_with_a_tiny_noise_are_still_finite() -> None:
    features = torch.full((30, 2), 0.5, dtype=torch.float64)
    y = torch.linspace(-1, 1, 30, dtype=torch.float64)
    priors = HyperPriors(2, FixedNoise(1e-6))
    objective = MapObjective(
        features, y, kernels=(Kernel.RBF,), priors=priors, group=torch.tensor([0, 1])
    )
    value, gradient = objective(priors.mode())
    assert math.isfinite(value)
    assert np.isfinite(gradient).all()


def test_where_nothing_can_be_factorized_the_value_is_terrible_and_flat() -> None:
    features, y, group, _ = problem(5, 1)
    objective = MapObjective(
        features * float("nan"), y, kernels=(Kernel.RBF,), priors=HyperPriors(1), group=group
    )
    value, gradient = objective(np.zeros(3))
    assert value == 1e10
    assert (gradient == 0.0).all()
