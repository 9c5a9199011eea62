import numpy as np
import pytest
import torch
from scipy.stats import norm

from bbopt.acquisition import (
    IntegratedLogExpectedImprovement,
    LogExpectedImprovement,
    incumbent_value,
)
from bbopt.gp import GPModel, GPSettings, Hyperparameters, Kernel, WarpKind
from bbopt.numerics import stream
from tests.unit.search.fake_spaces import continuous

LEAST = 1e-6
"""Noise variance where all of it is reported."""


def model_of(*kernels: Kernel, noise: float = 0.02) -> GPModel:
    rng = stream(4, "integrated")
    X = rng.random((12, 2))
    model = GPModel((continuous(),) * 2, GPSettings(kernels=kernels, warp=WarpKind.STANDARDISE))
    model.observe(X, np.sin(4.0 * X).sum(1) + noise * rng.standard_normal(12))
    model.refit()
    return model


def monte_carlo(
    model: GPModel,
    best: float,
    pending: np.ndarray,
    x: np.ndarray,
    probability_feasible: np.ndarray | float = 1.0,
) -> float:
    """Mean over joint draws of (pending results, f(x)) of what x adds, noise-free limit."""
    rows = torch.from_numpy(np.concatenate([pending, x[None]]))
    total = 0.0
    for weight, mean, cov in zip(
        model.weights, *model.posterior.predict_jointly(rows), strict=True
    ):
        root = np.linalg.cholesky(cov.numpy() + 1e-9 * np.eye(len(cov)))
        draws = mean.numpy() + stream(9, "mc").standard_normal((400_000, len(cov))) @ root.T
        is_feasible = stream(9, "feasible").random((400_000, len(pending)))
        counted = np.where(is_feasible < probability_feasible, draws[:, :-1], -np.inf)
        reached = np.maximum(best, counted.max(axis=1))
        total += weight * np.maximum(draws[:, -1] - reached, 0.0).mean()
    return float(total)


@pytest.mark.parametrize("kernels", [(Kernel.RBF,), (Kernel.MATERN52, Kernel.RBF)])
def test_it_is_the_expected_gain_over_the_pending_results(kernels: tuple[Kernel, ...]) -> None:
    model = model_of(*kernels)
    best = float(model.posterior.y.max()) - 0.3  # so that gains are common and MC is accurate
    rng = stream(5, "points")
    pending = rng.random((3, 2))
    acquisition = IntegratedLogExpectedImprovement(
        model, best, pending, rng=rng, n_fantasies=2048
    )
    X = rng.random((40, 2))
    values = acquisition.value(torch.from_numpy(X)).exp().numpy()
    for i in np.argsort(-values)[:4]:
        expected = monte_carlo(model, best, pending, X[i])
        assert values[i] == pytest.approx(expected, rel=0.05)


def test_a_pending_point_counts_as_far_as_it_is_feasible() -> None:
    model = model_of(Kernel.MATERN52, Kernel.RBF)
    best = float(model.posterior.y.max()) - 0.3
    X = stream(5, "points").random((40, 2))
    alone = LogExpectedImprovement(model, best).value(torch.from_numpy(X)).numpy()
    pending = X[np.argsort(-alone)[[0, 2, 4]]] + 0.02
    probability = np.array([0.0, 0.4, 0.9])
    acquisition = IntegratedLogExpectedImprovement(
        model,
        best,
        pending,
        rng=stream(5, "draws"),
        n_fantasies=4096,
        probability_feasible=probability,
    )
    values = acquisition.value(torch.from_numpy(X)).exp().numpy()
    for i in np.argsort(-values)[:4]:
        expected = monte_carlo(model, best, pending, X[i], probability)
        assert values[i] == pytest.approx(expected, rel=0.05)
        assert expected > 1.05 * monte_carlo(model, best, pending, X[i])


def test_a_good_but_infeasible_pending_point_does_not_make_others_worthless() -> None:
    model = model_of(Kernel.RBF)
    best = model.target(-0.5)
    grid = torch.from_numpy(stream(8, "grid").random((200, 2)))
    top = grid[int(LogExpectedImprovement(model, best).value(grid).argmax())].numpy()[None]
    values = {
        probability: IntegratedLogExpectedImprovement(
            model, best, top, rng=stream(1), probability_feasible=np.array([probability])
        ).value(grid)
        for probability in (0.0, 1.0)
    }
    assert bool((values[0.0] >= values[1.0]).all())
    assert float((values[0.0] - values[1.0]).median()) > 1.0


def test_sixty_four_fantasies_are_close_to_many() -> None:
    model = model_of(Kernel.MATERN52, Kernel.RBF)
    best = incumbent_value(model, is_noisy=False)
    pending = stream(6, "pending").random((4, 2))
    X = torch.from_numpy(stream(7, "queries").random((30, 2)))
    few = IntegratedLogExpectedImprovement(model, best, pending, rng=stream(1)).value(X)
    many = IntegratedLogExpectedImprovement(
        model, best, pending, rng=stream(2), n_fantasies=4096
    ).value(X)
    top = many.argsort(descending=True)[:8]
    torch.testing.assert_close(few[top], many[top], rtol=0.0, atol=0.2)


def test_a_pending_point_is_not_worth_repeating() -> None:
    model = model_of(Kernel.RBF)
    best = incumbent_value(model, is_noisy=False)
    X = torch.from_numpy(stream(8, "queries").random((300, 2)))
    plain = LogExpectedImprovement(model, best)
    top = X[plain.value(X).argmax()][None]
    waiting = IntegratedLogExpectedImprovement(model, best, top.numpy(), rng=stream(3))
    assert float(waiting.value(top)) < float(plain.value(top)) - 1.0


def test_a_far_pending_point_changes_little() -> None:
    model = model_of(Kernel.RBF)
    best = incumbent_value(model, is_noisy=False)
    worst = model.X[[int(np.argmin(model.y))]]  # known already, and bad
    X = torch.from_numpy(stream(8, "queries").random((50, 2)))
    plain = LogExpectedImprovement(model, best).value(X)
    waiting = IntegratedLogExpectedImprovement(model, best, worst, rng=stream(3)).value(X)
    top = plain.argsort(descending=True)[:10]
    torch.testing.assert_close(plain[top], waiting[top], rtol=0.0, atol=0.1)


def test_the_model_is_left_as_it_was() -> None:
    model = model_of(Kernel.RBF)
    before = model.posterior.inverse_factor.clone()
    IntegratedLogExpectedImprovement(model, 0.0, np.full((40, 2), 0.3), rng=stream(0))
    assert model.posterior.n == 12
    assert torch.equal(before, model.posterior.inverse_factor)


def test_a_pending_point_is_expected_to_be_as_uncertain_as_the_others() -> None:
    """Reported noise counts as learned noise of the same size does."""
    learned = model_of(Kernel.RBF, noise=0.8)
    theta = learned.hyperparameters.theta.copy()
    variance = np.exp(theta[0, -2]) - LEAST
    theta[0, -2] = np.log(LEAST)
    slope = float(learned.warp.slope(learned.y[:1])[0])
    reported = GPModel.restored(
        (continuous(),) * 2,
        learned.X,
        learned.y,
        hyperparameters=Hyperparameters(theta, learned.n),
        noise_sd=np.full(learned.n, np.sqrt(variance) / slope),
        settings=learned.settings,
    )
    pending = stream(1, "one").random((2, 2))
    X = torch.from_numpy(stream(2, "queries").random((30, 2)))
    best = incumbent_value(learned, is_noisy=True)
    one, other = (
        IntegratedLogExpectedImprovement(
            model, best, pending, rng=stream(3), is_augmented=True
        ).value(X)
        for model in (learned, reported)
    )
    torch.testing.assert_close(one, other, rtol=0.0, atol=1e-6)


def test_with_much_noise_the_incumbent_of_a_fantasy_is_a_mean_not_a_lucky_draw() -> None:
    """Exact for one pending point: integrate over its noisy result by quadrature."""
    model = model_of(Kernel.RBF, noise=0.8)
    best = float(incumbent_value(model, is_noisy=True)[0])
    pending = stream(1, "one").random((1, 2))
    x = stream(2, "one").random((1, 2))
    acquisition = IntegratedLogExpectedImprovement(
        model, best, pending, rng=stream(3), n_fantasies=4096
    )
    mean, cov = (
        t[0].numpy()
        for t in model.posterior.predict_jointly(torch.from_numpy(np.concatenate([pending, x])))
    )
    noise = float(model.posterior.members.noise[0])
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    shift = nodes * np.sqrt(cov[0, 0] + noise)
    gain = cov[:, 0] / (cov[0, 0] + noise)
    sd = np.sqrt(cov[1, 1] - cov[0, 1] ** 2 / (cov[0, 0] + noise))
    reached = np.maximum(best, mean[0] + gain[0] * shift)
    z = (mean[1] + gain[1] * shift - reached) / sd
    expected = weights @ (sd * (norm.pdf(z) + z * norm.cdf(z)))
    value = float(acquisition.value(torch.from_numpy(x)).exp())
    assert value == pytest.approx(float(expected), rel=0.01)
