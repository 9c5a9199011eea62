import math

import numpy as np
import pytest
from scipy.stats import lognorm, norm

from bbopt.gp import FixedNoise, HyperPriors, LearnedNoise, LogNormalPrior
from bbopt.gp.priors import CATEGORY_SCALE
from bbopt.numerics import stream


def test_with_the_jacobian_it_is_the_lognormal_density_of_the_value() -> None:
    u = np.array([-1.3, 0.2])
    value, _ = LogNormalPrior(0.4, 1.7, has_jacobian=True).log_density(u)
    expected = lognorm(s=1.7, scale=math.exp(0.4)).logpdf(np.exp(u)).sum()
    assert value == pytest.approx(expected)


def test_without_the_jacobian_it_is_the_normal_density_of_the_logarithm() -> None:
    u = np.array([-1.3, 0.2])
    value, _ = LogNormalPrior(0.4, 1.7, has_jacobian=False).log_density(u)
    assert value == pytest.approx(norm(0.4, 1.7).logpdf(u).sum())


@pytest.mark.parametrize("noise", [LearnedNoise(), FixedNoise(1e-4)])
def test_the_joint_density_is_the_sum_of_its_parts(noise: LearnedNoise | FixedNoise) -> None:
    priors = HyperPriors(3, noise)
    thetas = stream(0, "theta").normal(size=(4, 5))
    values, gradients = priors.log_density(thetas)
    for theta, value, gradient in zip(thetas, values, gradients, strict=True):
        parts = [
            priors.length_scale_prior.log_density(theta[:3]),
            noise.prior.log_density(theta[3:4])
            if isinstance(noise, LearnedNoise)
            else (0.0, np.zeros(1)),
            priors.output_scale.log_density(theta[4:]),
        ]
        assert value == pytest.approx(sum(float(part[0]) for part in parts))
        np.testing.assert_allclose(gradient, np.concatenate([part[1] for part in parts]))


def test_the_gradient_agrees_with_finite_differences() -> None:
    priors = HyperPriors(2)
    theta = stream(1, "theta").normal(size=4)
    _, gradient = priors.log_density(theta)
    for i in range(4):
        step = 1e-6 * np.eye(4)[i]
        rise = priors.log_density(theta + step)[0] - priors.log_density(theta - step)[0]
        assert gradient[i] == pytest.approx(float(rise) / 2e-6, rel=1e-6)


def test_the_mode_is_where_the_density_is_highest() -> None:
    priors = HyperPriors(2)
    _, gradient = priors.log_density(priors.mode())
    np.testing.assert_allclose(gradient, 0.0, atol=1e-9)


@pytest.mark.parametrize("noise", [LearnedNoise(), LearnedNoise(1e-2), FixedNoise(1e-5)])
def test_the_mode_lies_inside_the_bounds(noise: LearnedNoise | FixedNoise) -> None:
    priors = HyperPriors(50, noise)
    lower, upper = priors.bounds()
    assert ((priors.mode() >= lower) & (priors.mode() <= upper)).all()


def test_length_scales_grow_with_the_dimension() -> None:
    def typical(d: int) -> float:
        return math.exp(HyperPriors(d).mode()[0])

    assert typical(100) == pytest.approx(10.0 * typical(1))


@pytest.mark.parametrize(
    "build",
    [
        lambda: LogNormalPrior(0.0, 0.0, has_jacobian=True),
        lambda: LogNormalPrior(math.nan, 1.0, has_jacobian=True),
        lambda: LearnedNoise(0.0),
        lambda: FixedNoise(0.0),
        lambda: HyperPriors(0),
    ],
)
def test_a_prior_that_is_none_is_refused(build: object) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=r".+"):
        build()


def test_categories_have_a_prior_of_their_own() -> None:
    priors = HyperPriors(3, is_category=(False, True, False))
    plain = HyperPriors(3)
    assert priors.length_scale_priors()[1] == CATEGORY_SCALE
    assert priors.length_scale_priors()[0] == plain.length_scale_prior
    mode = priors.mode()
    assert mode[1] == CATEGORY_SCALE.log_mode
    np.testing.assert_array_equal(mode[[0, 2, 3, 4]], plain.mode()[[0, 2, 3, 4]])
    _, gradient = priors.log_density(mode)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-9)


def test_without_one_categories_are_like_all_others() -> None:
    priors = HyperPriors(2, is_category=(True, False), category_scale=None)
    theta = stream(2, "theta").normal(size=4)
    assert priors.log_density(theta)[0] == HyperPriors(2).log_density(theta)[0]


def test_every_length_scale_is_named_or_none() -> None:
    with pytest.raises(ValueError, match="is_category"):
        HyperPriors(3, is_category=(True,))
