import numpy as np
import pytest

from bbopt.numerics import stream
from bbopt.numerics.sobol import shifted_sobol, sobol_pool


@pytest.mark.parametrize("n", [0, 1, 17, 64, 512, 4096])
def test_shifted_points_stay_in_the_cube_and_replay(n: int) -> None:
    points = shifted_sobol(5, n, stream(0, n))
    assert points.shape == (n, 5)
    assert ((points >= 0.0) & (points < 1.0)).all()
    assert (points == shifted_sobol(5, n, stream(0, n))).all()


def test_shifted_points_are_more_even_than_random_ones() -> None:
    points = shifted_sobol(4, 256, stream(1))
    # Every sixteenth of every axis holds 16 of 256 balanced points; a shift moves at most one
    # in or out at each end, binomial scatter would be +-4.
    for column in points.T:
        counts = np.histogram(column, bins=16, range=(0.0, 1.0))[0]
        assert np.abs(counts - 16).max() <= 2


def test_the_pool_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        sobol_pool(2)[0] = 0.5
