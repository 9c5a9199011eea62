"""The posterior read by numpy says what the posterior says."""

import numpy as np
import pytest
import torch

from bbopt.gp import HostPosterior, Kernel, Members, Posterior
from bbopt.numerics import stream

D = 4
KERNELS = (Kernel.MATERN52, Kernel.RBF)


def posterior(n: int, known: float = 0.0) -> Posterior:
    rng = stream(n, "host")
    theta = torch.from_numpy(rng.normal(0.0, 0.4, (2, D + 2)))
    theta[:, D] -= 7.0
    X = torch.from_numpy(rng.random((n, D)))
    noise = torch.full((n,), known, dtype=torch.float64)
    found = Posterior(Members.unpack(KERNELS, theta, torch.arange(D)), X, noise)
    found.set_targets(torch.sin(4.0 * X).sum(1))
    return found


def rows(n: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return stream(n, "host rows").random((n, D))


@pytest.mark.parametrize("n", [0, 1, 40])
@pytest.mark.parametrize("known", [0.0, 0.3])
def test_moments_are_those_of_the_posterior(n: int, known: float) -> None:
    source, X = posterior(n, known), rows(9)
    host = HostPosterior(source)
    query = host.query(X)
    expected = source.predict(torch.from_numpy(X))
    for found in ((query.mean, query.variance), host.predict(X)):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("known", [0.0, 0.3])
def test_the_bound_is_that_of_the_posterior(known: float) -> None:
    source, X = posterior(40, known), rows(9)
    found = HostPosterior(source).predict_with_variance_bound(X)
    for a, b in zip(
        found, source.predict_with_variance_bound(torch.from_numpy(X)), strict=True
    ):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n", [1, 40])
def test_gradients_are_those_of_the_posterior(n: int) -> None:
    source, X = posterior(n), rows(9)
    rng = stream(n, "host weights")
    by_mean, by_variance = rng.standard_normal((2, 9)), rng.standard_normal((2, 9))
    host = HostPosterior(source)
    found = host.pull_back(host.query(X), by_mean, by_variance)
    weights = torch.from_numpy(by_mean)[:, :, None] * source.alpha[:, None, :]
    query = source.query(torch.from_numpy(X))
    expected = source.pull_back(query, weights, torch.from_numpy(by_variance))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-9)


def test_the_variance_at_an_observation_is_above_zero() -> None:
    source = posterior(40)
    X = (source.scaled_rows[0] / source.members.inverse_scales[0]).numpy()
    assert (HostPosterior(source).query(X).variance > 0.0).all()
