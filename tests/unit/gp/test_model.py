import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bbopt.gp import (
    FixedNoise,
    GPModel,
    GPSettings,
    Hyperparameters,
    Kernel,
    RefitSchedule,
    WarpKind,
)
from bbopt.numerics import stream
from tests.unit.search.fake_spaces import FakeColumn, categorical, continuous, ordered

Array = NDArray[np.float64]
PLAIN = (continuous(), continuous())
MIXED = (continuous(), categorical(3), continuous(periodic=True), ordered(4))


def data(n: int, columns: tuple[FakeColumn, ...] = PLAIN, seed: int = 0) -> tuple[Array, Array]:
    X = stream(seed, "model", n).random((n, len(columns)))
    return X, np.sin(5.0 * X[:, 0]) + (X[:, 1] - 0.3) ** 2


@pytest.mark.parametrize("columns", [PLAIN, MIXED])
@pytest.mark.parametrize("noise", [None, 0.1])
def test_a_rebuilt_model_equals_the_live_one_bit_for_bit(
    columns: tuple[FakeColumn, ...], noise: float | None
) -> None:
    X, y = data(75, columns)
    sd = None if noise is None else np.full(75, noise)
    live = GPModel(columns)
    for i in range(75):
        live.observe(X[i], y[i], None if sd is None else sd[i])
        if i in (4, 20, 33):
            live.refit()
    stored = live.hyperparameters
    assert stored.n_fitted == 34
    rebuilt = GPModel.restored(columns, X, y, hyperparameters=stored, noise_sd=sd)
    assert torch.equal(live.posterior.inverse_factor, rebuilt.posterior.inverse_factor)
    assert torch.equal(live.posterior.alpha, rebuilt.posterior.alpha)
    assert (live.weights == rebuilt.weights).all()
    Q = data(9, columns, seed=1)[0]
    assert (live.predict(Q).mean == rebuilt.predict(Q).mean).all()
    assert (live.predict(Q).sd == rebuilt.predict(Q).sd).all()
    live.refit()
    rebuilt.refit()
    assert (live.hyperparameters.theta == rebuilt.hyperparameters.theta).all()


def test_observing_in_one_go_equals_row_by_row() -> None:
    X, y = data(40)
    together, apart = GPModel(PLAIN), GPModel(PLAIN)
    together.observe(X, y)
    for row, value in zip(X, y, strict=True):
        apart.observe(row, value)
    assert torch.equal(together.posterior.alpha, apart.posterior.alpha)


@pytest.mark.parametrize(
    ("warp", "error"), [(WarpKind.STANDARDISE, 0.01), (WarpKind.HALF_RANK, 0.06)]
)
def test_a_model_learns_a_smooth_function(warp: WarpKind, error: float) -> None:
    X, y = data(40)
    model = GPModel(PLAIN, GPSettings(warp=warp))
    model.observe(X, y)
    model.refit_if_due()
    Q, truth = data(50, seed=2)
    prediction = model.predict(Q)
    assert np.sqrt(np.mean((prediction.mean - truth) ** 2)) < error * truth.std()
    z = (truth - prediction.mean) / prediction.sd
    assert np.mean(np.abs(z) < 3.0) > 0.85


def test_hyperparameters_are_never_fitted_twice_for_the_same_data() -> None:
    model = GPModel(PLAIN)
    assert not model.refit_if_due()
    model.observe(*data(5))
    assert model.refit_if_due()
    assert not model.refit_if_due()


def test_an_irrelevant_column_gets_a_long_length_scale() -> None:
    X = stream(0, "irrelevant").random((40, 2))
    model = GPModel(PLAIN)
    model.observe(X, np.sin(6.0 * X[:, 0]))
    model.refit()
    assert model.length_scales[1] > 5.0 * model.length_scales[0]


def test_a_categorical_column_is_learned() -> None:
    columns = (continuous(), categorical(4))
    X = stream(0, "categorical").random((60, 2))
    level = np.floor(X[:, 1] * 4).astype(int)
    X[:, 1] = (level + 0.5) / 4
    offset = np.array([0.0, 3.0, -2.0, 1.0])
    model = GPModel(columns, GPSettings(warp=WarpKind.STANDARDISE))
    model.observe(X, np.sin(3.0 * X[:, 0]) + offset[level])
    model.refit()
    Q = np.column_stack([np.full(4, 0.5), (np.arange(4) + 0.5) / 4])
    np.testing.assert_allclose(model.predict(Q).mean, np.sin(1.5) + offset, atol=0.1)


@pytest.mark.parametrize("factor", [1e-300, 1e-12, 1.0, 1e12, 1e300])
@pytest.mark.parametrize("warp", [WarpKind.HALF_RANK, WarpKind.STANDARDISE, WarpKind.BILOG])
def test_predictions_scale_with_the_unit(factor: float, warp: WarpKind) -> None:
    X, y = data(12)
    reference, model = (
        GPModel(PLAIN, GPSettings(warp=warp)),
        GPModel(PLAIN, GPSettings(warp=warp)),
    )
    y = y / np.abs(y).max()
    reference.observe(X, y)
    model.observe(X, y * factor)
    reference.refit()
    model.refit()
    Q = data(5, seed=3)[0]
    np.testing.assert_allclose(
        model.predict(Q).mean / factor, reference.predict(Q).mean, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(
        model.predict(Q).sd / factor, reference.predict(Q).sd, rtol=2e-2, atol=1e-3
    )


@pytest.mark.parametrize("warp", list(WarpKind))
@pytest.mark.parametrize(
    "y",
    [[0.0], [5.0], [1.0, 1.0, 1.0], [0.0, 0.0, -1e300], [1e-300, 2e-300, 0.0], [-1.0, 1.0]],
)
def test_awkward_values_never_make_a_nan(warp: WarpKind, y: list[float]) -> None:
    if warp is WarpKind.IDENTITY and max(map(abs, y)) > 1e6:
        pytest.skip("identity is for labels")
    model = GPModel(PLAIN, GPSettings(warp=warp))
    model.observe(data(len(y))[0], y)
    model.refit_if_due()
    prediction = model.predict(data(6)[0])
    assert np.isfinite(prediction.mean).all()
    assert (np.isfinite(prediction.sd) & (prediction.sd >= 0.0)).all()
    assert np.isfinite(model.weights).all()


def test_repeated_points_with_different_values_average() -> None:
    model = GPModel(PLAIN, GPSettings(warp=WarpKind.STANDARDISE))
    X = np.repeat(data(8)[0], 5, axis=0)
    y = np.tile([-1.0, -0.5, 0.0, 0.5, 1.0], 8)
    model.observe(X, y)
    model.refit()
    assert np.abs(model.predict(X).mean).max() < 0.2


def test_known_noise_is_respected() -> None:
    X, y = data(30)
    noisy = y + 0.5 * stream(0, "noise").standard_normal(30) * (X[:, 0] > 0.5)
    settings = GPSettings(warp=WarpKind.STANDARDISE, noise=FixedNoise(1e-6))
    model = GPModel(PLAIN, settings)
    model.observe(X, noisy, 0.5 * (X[:, 0] > 0.5))
    model.refit()
    sd = model.predict(X).sd
    assert sd[X[:, 0] > 0.5].min() > 5.0 * np.median(sd[X[:, 0] < 0.4])


def test_a_constraint_keeps_its_sign() -> None:
    X, y = data(30)
    model = GPModel(PLAIN, GPSettings(warp=WarpKind.BILOG))
    model.observe(X, 1e3 * (y - 0.5))
    model.refit()
    assert model.target(0.0) == 0.0
    agree = np.sign(model.predict(X).mean) == np.sign(y - 0.5)
    assert agree.mean() > 0.95


def test_the_evidence_prefers_the_kernel_that_made_the_data() -> None:
    rng = stream(3, "smooth")
    X = rng.random((60, 1))
    model = GPModel((continuous(),), GPSettings(warp=WarpKind.STANDARDISE))
    model.observe(X, np.sin(7.0 * X[:, 0]) + np.cos(3.0 * X[:, 0]))
    model.refit()
    assert model.weights[1] > 0.99  # the squared exponential
    rough = GPModel((continuous(),), GPSettings(warp=WarpKind.STANDARDISE))
    rough.observe(X, np.abs(np.sin(9.0 * X[:, 0])))
    rough.refit()
    assert rough.weights[0] > 0.99  # the Matern
    posterior, log_weights, kept = rough.searchable()
    assert kept == [0]
    assert posterior.n_members == 1
    assert log_weights.tolist() == [0.0]


def test_bad_data_are_refused_before_anything_changes() -> None:
    model = GPModel(PLAIN)
    model.observe(*data(3))
    for X, y, sd in [
        (np.zeros((2, 2)), [1.0], None),
        (np.zeros((1, 2)), [np.nan], None),
        (np.full((1, 2), np.inf), [1.0], None),
        (np.zeros((1, 2)), [1.0], [-1.0]),
    ]:
        with pytest.raises(ValueError, match=r"rows|finite|negative"):
            model.observe(X, y, sd)
    assert model.n == 3
    assert model.posterior.n == 3


def test_foreign_hyperparameters_are_refused() -> None:
    X, y = data(5)
    with pytest.raises(ValueError, match="theta"):
        GPModel.restored(PLAIN, X, y, hyperparameters=Hyperparameters(np.zeros((2, 3)), 2))
    with pytest.raises(ValueError, match="fitted on 9"):
        GPModel.restored(PLAIN, X, y, hyperparameters=Hyperparameters(np.zeros((2, 4)), 9))


def test_one_kernel_is_an_ensemble_of_one() -> None:
    model = GPModel(
        PLAIN, GPSettings(kernels=(Kernel.RBF,), schedule=RefitSchedule(cold_every=5))
    )
    model.observe(*data(10))
    model.refit_if_due()
    assert model.weights.tolist() == [1.0]
    assert model.hyperparameters.theta.shape == (1, 4)
