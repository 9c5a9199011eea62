"""The search on real spaces, through the real codec."""

import numpy as np
import pytest
import torch

from bbopt.acquisition import LogExpectedImprovement, incumbent_value
from bbopt.gp import GPModel
from bbopt.numerics import stream
from bbopt.search import Found, SearchSettings, maximise
from bbopt.space import Bool, Categorical, Exclude, Float, Int, Linear, Ordinal, Simplex, Space
from bbopt.space.codec import Codec
from bbopt.space.conditions import Equals
from bbopt.space.parameters import Scale

SPACES = {
    "mixed, conditional": Space(
        (
            Float("lr", 1e-5, 1.0, scale=Scale.LOG),
            Int("layers", 1, 12),
            Int("width", 8, 4096, scale=Scale.LOG),
            Categorical("optimizer", ("sgd", "adam", "lion")),
            Float("momentum", 0.0, 0.99, active_if=Equals("optimizer", ("sgd",))),
            Bool("nesterov"),
            Ordinal("batch", (16, 32, 64, 128)),
            Float("angle", 0.0, 360.0, periodic=True),
        )
    ),
    "linear": Space(
        (Float("a", 0.0, 2.0), Float("b", -1.0, 1.0), Float("c", 0.0, 1.0), Int("k", 0, 3)),
        constraints=(
            Linear({"a": 1.0, "b": 2.0}, upper=1.0),
            Linear({"c": 1.0, "k": 0.5}, upper=1.6),
        ),
    ),
    "simplex": Space(
        tuple(Float(name, 0.0, 1.0) for name in "wxyz"),
        constraints=(Simplex(("w", "x", "y", "z"), total=1.0),),
    ),
    "excluded": Space(
        (Float("x", 0.0, 1.0), Categorical("c", ("p", "q", "r"))),
        constraints=(Exclude((Equals("c", ("q",)),)),),
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_whole_asks_are_canonical_feasible_new_and_beat_every_sample(name: str) -> None:
    codec = Codec(SPACES[name])
    X = codec.sample(stream(0, name), 12)
    weights = np.cos(np.arange(codec.dim))
    model = GPModel(codec.columns)
    model.observe(X, np.sin(4.0 * X) @ weights)
    optima = np.empty((0, codec.dim))
    for ask in range(6):
        model.refit_if_due()
        rng = stream(1, name, ask)
        acquisition = LogExpectedImprovement(model, incumbent_value(model, is_noisy=False))
        result = maximise(
            acquisition,
            codec,
            rng,
            incumbents=model.X[np.argsort(-model.y)[:5]],
            taken=model.X,
            warm_starts=optima[:3],
            length_scales=model.length_scales,
            settings=SearchSettings.small(),
        )
        assert isinstance(result, Found)
        x = result.x[None]
        assert (codec.snap(x) == x).all()
        assert codec.is_feasible(x)[0]
        assert (codec.encode(codec.decode(result.x)) == result.x).all()
        assert np.abs(model.X - x).max(axis=1).min() > 1e-6
        others = codec.sample(stream(2, name, ask), 500)
        assert result.value >= float(acquisition.value(torch.from_numpy(others)).max()) - 1e-9
        optima = result.optima
        model.observe(result.x, float(np.sin(4.0 * result.x) @ weights))


@pytest.mark.parametrize("name", ["linear", "simplex"])
def test_linear_constraints_hold_to_a_billionth(name: str) -> None:
    codec = Codec(SPACES[name])
    assert codec.polytope is not None
    X = codec.sample(stream(3, name), 15)
    model = GPModel(codec.columns)
    model.observe(X, X @ np.arange(1.0, codec.dim + 1.0))  # pushes against the constraints
    model.refit()
    result = maximise(
        LogExpectedImprovement(model, incumbent_value(model, is_noisy=False)),
        codec,
        stream(4, name),
        incumbents=X[:3],
        taken=X,
        length_scales=model.length_scales,
    )
    assert isinstance(result, Found)
    assert codec.polytope.violation(result.x[None])[0] <= 1e-9
