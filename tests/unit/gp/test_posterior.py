import functools
import itertools
import math

import gpytorch
import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP
from gpytorch.kernels import MaternKernel, RBFKernel, ScaleKernel

from bbopt.errors import NumericalError
from bbopt.gp import Kernel, Members, Posterior
from bbopt.gp.posterior import capacity_for
from bbopt.numerics import stream

KERNELS = (Kernel.MATERN52, Kernel.RBF)
D = 3
THETA = torch.tensor(
    [[-0.9, 0.2, 1.0, math.log(1e-4), 0.5], [-0.4, 0.7, 0.1, math.log(1e-3), -0.3]],
    dtype=torch.float64,
)


def members(theta: torch.Tensor = THETA) -> Members:
    return Members.unpack(KERNELS, theta, torch.arange(D))


def data(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = stream(n, "posterior")
    X = rng.random((n, D))
    return torch.from_numpy(X), torch.from_numpy(np.sin(4.0 * X).sum(1))


def posterior(n: int, n_appended: int = 0, known: float = 0.0) -> Posterior:
    X, y = data(n)
    first = n - n_appended
    noise = torch.full((first,), known, dtype=torch.float64)
    model = Posterior(members(), X[:first], noise)
    for row in X[first:]:
        model.append(row, known)
    model.set_targets(y)
    return model


@pytest.mark.parametrize("n_appended", [1, 5, 40, 60])
def test_appending_rows_equals_refactorizing(n_appended: int) -> None:
    whole, grown = posterior(60), posterior(60, n_appended)
    largest = float(whole.inverse_factor.abs().max())
    torch.testing.assert_close(
        grown.inverse_factor / largest, whole.inverse_factor / largest, rtol=0.0, atol=1e-10
    )
    torch.testing.assert_close(grown.alpha, whole.alpha, rtol=1e-8, atol=1e-8)
    Q = data(7)[0]
    for a, b in zip(grown.predict(Q), whole.predict(Q), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_the_same_path_gives_the_same_bits() -> None:
    a, b = posterior(100, 45), posterior(100, 45)
    assert torch.equal(a.inverse_factor, b.inverse_factor)
    assert torch.equal(a.alpha, b.alpha)


def dense_covariance(e: int, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    base = MaternKernel(nu=2.5) if KERNELS[e] is Kernel.MATERN52 else RBFKernel()
    base.lengthscale = 1.0
    scales = THETA[e, :D].exp()
    correlation: torch.Tensor = base(a / scales, b / scales).to_dense().detach()
    return THETA[e, 4].exp() * correlation


@pytest.mark.parametrize("known", [0.0, 0.05])
def test_the_prediction_is_the_dense_formula(known: float) -> None:
    model, (X, y), Q = posterior(20, 8, known), data(20), data(6)[0]
    mean, variance = model.predict(Q)
    for e in range(len(KERNELS)):
        noise = float(THETA[e, 3].exp())
        k = functools.partial(dense_covariance, e)
        K = k(X, X) + (noise + known + 1e-10) * torch.eye(20, dtype=torch.float64)
        one = torch.ones(20, dtype=torch.float64)
        m = (one @ torch.linalg.solve(K, y)) / (one @ torch.linalg.solve(K, one))
        expected_mean = m + k(Q, X) @ torch.linalg.solve(K, y - m)
        expected = k(Q, Q) - k(Q, X) @ torch.linalg.solve(K, k(X, Q))
        torch.testing.assert_close(mean[e], expected_mean, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(variance[e], expected.diagonal(), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(
            model.predict_jointly(Q)[1][e], expected, rtol=1e-6, atol=1e-9
        )


def test_the_evidence_is_the_normal_density_of_the_targets() -> None:
    model, (X, y) = posterior(15, 4), data(15)
    for e, kernel in enumerate(KERNELS):
        z = X / THETA[e, :D].exp()
        s = torch.cdist(z, z).square()
        t = torch.sqrt(5 * s)
        k = torch.exp(-s / 2) if kernel is Kernel.RBF else (1 + t + t * t / 3) * torch.exp(-t)
        K = THETA[e, 4].exp() * k + (THETA[e, 3].exp() + 1e-10) * torch.eye(15).double()
        mean = model.mean_constant[e].expand(15)
        density = torch.distributions.MultivariateNormal(mean, K)
        assert float(model.log_evidence()[e]) == pytest.approx(
            float(density.log_prob(y)), abs=1e-7
        )


def test_gradients_of_mean_and_variance_agree_with_finite_differences() -> None:
    model, Q = posterior(30), data(5)[0]
    rng = stream(0, "weights")
    cm = torch.from_numpy(rng.standard_normal((2, 5)))
    cv = torch.from_numpy(rng.standard_normal((2, 5)))

    def total(at: torch.Tensor) -> torch.Tensor:
        mean, variance = model.predict(at)
        return (cm * mean + cv * variance).sum(0)

    query = model.query(Q)
    gradient = model.pull_back(query, cm[:, :, None] * model.alpha[:, None, :], cv)
    for j in range(D):
        step = torch.zeros(D, dtype=torch.float64)
        step[j] = 1e-6
        numeric = (total(Q + step) - total(Q - step)) / 2e-6
        torch.testing.assert_close(gradient[:, j], numeric, rtol=1e-6, atol=1e-6)


def test_fitted_means_are_predictions_at_the_own_rows() -> None:
    model = posterior(25, 5, known=0.01)
    torch.testing.assert_close(
        model.fitted_means(), model.predict(data(25)[0])[0], rtol=1e-9, atol=1e-9
    )


def test_new_targets_do_not_touch_the_factor() -> None:
    model = posterior(20, 5)
    before = model.inverse_factor.clone()
    model.set_targets(torch.linspace(0, 1, 20, dtype=torch.float64))
    assert torch.equal(before, model.inverse_factor)


def test_repeated_rows_can_be_appended_for_ever() -> None:
    X = data(1)[0]
    model = Posterior(members(), X, torch.zeros(1, dtype=torch.float64))
    for _ in range(70):
        model.append(X[0])
    model.set_targets(torch.linspace(-1, 1, 71, dtype=torch.float64))
    mean, variance = model.predict(X)
    assert mean.abs().max() < 1e-3
    assert bool((variance > 0).all())
    assert float(variance.max()) < 1e-4


def test_a_model_without_rows_predicts_the_prior() -> None:
    model = Posterior(
        members(), torch.empty(0, D, dtype=torch.float64), torch.empty(0).double()
    )
    mean, variance = model.predict(data(4)[0])
    assert mean.abs().max() == 0.0
    torch.testing.assert_close(variance, THETA[:, 4].exp()[:, None].expand(2, 4))


def test_a_non_finite_row_is_refused() -> None:
    model = posterior(5)
    with pytest.raises(NumericalError):
        model.append(torch.tensor([0.1, float("nan"), 0.2], dtype=torch.float64))


def test_members_can_be_read_alone() -> None:
    both = posterior(20)
    Q = data(4)[0]
    for e in range(2):
        alone = both.select([e])
        for a, b in zip(alone.predict(Q), both.predict(Q), strict=True):
            torch.testing.assert_close(a[0], b[e], rtol=1e-12, atol=1e-12)


def test_the_prediction_agrees_with_gpytorch() -> None:
    """A third implementation, through its own prediction code."""
    X, y = data(18)
    e = 1
    kernel = ScaleKernel(RBFKernel(ard_num_dims=D))
    theirs = SingleTaskGP(X, y[:, None], covar_module=kernel, outcome_transform=None).double()
    kernel.base_kernel.lengthscale = THETA[e, :D].exp()
    kernel.outputscale = THETA[e, 4].exp()
    theirs.likelihood.noise = THETA[e, 3].exp()
    model = posterior(18)
    theirs.mean_module.constant = model.mean_constant[e].clone()
    theirs.eval()
    Q = data(9)[0]
    with torch.no_grad(), gpytorch.settings.fast_pred_var(False):
        expected = theirs.posterior(Q)
        mean, variance = model.predict(Q)
        torch.testing.assert_close(mean[e], expected.mean[:, 0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(variance[e], expected.variance[:, 0], rtol=1e-4, atol=1e-7)


def test_buffers_grow_by_steps_of_at_most_a_half() -> None:
    sizes = sorted({capacity_for(n) for n in range(1, 3000)})
    assert sizes[:6] == [32, 64, 128, 192, 256, 384]
    assert all(capacity_for(n) >= n for n in range(1, 3000))
    assert all(b <= 1.5 * a for a, b in itertools.pairwise(sizes[2:]))
