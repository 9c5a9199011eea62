"""The explicit state against the bare package, and what a distribution may draw."""

import math
from dataclasses import replace

import numpy as np
import pytest
from cmaes import CMA, CMAwM
from numpy.typing import NDArray

from bbopt.numerics import stream
from bbopt.population.cma import (
    Coordinates,
    Distribution,
    Sampler,
    default_population,
    has_converged,
    update,
)

FloatArray = NDArray[np.float64]


def real(n: int) -> Coordinates:
    return Coordinates(np.tile([0.0, 1.0], (n, 1)), tuple(np.empty(0) for _ in range(n)))


def mixed() -> Coordinates:
    levels = (np.arange(8) / 8 + 1 / 16, np.empty(0), np.array([0.25, 0.75]))
    bounds = np.array([[1 / 16, 15 / 16], [0.0, 1.0], [0.25, 0.75]])
    return Coordinates(bounds, levels)


def value(x: FloatArray) -> float:
    return float(np.sum((x - 0.4) ** 2 * 10.0 ** np.arange(len(x))))


def generation(
    coordinates: Coordinates, distribution: Distribution, number: int, size: int
) -> list[tuple[FloatArray, float]]:
    """Draw and rank; the draws as they were, with the values of what is evaluated."""
    sampler = Sampler(coordinates, distribution)
    drawn = [sampler.draw(stream(1, number, slot)) for slot in range(size)]
    return sorted(((raw, value(x)) for x, raw in drawn), key=lambda each: each[1])


def same(distribution: Distribution, cma: CMA) -> bool:
    """Compare bit for bit; the package makes its covariance symmetric before it uses it."""
    return (
        distribution.sigma == cma._sigma
        and np.array_equal(distribution.mean, cma._mean)
        and np.array_equal(distribution.covariance, (cma._C + cma._C.T) / 2.0)
        and np.array_equal(distribution.path_sigma, cma._p_sigma)
        and np.array_equal(distribution.path_c, cma._pc)
    )


def test_the_default_population_is_the_packages() -> None:
    for n in (1, 2, 3, 10, 100):
        assert default_population(n) == CMA(np.zeros(n), 1.0).population_size


def test_updates_equal_those_of_the_bare_package_bit_for_bit() -> None:
    size, coordinates = 8, real(4)
    distribution = Distribution.start(np.full(4, 0.5), 0.2)
    bare = CMA(np.full(4, 0.5), 0.2, bounds=coordinates.bounds, population_size=size)
    for number in range(30):
        ranked = generation(coordinates, distribution, number, size)
        bare.tell([(x.copy(), y) for x, y in ranked])
        distribution = update(coordinates, distribution, [x for x, _ in ranked], size=size)
        assert same(distribution, bare)
    assert distribution.sigma < 0.1


def test_updates_with_a_margin_equal_those_of_the_bare_package() -> None:
    size, coordinates = 9, mixed()
    distribution = Distribution.start(np.full(3, 0.5), 0.2)
    bare = CMAwM(
        np.full(3, 0.5),
        0.2,
        bounds=coordinates.bounds,
        steps=np.array([1 / 8, 0.0, 1 / 2]),
        population_size=size,
    )
    for number in range(30):
        ranked = generation(coordinates, distribution, number, size)
        bare.tell([(x.copy(), y) for x, y in ranked])
        distribution = update(coordinates, distribution, [x for x, _ in ranked], size=size)
        assert same(distribution, bare._cma)
        assert np.array_equal(distribution.margin, bare._A)
    assert not np.array_equal(distribution.margin, np.ones(3))


def test_a_draw_depends_on_its_own_stream_alone() -> None:
    coordinates, distribution = mixed(), Distribution.start(np.full(3, 0.5), 0.3)
    first, second = Sampler(coordinates, distribution), Sampler(coordinates, distribution)
    first.draw(stream(1, "other"))
    for x, again in zip(first.draw(stream(7)), second.draw(stream(7)), strict=True):
        assert np.array_equal(x, again)
    assert not np.array_equal(first.draw(stream(7))[1], first.draw(stream(8))[1])


def test_draws_are_within_bounds_and_on_levels() -> None:
    coordinates, distribution = mixed(), Distribution.start(np.array([0.9, 0.99, 0.3]), 1.0)
    sampler = Sampler(coordinates, distribution)
    for index in range(200):
        x, _ = sampler.draw(stream(3, index))
        assert 0.0 <= x[1] <= 1.0
        assert x[0] in coordinates.levels[0]
        assert x[2] in coordinates.levels[2]


def test_a_mean_that_rounding_carried_out_of_bounds_can_be_continued() -> None:
    outside = Distribution.start(np.array([math.nextafter(1.0, 2.0), 0.5]), 0.1)
    x, _ = Sampler(real(2), outside).draw(stream(1))
    assert (x <= 1.0).all()


@pytest.mark.parametrize(
    ("change", "is_over"),
    [
        ({}, False),
        ({"sigma": 1e-13}, True),
        ({"sigma": 100.0}, True),
        ({"sigma": math.nan}, True),
        ({"covariance": np.diag([1.0, 1e-15])}, True),
        ({"covariance": np.diag([1.0, -1.0])}, True),
        ({"mean": np.array([0.5, math.inf])}, True),
    ],
)
def test_a_distribution_that_can_teach_nothing_more_has_converged(
    change: dict[str, object], is_over: bool
) -> None:
    start = Distribution.start(np.full(2, 0.5), 0.2)
    assert has_converged(real(2), replace(start, **change)) is is_over  # type: ignore[arg-type]
