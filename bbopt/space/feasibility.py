"""Whether points satisfy linear constraints, with one tolerance for one point and for many.

Rounding must never make a point infeasible that was built to be feasible, so a constraint
may be missed by ``TOLERANCE`` of the range that its sum can take.
"""

import math
from collections.abc import Mapping

from bbopt.space.conditions import ParamValue
from bbopt.space.constraints import Linear
from bbopt.space.parameters import Float, Int, Ordinal, Parameter

TOLERANCE = 1e-8


def numeric_range(parameter: Parameter) -> tuple[float, float]:
    """Return the smallest and largest value of a numeric parameter.

    Raises:
        TypeError: The parameter is not numeric.
    """
    match parameter:
        case Float(low=low, high=high) | Int(low=low, high=high):
            return float(low), float(high)
        case Ordinal(values=values):
            return values[0], values[-1]
        case _:
            raise TypeError(f"{parameter.name!r} has no numeric range")


def tolerance(linear: Linear, parameters: Mapping[str, Parameter]) -> float:
    """Return by how much the sum may miss a bound, in the sum's unit."""
    magnitude = 0.0
    for name, coefficient in linear.coefficients.items():
        low, high = numeric_range(parameters[name])
        magnitude += abs(coefficient) * max(abs(low), abs(high), high - low)
    return TOLERANCE * magnitude


def linear_fault(
    linear: Linear, parameters: Mapping[str, Parameter], point: Mapping[str, ParamValue]
) -> str | None:
    """Say how a point in user units violates a linear constraint, if it does."""
    total = math.fsum(
        coefficient * float(point[name]) for name, coefficient in linear.coefficients.items()
    )
    slack = tolerance(linear, parameters)
    if linear.lower - slack <= total <= linear.upper + slack:
        return None
    if linear.lower == linear.upper:
        wanted = f"must be {linear.lower:g}"
    elif math.isinf(linear.lower):
        wanted = f"must be at most {linear.upper:g}"
    elif math.isinf(linear.upper):
        wanted = f"must be at least {linear.lower:g}"
    else:
        wanted = f"must be in [{linear.lower:g}, {linear.upper:g}]"
    terms = " + ".join(f"{value:g} * {name}" for name, value in linear.coefficients.items())
    return f"{terms} {wanted}, got {total:g}"
