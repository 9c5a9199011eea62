"""Conditioning on neighbours: exact where all are neighbours, and the same by every search."""

import numpy as np
import pytest
import torch

from bbopt.gp import GPModel, mixture_moments, neighbours
from bbopt.gp.neighbours import NearestRows, NeighbourPosterior, scales_of
from bbopt.numerics import stream
from bbopt.space import Codec, Float, Space

D = 3
COLUMNS = Codec(Space(tuple(Float(f"x{i}", 0.0, 1.0) for i in range(D)))).columns


def value(X: neighbours.Array) -> neighbours.Array:
    y: neighbours.Array = np.sin(3.0 * X).sum(axis=1)
    return y


def fitted(n: int, noise_sd: float = 0.0) -> GPModel:
    X = stream(n, "neighbours").random((n, D))
    model = GPModel(COLUMNS)
    model.observe(X, value(X), np.full(n, noise_sd))
    model.refit()
    return model


def on_all_rows(model: GPModel, n_in_tree: int) -> NeighbourPosterior:
    known = model.posterior._known_noise.numpy()
    return NeighbourPosterior(
        model,
        model.X,
        model.posterior.y.numpy(),
        noise_variances=known,
        nearest=NearestRows(model.X[:n_in_tree] * scales_of(model)),
    )


@pytest.mark.parametrize("n_in_tree", [1, 30, 50])
@pytest.mark.parametrize("noise_sd", [0.0, 0.2])
def test_with_all_rows_as_neighbours_the_posterior_is_exact(
    n_in_tree: int, noise_sd: float
) -> None:
    model = fitted(50, noise_sd)
    given_all = on_all_rows(model, n_in_tree)
    Q = torch.from_numpy(stream(1, "questions").random((70, D)))
    exact, _, _ = model.searchable()
    for found, expected in zip(given_all.predict(Q), exact.predict(Q), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_far_rows_hardly_matter() -> None:
    model = fitted(300)
    given_64 = on_all_rows(model, 300)
    X = stream(2, "questions").random((200, D))
    mean, _ = given_64.predict(torch.from_numpy(X))
    shares = given_64.log_weights.exp().numpy()
    found = mixture_moments(model.warp, mean, torch.zeros_like(mean), shares).mean
    error, exact = (np.abs(each - value(X)).mean() for each in (found, model.predict(X).mean))
    assert error < 2.0 * exact + 1e-3


def test_a_tree_and_a_comparison_with_all_rows_find_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = stream(3, "rows")
    Z, later, Q = rng.random((500, D)), rng.random((9, D)), rng.random((130, D))
    by_tree = NearestRows(Z).search(Q, later, 20)
    monkeypatch.setattr(neighbours, "MAX_TREE_DIMENSIONS", 0)
    by_comparison = NearestRows(Z).search(Q, later, 20)
    both = np.concatenate([Z, later])
    plain = np.argsort(((Q[:, None] - both) ** 2).sum(axis=2), axis=1)[:, :20]
    np.testing.assert_array_equal(by_tree, plain)
    np.testing.assert_array_equal(by_comparison, plain)
