import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from bbopt.acquisition import (
    CrashAversion,
    LogExpectedImprovement,
    LogProbabilityOfFeasibility,
    LogProbabilityOfSuccess,
    SumOfLogs,
    constrained,
    search_for_feasibility,
)
from bbopt.gp import GPModel, GPSettings, WarpKind
from bbopt.numerics import stream
from tests.unit.search.fake_spaces import continuous

PLAIN = (continuous(), continuous())


def model_of(warp: WarpKind, n: int = 15) -> GPModel:
    X = stream(n, "feasibility").random((n, 2))
    y = (
        np.where(X[:, 0] > 0.5, 1.0, -1.0)
        if warp is WarpKind.IDENTITY
        else 40 * (X[:, 0] - 0.6)
    )
    model = GPModel(PLAIN, GPSettings(warp=warp))
    model.observe(X, y)
    model.refit()
    return model


def queries() -> torch.Tensor:
    return torch.from_numpy(stream(0, "queries").random((60, 2)))


def test_feasibility_is_the_mixture_of_normal_tails() -> None:
    model, Q = model_of(WarpKind.BILOG), queries()
    mean, variance = (t.numpy() for t in model.posterior.predict(Q))
    expected = model.weights @ norm.cdf(-mean / np.sqrt(variance))
    value = LogProbabilityOfFeasibility(model).value(Q).exp().numpy()
    np.testing.assert_allclose(value, expected, atol=2e-4)


def test_a_threshold_is_in_the_unit_of_the_metric() -> None:
    model, Q = model_of(WarpKind.BILOG), queries()
    strict = LogProbabilityOfFeasibility(model, threshold=-10.0).value(Q)
    loose = LogProbabilityOfFeasibility(model, threshold=10.0).value(Q)
    assert bool((strict <= loose).all())
    boundary = torch.tensor([[0.6 + 10 / 40, 0.5]], dtype=torch.float64)
    near = LogProbabilityOfFeasibility(model, threshold=10.0).value(boundary).exp()
    assert 0.05 < float(near) < 0.95


def test_a_certain_crash_has_a_finite_price() -> None:
    model = model_of(WarpKind.IDENTITY, 40)
    crashed, worked = (model.X[model.y == label] for label in (-1.0, 1.0))
    acquisition = LogProbabilityOfSuccess(model)
    price = acquisition.value(torch.from_numpy(crashed))
    assert math.log(1e-4) - 1e-9 <= float(price.min())
    assert float(price.max()) < math.log(0.02)
    assert float(acquisition.value(torch.from_numpy(worked)).min()) > math.log(0.98)


def test_where_everything_worked_success_is_certain() -> None:
    model = GPModel(PLAIN, GPSettings(warp=WarpKind.IDENTITY))
    X = stream(1, "all").random((10, 2))
    model.observe(X, np.ones(10))
    model.refit()
    assert float(LogProbabilityOfSuccess(model).value(queries()).exp().min()) > 0.99


def test_a_search_avoids_what_mostly_crashes_more_than_its_probability_says() -> None:
    model = model_of(WarpKind.IDENTITY, 40)
    Q = queries()
    probability = LogProbabilityOfSuccess(model, has_noise=False).value(Q)
    aversion = CrashAversion(model).value(Q)
    is_likely = probability >= math.log(0.3)
    assert bool(is_likely.any())
    assert bool((~is_likely).any())
    assert torch.equal(aversion[is_likely], probability[is_likely])
    assert bool((aversion[~is_likely] < probability[~is_likely]).all())


def test_a_constrained_improvement_is_the_sum_of_its_parts() -> None:
    objective, constraint, crash = (
        model_of(w) for w in (WarpKind.HALF_RANK, WarpKind.BILOG, WarpKind.IDENTITY)
    )
    improvement, Q = LogExpectedImprovement(objective, 0.2), queries()
    whole = constrained(improvement, constraints=[constraint, constraint], success=crash)
    expected = (
        improvement.value(Q)
        + 2 * LogProbabilityOfFeasibility(constraint).value(Q)
        + CrashAversion(crash).value(Q)
    )
    torch.testing.assert_close(whole.value(Q), expected, rtol=1e-12, atol=1e-12)
    assert constrained(improvement) is improvement


def test_the_search_for_feasibility_prefers_the_feasible_side() -> None:
    acquisition = search_for_feasibility([model_of(WarpKind.BILOG)])
    ends = torch.tensor([[0.1, 0.5], [0.9, 0.5]], dtype=torch.float64)
    left, right = acquisition.value(ends).tolist()
    assert left > right + 2.0


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        SumOfLogs([])
    with pytest.raises(ValueError, match="floor"):
        LogProbabilityOfSuccess(model_of(WarpKind.IDENTITY), floor=0.0)
