"""One parameter's values as levels, and back: a real value is its own level, every other value
has its number.
"""

import math
from collections.abc import Callable, Sequence

from bbopt.space.column import choices_of, grid_of
from bbopt.space.conditions import ParamValue
from bbopt.space.parameters import Float, Int, Parameter


def encoder_of(parameter: Parameter) -> Callable[[ParamValue], float]:
    """Return the map from a parameter's values to its levels."""
    grid = grid_of(parameter)
    if grid is not None:
        return lambda value: float(grid.position(_finite(value)))
    if isinstance(parameter, Float):
        low, high = parameter.low, parameter.high
        return lambda value: min(max(_finite(value), low), high)
    numbers = {value: float(k) for k, value in enumerate(choices_of(parameter))}
    return lambda value: numbers[value]


def lowest_level(parameter: Parameter) -> float:
    """Return a level that every scale can transform, for parameters that are not active."""
    return parameter.low if isinstance(parameter, Float) and parameter.step is None else 0.0


def _finite(value: ParamValue) -> float:
    real = float(value)
    if not math.isfinite(real):
        raise ValueError("not finite")
    return real


def decoder_of(parameter: Parameter, default_level: float) -> Callable[[float], ParamValue]:
    """Return the map from a parameter's levels to its values.

    A real default comes back as it was written, not as it was rounded.
    """
    grid = grid_of(parameter)
    if isinstance(parameter, Int):
        low, step = parameter.low, parameter.step
        return lambda level: low + step * int(level)
    if grid is not None:
        return lambda level: grid.value(int(level))
    if isinstance(parameter, Float):
        default = parameter.default
        if default is None:
            return float
        return lambda level: float(default if level == default_level else level)
    choices: Sequence[ParamValue] = choices_of(parameter)
    return lambda level: choices[int(level)]
