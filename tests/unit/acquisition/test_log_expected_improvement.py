from functools import partial

import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement as TheirLogEI
from botorch.models import SingleTaskGP
from gpytorch.kernels import MaternKernel, RBFKernel, ScaleKernel
from scipy.stats import norm

from bbopt.acquisition import LogExpectedImprovement, incumbent_value
from bbopt.acquisition.ensemble import log_augmentation, value_in_chunks
from bbopt.gp import GPModel, GPSettings, Kernel, WarpKind
from bbopt.numerics import stream
from tests.unit.search.fake_spaces import continuous


def model_of(n: int, *kernels: Kernel, noise: float = 0.05) -> GPModel:
    rng = stream(n, "log ei")
    X = rng.random((n, 3))
    y = np.sin(5.0 * X).sum(1) + noise * rng.standard_normal(n)
    model = GPModel((continuous(),) * 3, GPSettings(kernels=kernels, warp=WarpKind.STANDARDISE))
    model.observe(X, y)
    model.refit()
    return model


@pytest.mark.parametrize("kernel", list(Kernel))
def test_it_agrees_with_botorch(kernel: Kernel) -> None:
    model = model_of(25, kernel)
    theta = torch.from_numpy(model.hyperparameters.theta[0])
    base = (
        RBFKernel(ard_num_dims=3) if kernel is Kernel.RBF else MaternKernel(2.5, ard_num_dims=3)
    )
    covariance = ScaleKernel(base)
    y = model.posterior.y.clone()
    theirs = SingleTaskGP(
        torch.from_numpy(model.X), y[:, None], covar_module=covariance, outcome_transform=None
    ).double()
    base.lengthscale = theta[:3].exp()
    covariance.outputscale = theta[4].exp()
    theirs.likelihood.noise_covar.raw_noise_constraint = type(
        theirs.likelihood.noise_covar.raw_noise_constraint
    )(1e-8)
    theirs.likelihood.noise = theta[3].exp()
    theirs.mean_module.constant = model.posterior.mean_constant[0].clone()
    theirs.eval()
    best = float(y.max())
    Q = torch.from_numpy(stream(0, "queries").random((200, 3)))
    with torch.no_grad():
        expected = TheirLogEI(theirs, best_f=best)(Q[:, None, :])
    torch.testing.assert_close(
        LogExpectedImprovement(model, best).value(Q), expected, rtol=1e-6, atol=1e-6
    )


def test_the_ensemble_is_the_weighted_mean_of_improvements() -> None:
    model = model_of(15, Kernel.MATERN52, Kernel.RBF)
    assert model.weights.min() > 1e-3
    Q = torch.from_numpy(stream(1, "queries").random((50, 3)))
    mean, variance = (t.numpy() for t in model.posterior.predict(Q))
    sd = np.sqrt(variance)
    best = float(model.posterior.y.max())
    z = (mean - best) / sd
    improvement = sd * (norm.pdf(z) + z * norm.cdf(z))
    expected = np.log(model.weights @ improvement)
    value = LogExpectedImprovement(model, best).value(Q).numpy()
    is_safe = improvement.min(0) > 1e-8  # where the plain formula has digits
    assert is_safe.sum() > 10
    np.testing.assert_allclose(value[is_safe], expected[is_safe], rtol=1e-6, atol=1e-6)


def test_noise_takes_its_share_of_each_member_s_improvement() -> None:
    model = model_of(60, Kernel.MATERN52, Kernel.RBF, noise=0.5)
    assert model.weights.min() > 1e-3
    Q = torch.from_numpy(stream(1, "queries").random((400, 3)))
    mean, variance = (t.numpy() for t in model.posterior.predict(Q))
    best = incumbent_value(model, is_noisy=True)
    sd, noise = np.sqrt(variance), model.posterior.members.noise.numpy()[:, None]
    assert noise.min() > 0.01
    z = (mean - best.numpy()[:, None]) / sd
    left = 1.0 - np.sqrt(noise / (variance + noise))
    expected = model.weights @ (sd * (norm.pdf(z) + z * norm.cdf(z)) * left)
    value = LogExpectedImprovement(model, best, is_augmented=True).value(Q).exp().numpy()
    is_safe = expected > 1e-8
    assert is_safe.sum() > 10
    np.testing.assert_allclose(value[is_safe], expected[is_safe], rtol=1e-6)


def test_what_noise_leaves_has_digits_where_hardly_anything_is_left() -> None:
    variance = torch.tensor([[1e-13, 1.0, 1e6]], dtype=torch.float64)
    noise = torch.tensor([[1.0]], dtype=torch.float64)
    value, slope = log_augmentation(variance, noise)
    torch.testing.assert_close(
        value.exp(), torch.tensor([[5e-14, 1.0 - 0.5**0.5, 0.999]], dtype=torch.float64)
    )
    torch.testing.assert_close(float(slope[0, 0]), 1e13, rtol=1e-6, atol=0.0)


def test_chunks_do_not_change_the_value() -> None:
    model = model_of(15, Kernel.RBF)
    acquisition = LogExpectedImprovement(model, 0.0)
    Q = torch.from_numpy(stream(1, "chunks").random((300, 3)))
    parts: list[int] = []

    def spy(X: torch.Tensor) -> torch.Tensor:
        parts.append(len(X))
        return acquisition.value(X)

    value = value_in_chunks(spy, Q, n_per_row=2**17)
    assert parts == [64, 64, 64, 64, 44]
    torch.testing.assert_close(value, acquisition.value(Q), rtol=1e-9, atol=1e-9)


def test_a_noisy_incumbent_is_the_best_mean_and_a_clean_one_the_best_value() -> None:
    model = model_of(25, Kernel.MATERN52, Kernel.RBF, noise=0.5)
    clean = incumbent_value(model, is_noisy=False)
    noisy = incumbent_value(model, is_noisy=True)
    assert clean.tolist() == [float(model.posterior.y.max())] * 2
    expected = model.posterior.predict(torch.from_numpy(model.X))[0].amax(1)
    torch.testing.assert_close(noisy, expected, rtol=1e-9, atol=1e-9)
    assert bool((noisy < clean).all())


def test_there_is_no_incumbent_without_data() -> None:
    with pytest.raises(ValueError, match="no incumbent"):
        incumbent_value(GPModel((continuous(),)), is_noisy=False)


def test_a_negligible_kernel_is_left_out_and_does_not_matter() -> None:
    rng = stream(5, "negligible")
    X = rng.random((50, 3))
    model = GPModel((continuous(),) * 3, GPSettings(warp=WarpKind.STANDARDISE))
    model.observe(X, np.sin(3.0 * X).sum(1))
    model.refit()
    assert model.weights.min() < 1e-4
    both = LogExpectedImprovement(model, torch.tensor([0.3, 0.2], dtype=torch.float64))
    alone = GPModel(
        (continuous(),) * 3, GPSettings(kernels=(Kernel.RBF,), warp=WarpKind.STANDARDISE)
    )
    alone.observe(X, np.sin(3.0 * X).sum(1))
    alone.refit()
    Q = torch.from_numpy(rng.random((20, 3)))
    torch.testing.assert_close(
        both.value(Q), LogExpectedImprovement(alone, 0.2).value(Q), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("is_augmented", [False, True])
@pytest.mark.parametrize("kernels", [(Kernel.RBF,), (Kernel.MATERN52, Kernel.RBF)])
def test_the_bound_is_never_below_the_value_and_is_close_far_from_data(
    kernels: tuple[Kernel, ...], is_augmented: bool
) -> None:
    rng = stream(0, "bound")
    X = 0.3 * rng.random((120, 3))
    y = np.sin(9.0 * X).sum(1)
    model = GPModel((continuous(),) * 3, GPSettings(kernels))
    model.observe(X, y, noise_sd=np.where(np.arange(120) % 3 == 0, 0.05, 0.0))
    model.refit()
    best = incumbent_value(model, is_noisy=True)
    acquisition = LogExpectedImprovement(model, best, is_augmented=is_augmented)
    rows = torch.from_numpy(np.concatenate([rng.random((400, 3)), X]))
    gap = acquisition.upper_bound(rows) - acquisition.value(rows)
    assert acquisition.does_bound_pay
    assert float(gap.min()) >= -1e-6
    far = torch.ones((1, 3), dtype=torch.float64)
    assert float(acquisition.upper_bound(far) - acquisition.value(far)) < 0.5


@pytest.mark.parametrize("kernels", [(Kernel.RBF,), tuple(Kernel)])
@pytest.mark.parametrize("is_augmented", [False, True])
def test_the_host_and_a_device_compute_the_same(
    kernels: tuple[Kernel, ...], is_augmented: bool
) -> None:
    model = model_of(90, *kernels)
    best = incumbent_value(model, is_noisy=is_augmented)
    host = LogExpectedImprovement(model, best, is_augmented=is_augmented)
    device = LogExpectedImprovement(model, best, is_augmented=is_augmented)
    device.reader.on_host = None
    X = torch.from_numpy(stream(0, "host and device").random((50, 3)))
    close = partial(torch.testing.assert_close, rtol=1e-7, atol=1e-7)
    close(host.value(X), device.value(X))
    close(host.upper_bound(X), device.upper_bound(X))
    for a, b in zip(host.value_and_gradient(X), device.value_and_gradient(X), strict=True):
        close(a, b)
