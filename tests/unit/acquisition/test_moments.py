"""Read by numpy or by tensors, an acquisition is the same."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from bbopt.acquisition import (
    CrashAversion,
    IntegratedLogExpectedImprovement,
    LogExpectedImprovement,
    LogProbabilityOfFeasibility,
    LogProbabilityOfSuccess,
    SumOfLogs,
    WithCuriosity,
    moments,
)
from bbopt.acquisition.moments import MomentAcquisition
from bbopt.gp import GPModel, GPSettings, WarpKind
from bbopt.numerics import stream
from tests.unit.search.fake_spaces import FakeColumn, categorical, continuous, ordered

PLAIN = (continuous(), continuous(), continuous())
MIXED = (continuous(), categorical(3), continuous(periodic=True), ordered(4))
BUILDERS: dict[str, tuple[WarpKind, Callable[[GPModel], MomentAcquisition]]] = {
    "log EI": (WarpKind.HALF_RANK, lambda m: LogExpectedImprovement(m, 1.0)),
    "log EI, augmented": (
        WarpKind.STANDARDISE,
        lambda m: LogExpectedImprovement(m, 1.0, is_augmented=True),
    ),
    "log feasibility": (WarpKind.BILOG, LogProbabilityOfFeasibility),
    "log success": (WarpKind.IDENTITY, LogProbabilityOfSuccess),
    "crash aversion": (WarpKind.IDENTITY, CrashAversion),
    "curiosity": (
        WarpKind.BILOG,
        lambda m: WithCuriosity(LogProbabilityOfFeasibility(m, 0.2), 0.3),
    ),
}


def model(columns: tuple[FakeColumn, ...], warp: WarpKind, n: int) -> GPModel:
    X = stream(n, "moments").random((n, len(columns)))
    y = np.sin(5.0 * X[:, 0]) + X[:, 1] + 0.1 * stream(n, "noise").standard_normal(n) - 0.8
    found = GPModel(columns, GPSettings(warp=warp))
    found.observe(X, np.sign(y) if warp is WarpKind.IDENTITY else y)
    found.refit()
    return found


def read(acquisition: MomentAcquisition, X: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        value, gradient = acquisition.value_and_gradient(X)
        return [acquisition.value(X), acquisition.upper_bound(X), value, gradient]


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("n", [1, 30])
@pytest.mark.parametrize("columns", [PLAIN, MIXED], ids=["plain", "mixed"])
def test_numpy_and_tensors_agree(
    name: str, n: int, columns: tuple[FakeColumn, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    warp, build = BUILDERS[name]
    of = model(columns, warp, n)
    X = torch.from_numpy(stream(2, "queries").random((20, len(columns))))
    by_numpy = build(of)
    monkeypatch.setattr(moments, "read_on_host", lambda *_: None)
    by_tensors = build(of)
    assert by_numpy.reader.on_host is not None
    assert by_tensors.reader.on_host is None
    for a, b in zip(read(by_numpy, X), read(by_tensors, X), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("columns", [PLAIN, MIXED], ids=["plain", "mixed"])
def test_a_bound_holds_and_the_best_row_has_a_high_one(
    name: str, columns: tuple[FakeColumn, ...]
) -> None:
    warp, build = BUILDERS[name]
    of = model(columns, warp, 40)
    acquisition = build(of)
    rows = [stream(3, "queries").random((400, len(columns))), of.X]
    X = torch.from_numpy(np.concatenate(rows))
    value, bound = acquisition.value(X), acquisition.upper_bound(X)
    assert float((bound - value).min()) >= -1e-9
    assert int((bound > bound[value.argmax()]).sum()) < len(X) // 4


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("mean", [-3.0, -0.1, 0.0, 0.2, 5.0])
def test_a_bound_holds_for_every_smaller_variance(name: str, mean: float) -> None:
    warp, build = BUILDERS[name]
    acquisition = build(model(PLAIN, warp, 10))
    variances = np.logspace(-10.0, 0.0, 40) * np.ones((len(acquisition.reader.kept), 1))
    means = np.full_like(variances, mean)
    values = acquisition.of_moments(means, variances)[0]
    bounds = acquisition.of_bound(means, variances)
    assert (np.maximum.accumulate(values) <= bounds + 1e-12).all()


def test_a_sum_has_the_bound_of_its_parts_where_all_have_one() -> None:
    objective, constraint = (
        model(PLAIN, warp, 250) for warp in (WarpKind.HALF_RANK, WarpKind.BILOG)
    )
    parts = [LogExpectedImprovement(objective, 1.0), LogProbabilityOfFeasibility(constraint)]
    X = torch.from_numpy(stream(4, "queries").random((20, 3)))
    whole = SumOfLogs(parts)
    assert whole.does_bound_pay
    torch.testing.assert_close(whole.upper_bound(X), sum(p.upper_bound(X) for p in parts))
    unbounded = IntegratedLogExpectedImprovement(objective, 1.0, X[:1].numpy(), rng=stream(1))
    assert not SumOfLogs([*parts, unbounded]).does_bound_pay
    few = LogProbabilityOfFeasibility(model(PLAIN, WarpKind.BILOG, 60))
    assert not SumOfLogs([*parts, few]).does_bound_pay


@pytest.mark.parametrize("name", BUILDERS)
def test_extreme_moments_give_finite_values_and_derivatives(name: str) -> None:
    warp, build = BUILDERS[name]
    acquisition = build(model(PLAIN, warp, 10))
    n_members = len(acquisition.reader.kept)
    mean = np.tile(np.repeat([-1e4, -60.0, 0.0, 60.0, 1e4], 2), (n_members, 1))
    variance = np.tile([1e-13, 4.0], (n_members, 5))
    for found in acquisition.of_moments(mean, variance):
        assert np.isfinite(found).all()
    tensors = acquisition.of_moments(torch.from_numpy(mean), torch.from_numpy(variance))
    assert all(bool(torch.isfinite(found).all()) for found in tensors)


def test_below_the_likely_the_derivatives_are_those_of_three_times_the_value() -> None:
    of = model(PLAIN, WarpKind.IDENTITY, 10)
    aversion = CrashAversion(of)
    plain = LogProbabilityOfSuccess(of, has_noise=False)
    n_members = len(aversion.reader.kept)
    mean = np.tile([-2.0, -1.0, 0.0, 1.0], (n_members, 1))
    variance = np.full((n_members, 4), 0.3)
    for a, b in zip(
        aversion.of_moments(mean, variance)[1:],
        plain.of_moments(mean, variance)[1:],
        strict=True,
    ):
        is_likely = plain.of_moments(mean, variance)[0] >= math.log(0.3)
        assert is_likely.any()
        assert not is_likely.all()
        np.testing.assert_allclose(a, np.where(is_likely, 1.0, 3.0) * b, rtol=1e-14)
