"""Points without a model: in order, feasible, new."""

import numpy as np
import pytest
import torch
from torch.quasirandom import SobolEngine

from bbopt import Bool, Equals, Float, Int, Metric, Noise, Problem, Simplex, Space
from bbopt.numerics import stream
from bbopt.problem import Goal
from bbopt.space import Codec, Linear
from bbopt.strategies.candidates import Supply
from bbopt.strategies.strategy import StrategyContext
from bbopt.trial import Columns, Enqueued, NewTrial, Provenance

BOX = Space((Float("x", 0.0, 1.0), Float("y", 0.0, 1.0)))


def context(space: Space, noise: Noise = Noise.LEARNED, seed: int = 4) -> StrategyContext:
    problem = Problem(space, (Metric("value", goal=Goal.MINIMIZE, noise=noise),))
    codec = Codec(space)
    return StrategyContext(problem, codec, Columns(problem, codec), seed)


class TestSobol:
    def test_a_box_gets_the_scrambled_sequence_in_order(self) -> None:
        seed = int(stream(4, "sobol", "scramble").integers(2**31))
        expected = SobolEngine(2, scramble=True, seed=seed).draw(150, dtype=torch.float64)
        rows, counter = Supply(context(BOX)).take_sobol(150, 0)
        np.testing.assert_allclose(rows, expected.numpy(), atol=1e-12)
        assert counter == 150

    def test_the_sequence_goes_on_from_any_counter(self) -> None:
        whole, _ = Supply(context(BOX)).take_sobol(100, 0)
        supply = Supply(context(BOX))
        later, counter = supply.take_sobol(30, 70)
        earlier, _ = supply.take_sobol(5, 3)
        np.testing.assert_array_equal(later, whole[70:])
        np.testing.assert_array_equal(earlier, whole[3:8])
        assert counter == 100

    def test_infeasible_points_are_left_out_without_changing_the_order(self) -> None:
        half = Space(BOX.parameters, (Linear({"x": 1.0, "y": 1.0}, upper=1.0),))
        rows, counter = Supply(context(half)).take_sobol(50, 0)
        free, _ = Supply(context(BOX)).take_sobol(counter, 0)
        np.testing.assert_allclose(rows, free[free.sum(axis=1) <= 1.0][:50], atol=1e-12)

    def test_a_mixture_is_sampled_where_no_point_of_the_sequence_fits(self) -> None:
        mixture = Space(BOX.parameters, (Simplex(("x", "y")),))
        rows, counter = Supply(context(mixture)).take_sobol(20, 0)
        np.testing.assert_allclose(rows.sum(axis=1), 1.0)
        assert len(np.unique(rows, axis=0)) == 20
        assert counter == 20

    def test_a_tiny_region_is_reached_by_sampling(self) -> None:
        corner = Space(BOX.parameters, (Linear({"x": 1.0, "y": 1.0}, upper=1e-4),))
        rows, _ = Supply(context(corner)).take_sobol(5, 0)
        assert len(rows) == 5
        assert (rows.sum(axis=1) <= 1e-4 + 1e-12).all()

    def test_the_points_fill_space_more_evenly_than_chance(self) -> None:
        supply = Supply(context(BOX))
        even, _ = supply.take_sobol(64, 0)
        cells = {tuple(cell) for cell in np.floor(even * 8).astype(int)}
        by_chance = supply.take_random(64, "test", 0)
        assert len(cells) > len({tuple(cell) for cell in np.floor(by_chance * 8).astype(int)})


class TestDiscreteSpaces:
    SPACE = Space((Int("n", 1, 3), Bool("b")))

    @pytest.mark.parametrize("take", ["sobol", "random"])
    def test_every_point_comes_once_and_then_nothing(self, take: str) -> None:
        supply = Supply(context(self.SPACE, Noise.NONE))
        if take == "sobol":
            rows, _ = supply.take_sobol(9, 0)
        else:
            rows = supply.take_random(9, "test", 0)
        assert len(rows) == len(np.unique(rows, axis=0)) == 6

    def test_with_noise_points_come_again_after_all_have_come(self) -> None:
        supply = Supply(context(self.SPACE))
        rows, _ = supply.take_sobol(9, 0)
        assert len(np.unique(rows[:6], axis=0)) == 6
        assert len(rows) == 9

    def test_pending_points_are_not_handed_out_again(self) -> None:
        study = context(self.SPACE, Noise.NONE)
        point = {"n": 2, "b": True}
        study.columns.fold(Enqueued(NewTrial(1, point, Provenance("enqueued"))))
        rows, _ = Supply(study).take_sobol(9, 0)
        assert len(rows) == 5
        assert not (rows == study.codec.encode(point)).all(axis=1).any()

    def test_a_space_is_exhausted_only_without_noise(self) -> None:
        for noise, is_exhausted in ((Noise.NONE, True), (Noise.LEARNED, False)):
            study = context(self.SPACE, noise)
            number = 0
            for n in (1, 2, 3):
                for b in (True, False):
                    number += 1
                    trial = NewTrial(number, {"n": n, "b": b}, Provenance("enqueued"))
                    study.columns.fold(Enqueued(trial))
            assert Supply(study).is_exhausted() is is_exhausted


class TestConditionalReals:
    SPACE = Space(
        (Bool("deep"), Float("lr", 0, 1, active_if=Equals("deep", (True,))), Bool("b"))
    )

    @pytest.mark.parametrize("take", ["sobol", "random"])
    def test_no_point_without_the_real_parameter_comes_twice(self, take: str) -> None:
        supply = Supply(context(self.SPACE))
        if take == "sobol":
            rows, _ = supply.take_sobol(32, 0)
        else:
            rows = supply.take_random(32, "test", 0)
        assert len(rows) == len(np.unique(rows, axis=0)) == 32
