"""Values of a real parameter that conditions look at, kept apart from their neighbours.

Coordinates of real parameters are rounded. A value next to the limit of a condition must not
come back on its other side, and the limit itself must come back as it is: else parameters that
hang on the condition would appear or vanish on the way through the unit cube. Limits closer to
each other than a few roundings (1e-13 of the range, more where doubles are coarse) are told
apart from the first of them only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

import numpy as np

from bbopt.space.column import Block, RealBlock
from bbopt.space.conditions import AllOf, Between, Condition, Equals, ParamValue
from bbopt.space.constraints import Exclude
from bbopt.space.grid import FloatArray
from bbopt.space.parameters import Fixed, Parameter
from bbopt.space.scales import Stretch
from bbopt.space.space import Space

APART: Final = 8
"""Least distance of two exact values, in roundings."""


@dataclass(frozen=True, slots=True)
class ExactValue:
    """One value, and the canonical coordinates of itself and of its neighbours."""

    value: float
    below: float
    place: float
    above: float


@dataclass(frozen=True, slots=True)
class ExactBlock(RealBlock):
    """Real parameters of one scale, some of which have exact values."""

    exact: tuple[tuple[int, tuple[ExactValue, ...]], ...] = ()
    """By position in the block."""

    def levels(self, x: FloatArray) -> FloatArray:
        """Turn unit-cube coordinates ``(n, c)`` into values."""
        levels = RealBlock.levels(self, x)
        places = RealBlock.positions(self, levels)
        for j, values in self.exact:
            for each in values:
                place, level = places[:, j], levels[:, j]
                higher = np.maximum(level, np.nextafter(each.value, np.inf))
                lower = np.minimum(level, np.nextafter(each.value, -np.inf))
                level = np.where(place < each.place, lower, each.value)
                levels[:, j] = np.where(place > each.place, higher, level)
        return levels

    def positions(self, levels: FloatArray) -> FloatArray:
        """Turn values ``(n, c)`` into canonical coordinates."""
        x = RealBlock.positions(self, levels)
        for j, values in self.exact:
            for each in values:
                place, level = x[:, j], levels[:, j]
                lower, higher = np.minimum(place, each.below), np.maximum(place, each.above)
                place = np.where(level < each.value, lower, each.place)
                x[:, j] = np.where(level > each.value, higher, place)
        return x


def exact_blocks(blocks: Sequence[Block], space: Space) -> tuple[Block, ...]:
    """Keep the values of a space exactly at which one of its conditions changes."""
    varying = [each for each in space.parameters if not isinstance(each, Fixed)]
    conditions = [each.active_if for each in varying if each.active_if is not None]
    for constraint in space.constraints:
        conditions += constraint.all_of if isinstance(constraint, Exclude) else ()
    return tuple(_with_exact(block, varying, conditions) for block in blocks)


def _with_exact(
    block: Block, varying: Sequence[Parameter], conditions: Sequence[Condition]
) -> Block:
    if not isinstance(block, RealBlock):
        return block
    exact = tuple(
        (j, _exact_values(_column(block, j), map(float, tested)))
        for j, index in enumerate(block.index)
        if (tested := _tested_values(conditions, varying[index].name))
    )
    return ExactBlock(block.index, block.stretch, block.is_fine, exact) if exact else block


def _column(block: RealBlock, j: int) -> RealBlock:
    """Return a block of one column, which rounds as the block around it does."""
    low, high = block.stretch.low[j : j + 1], block.stretch.high[j : j + 1]
    stretch = Stretch.of(low, high, block.stretch.scale)
    return RealBlock(np.zeros(1, dtype=np.int64), stretch, block.is_fine)


def _exact_values(block: RealBlock, tested: Iterable[float]) -> tuple[ExactValue, ...]:
    """Leave out what is outside of the range, or too close to its ends or to another one."""
    ends = (float(block.stretch.low[0]), float(block.stretch.high[0]))
    inside = {value for value in tested if ends[0] <= value <= ends[1]}
    found: list[ExactValue] = []
    for value in sorted(inside, key=lambda value: (value not in ends, value)):
        exact, distance = _exact(block, value)
        taken = [0.0, 1.0, *(each.place for each in found)]
        if value in ends or min(abs(exact.place - each) for each in taken) >= distance:
            found.append(exact)
    return tuple(found)


def _exact(block: RealBlock, value: float) -> tuple[ExactValue, float]:
    """Return a value with its coordinates, and how far away the next one must be."""
    level = np.asarray([[value]])
    place, unit = float(block.positions(level)[0, 0]), float(block.unit(level)[0, 0])
    around = np.clip(np.asarray([[place - 2.0 * unit], [place + 2.0 * unit]]), 0.0, 1.0)
    below, above = block.positions(block.levels(around))[:, 0].tolist()
    return ExactValue(value, below, place, above), APART * unit


def _tested_values(conditions: Iterable[Condition], parent: str) -> list[ParamValue]:
    """List the values of a parent at which some condition changes."""
    values: list[ParamValue] = []
    for condition in conditions:
        match condition:
            case Equals():
                values += condition.values if condition.parent == parent else ()
            case Between():
                values += (condition.low, condition.high) if condition.parent == parent else ()
            case AllOf(children):
                values += _tested_values(children, parent)
            case _:
                assert_never(condition)
    return values
