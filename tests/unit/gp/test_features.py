import math

import numpy as np
import pytest
import torch

from bbopt.gp import FeatureMap
from tests.unit.search.fake_spaces import categorical, continuous, ordered

MIXED = (continuous(), categorical(3), continuous(periodic=True), ordered(4))


def rows(*values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_plain_columns_are_their_own_features() -> None:
    plain = FeatureMap((continuous(), ordered(3)))
    X = rows([0.1, 0.5])
    assert plain.is_identity
    assert plain.features(X) is X


def test_every_feature_knows_the_length_scale_of_its_column() -> None:
    assert FeatureMap(MIXED).group.tolist() == [0, 1, 1, 1, 2, 2, 3]


def test_two_different_levels_of_a_categorical_are_at_distance_one() -> None:
    features = FeatureMap((categorical(5),)).features(rows([0.1], [0.3], [0.9]))
    distances = torch.cdist(features, features)
    expected = torch.ones(3, 3, dtype=torch.float64) - torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(distances, expected, atol=1e-12, rtol=0.0)


def test_a_periodic_column_closes_and_keeps_small_distances() -> None:
    features = FeatureMap((continuous(periodic=True),)).features(rows([0.0], [1.0], [1e-4]))
    assert float((features[0] - features[1]).norm()) < 1e-15
    assert float((features[0] - features[2]).norm()) == pytest.approx(1e-4, rel=1e-6)


def test_the_chain_rule_agrees_with_finite_differences() -> None:
    feature_map = FeatureMap(MIXED)
    generator = np.random.default_rng(0)
    X = torch.from_numpy(generator.random((6, 4)))
    X[:, 1] = (X[:, 1] * 3).floor() / 3 + 1 / 6
    weights = torch.from_numpy(generator.standard_normal((6, feature_map.n_features)))
    analytic = feature_map.pull_back(X, weights)
    for j in (0, 2, 3):
        step = torch.zeros(4, dtype=torch.float64)
        step[j] = 1e-6
        rise = feature_map.features(X + step) - feature_map.features(X - step)
        numeric = (rise * weights).sum(1) / 2e-6
        torch.testing.assert_close(analytic[:, j], numeric, atol=1e-8, rtol=1e-8)
    assert (analytic[:, 1] == 0.0).all()


def test_one_hot_features_follow_the_level_not_the_position() -> None:
    feature_map = FeatureMap((categorical(4),))
    assert torch.equal(feature_map.features(rows([0.0])), feature_map.features(rows([0.24])))
    top = feature_map.features(rows([1.0]))[0]
    assert top.tolist() == [0.0, 0.0, 0.0, math.sqrt(0.5)]
