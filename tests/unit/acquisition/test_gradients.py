"""Every acquisition against finite differences, on plain and mixed columns."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bbopt.acquisition import (
    Acquisition,
    CrashAversion,
    IntegratedLogExpectedImprovement,
    LogExpectedImprovement,
    LogProbabilityOfFeasibility,
    LogProbabilityOfSuccess,
    WithCuriosity,
    constrained,
    incumbent_value,
    search_for_feasibility,
)
from bbopt.gp import GPModel, GPSettings, WarpKind
from bbopt.numerics import stream
from tests.unit.search.fake_spaces import FakeColumn, categorical, continuous, ordered

PLAIN = (continuous(), continuous(), continuous())
MIXED = (continuous(), categorical(3), continuous(periodic=True), ordered(4))
Build = Callable[[GPModel, GPModel, GPModel], Acquisition]


def models(columns: tuple[FakeColumn, ...], n: int = 14) -> tuple[GPModel, GPModel, GPModel]:
    """An objective, a constraint and a crash model with some noise, so that nothing is
    extreme."""
    X = stream(n, "gradients").random((n, len(columns)))
    noise = 0.1 * stream(n, "noise").standard_normal(n)
    values = np.sin(5.0 * X[:, 0]) + X[:, 1] + noise
    out = []
    for warp, y in (
        (WarpKind.HALF_RANK, values),
        (WarpKind.BILOG, values - 0.8),
        (WarpKind.IDENTITY, np.where(X[:, 0] > 0.4, 1.0, -1.0)),
    ):
        model = GPModel(columns, GPSettings(warp=warp))
        model.observe(X, y)
        model.refit()
        out.append(model)
    return out[0], out[1], out[2]


def pending_rows(model: GPModel) -> np.ndarray:
    return stream(0, "pending").random((3, model.feature_map.n_columns))


def log_ei(model: GPModel, *_: GPModel) -> Acquisition:
    return LogExpectedImprovement(model, incumbent_value(model, is_noisy=False))


BUILDERS: dict[str, Build] = {
    "log EI": log_ei,
    "log EI, noisy": lambda m, *_: LogExpectedImprovement(m, incumbent_value(m, is_noisy=True)),
    "integrated log EI": lambda m, *_: IntegratedLogExpectedImprovement(
        m, incumbent_value(m, is_noisy=False), pending_rows(m), rng=stream(1)
    ),
    "log EI, augmented": lambda m, *_: LogExpectedImprovement(
        m, incumbent_value(m, is_noisy=True), is_augmented=True
    ),
    "integrated log EI, augmented": lambda m, *_: IntegratedLogExpectedImprovement(
        m,
        incumbent_value(m, is_noisy=True),
        pending_rows(m),
        rng=stream(1),
        is_augmented=True,
    ),
    "log feasibility": lambda _, c, __: LogProbabilityOfFeasibility(c),
    "log success": lambda _, __, s: LogProbabilityOfSuccess(s),
    "crash aversion": lambda _, __, s: CrashAversion(s),
    "curiosity": lambda _, c, __: WithCuriosity(LogProbabilityOfFeasibility(c), 0.3),
    "constrained": lambda m, c, s: constrained(log_ei(m), constraints=[c, c], success=s),
    "search for feasibility": lambda _, c, s: search_for_feasibility([c], success=s),
}


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("columns", [PLAIN, MIXED], ids=["plain", "mixed"])
def test_the_gradient_agrees_with_finite_differences(
    name: str, columns: tuple[FakeColumn, ...]
) -> None:
    acquisition = BUILDERS[name](*models(columns))
    Q = torch.from_numpy(stream(2, "queries").random((12, len(columns))))
    value, gradient = acquisition.value_and_gradient(Q)
    torch.testing.assert_close(value, acquisition.value(Q), rtol=1e-10, atol=1e-10)
    for j, column in enumerate(columns):
        if column.kind.name == "CATEGORICAL":
            assert (gradient[:, j] == 0.0).all()
            continue
        step = torch.zeros(len(columns), dtype=torch.float64)
        step[j] = 1e-6
        numeric = (acquisition.value(Q + step) - acquisition.value(Q - step)) / 2e-6
        torch.testing.assert_close(gradient[:, j], numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("n", [1, 2])
def test_values_are_finite_with_hardly_any_data_and_at_the_data(name: str, n: int) -> None:
    trio = models(PLAIN, n)
    acquisition = BUILDERS[name](*trio)
    at = torch.from_numpy(np.concatenate([trio[0].X, np.eye(3), np.full((1, 3), 0.5)]))
    value, gradient = acquisition.value_and_gradient(at)
    assert bool(torch.isfinite(value).all())
    assert bool(torch.isfinite(gradient).all())
