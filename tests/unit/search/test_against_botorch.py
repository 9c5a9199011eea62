"""The search against botorch's, on the same surface: our models, moved into SingleTaskGP."""

import gpytorch
import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement as TheirLogEI
from botorch.models import SingleTaskGP
from botorch.optim.optimize import optimize_acqf
from gpytorch.kernels import RBFKernel, ScaleKernel
from numpy.typing import NDArray

from bbopt.acquisition import LogExpectedImprovement, incumbent_value
from bbopt.gp import GPModel, GPSettings, Kernel, WarpKind
from bbopt.numerics import stream
from bbopt.search import Found, SearchSettings, maximise
from tests.unit.search.fake_spaces import FakeSpace, continuous

Array = NDArray[np.float64]


def search(model: GPModel, warm_starts: Array, settings: SearchSettings, seed: int) -> Found:
    d = model.feature_map.n_columns
    result = maximise(
        LogExpectedImprovement(model, incumbent_value(model, is_noisy=False)),
        FakeSpace((continuous(),) * d),
        stream(seed, "search", model.n),
        incumbents=model.X[np.argsort(-model.y)[:5]],
        warm_starts=warm_starts,
        length_scales=model.length_scales,
        settings=settings,
    )
    assert isinstance(result, Found)
    return result


def data(d: int, n: int, seed: int) -> tuple[Array, Array]:
    """Data that cluster round a good point, which is where searches go wrong."""
    rng = stream(seed, "surface", d, n)
    X = np.concatenate(
        [
            rng.random((n - n // 3, d)),
            np.clip(0.4 + 0.05 * rng.standard_normal((n // 3, d)), 0.0, 1.0),
        ]
    )
    X = rng.permutation(X)
    return X, -((X - 0.4) ** 2).sum(1) + 0.2 * np.cos(9.0 * X).sum(1)


def theirs(model: GPModel) -> TheirLogEI:
    d = model.feature_map.n_columns
    theta = torch.from_numpy(model.hyperparameters.theta[0])
    covariance = ScaleKernel(RBFKernel(ard_num_dims=d))
    y = model.posterior.y.clone()
    gp = SingleTaskGP(
        torch.from_numpy(model.X), y[:, None], covar_module=covariance, outcome_transform=None
    ).double()
    covariance.base_kernel.lengthscale = theta[:d].exp()
    covariance.outputscale = theta[d + 1].exp()
    gp.likelihood.noise_covar.raw_noise_constraint = gpytorch.constraints.GreaterThan(1e-8)
    gp.likelihood.noise = theta[d].exp()
    gp.mean_module.constant = model.posterior.mean_constant[0].clone()
    gp.eval()
    return TheirLogEI(gp, best_f=float(y.max()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("d", "n"), [(2, 20), (6, 50), (6, 100), (12, 80)])
@pytest.mark.parametrize("seed", range(4))
def test_full_and_warm_started_searches_are_not_worse_than_optimize_acqf(
    d: int, n: int, seed: int
) -> None:
    X, y = data(d, n, seed)
    model = GPModel(
        (continuous(),) * d, GPSettings(kernels=(Kernel.RBF,), warp=WarpKind.STANDARDISE)
    )
    model.observe(X[:-1], y[:-1])
    model.refit()
    previous = search(model, np.empty((0, d)), SearchSettings(), seed)
    model.observe(X[-1], y[-1])
    model.refit()
    torch.manual_seed(seed)
    x, _ = optimize_acqf(
        theirs(model),
        bounds=torch.stack([torch.zeros(d), torch.ones(d)]).double(),
        q=1,
        num_restarts=20,
        raw_samples=1024,
        options={"sample_around_best": True},
    )
    ours = LogExpectedImprovement(model, incumbent_value(model, is_noisy=False))
    goal = float(ours.value(x.detach()))
    # Either may settle for another of several hills now and then (in five of a hundred searches
    # of one of these surfaces), so that one search alone says little. The small one sees half
    # the candidates; in twelve columns that costs it 0.12 nat on one of these surfaces.
    for settings, warm_starts, tolerance in (
        (SearchSettings(), np.empty((0, d)), 0.05),
        (SearchSettings.small(), previous.optima[:3], 0.2),
    ):
        values = [search(model, warm_starts, settings, seed + i).value for i in range(5)]
        assert np.median(values) >= goal - tolerance
