"""Whether one value belongs to one parameter, and its normal form."""

import math
from collections.abc import Mapping, Sequence
from typing import assert_never

from bbopt.space.conditions import ParamValue
from bbopt.space.parameters import (
    Bool,
    Categorical,
    Fixed,
    Float,
    Int,
    Ordinal,
    Parameter,
    as_real,
    plain,
)


def is_real(value: object) -> bool:
    """Say whether this is a finite number that a double can hold, and no bool."""
    real = as_real(value)
    return isinstance(real, float) and math.isfinite(real)


def is_filled(values: object, n_least: int = 1) -> bool:
    """Say whether this is a tuple or mapping with at least so many items."""
    return isinstance(values, tuple | Mapping) and len(values) >= n_least


def is_known(name: object, parameters: Mapping[str, object]) -> bool:
    """Say whether this is the name of a parameter."""
    return isinstance(name, str) and name in parameters


def value_fault(parameter: Parameter, value: object) -> str | None:
    """Say what is wrong with a value, or ``None`` if the parameter may take it.

    Types are strict: a bool is no number, a float is no integer (not even ``3.0``). An
    integer where a real number is meant is fine.
    """
    value = plain(value)
    match parameter:
        case Float():
            return _float_fault(parameter, value)
        case Int():
            return _int_fault(parameter, value)
        case Ordinal(values=values):
            return _real_fault(value) or _choice_fault(values, as_real(value))
        case Categorical(choices=choices):
            if not isinstance(value, str):
                return f"must be a string, got {_kind(value)}"
            return _choice_fault(choices, value)
        case Bool():
            return None if isinstance(value, bool) else f"must be a bool, got {_kind(value)}"
        case Fixed(value=constant):
            if _same(constant, value):
                return None
            return f"is fixed at {constant!r}, got {_shown(value)}"
        case _:
            assert_never(parameter)


def canonical_value(parameter: Parameter, value: ParamValue) -> ParamValue:
    """Return the normal form of a valid value: ``float`` for real parameters, grid values
    exactly. A value that does not fit comes back as it is.
    """
    value = plain(value)
    if value_fault(parameter, value) is not None:
        return value
    match parameter:
        case Float(grid=grid):
            real = float(value)
            return real if grid is None else grid.nearest(real)
        case Ordinal():
            return float(value)
        case Fixed(value=constant):
            return constant
        case Int() | Categorical() | Bool():
            return value
        case _:
            assert_never(parameter)


def _float_fault(parameter: Float, value: object) -> str | None:
    fault = _real_fault(value) or _range_fault(parameter, value)
    if fault is not None or parameter.grid is None:
        return fault
    real = float(value)  # type: ignore[arg-type]  # _real_fault has seen it
    if parameter.grid.contains(real):
        return None
    nearest = parameter.grid.nearest(real)
    return f"must be {parameter.low} plus a multiple of {parameter.step}, got {value} " + (
        f"(nearest: {nearest})"
    )


def _int_fault(parameter: Int, value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"must be an integer, got {_kind(value)}"
    fault = _range_fault(parameter, value)
    if fault is not None or (value - parameter.low) % parameter.step == 0:
        return fault
    return f"must be {parameter.low} plus a multiple of {parameter.step}, got {value}"


def _real_fault(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, got {_kind(value)}"
    if is_real(value):
        return None
    return f"must be finite, got {_shown(value)}"


def _range_fault(parameter: Float | Int, value: object) -> str | None:
    assert isinstance(value, int | float)  # noqa: S101 - for the type checker; both callers looked
    if parameter.low <= value <= parameter.high:
        return None
    return f"must be in [{parameter.low}, {parameter.high}], got {_shown(value)}"


def _choice_fault(choices: Sequence[object], value: object) -> str | None:
    if value in choices:
        return None
    shown = ", ".join(repr(choice) for choice in choices[:10])
    return f"must be one of {shown}{', ...' if len(choices) > 10 else ''}, got {_shown(value)}"


def _same(constant: ParamValue, value: object) -> bool:
    if isinstance(constant, float) and not isinstance(value, bool):
        return constant == value
    return type(constant) is type(value) and constant == value


def _kind(value: object) -> str:
    return f"{type(value).__name__} {_shown(value)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
