"""Everything that can be wrong with a space's parameters, listed at once.

Each function returns violations; the field of a violation is the path that the caller would
write, e.g. ``parameters[lr].low``. Conditions and constraints have files of their own.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from bbopt.errors import Violation
from bbopt.space.grid import Grid
from bbopt.space.parameters import (
    Bool,
    Categorical,
    Fixed,
    Float,
    Int,
    Ordinal,
    Parameter,
    Scale,
)
from bbopt.space.values import is_real, value_fault

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]*")
MAX_NAME_LENGTH = 128
MAX_PARAMETERS = 2000
MAX_CHOICES = 1000
MAX_TEXT_LENGTH = 1024
MAX_INT = 2**53
"""Beyond this not every integer is a double."""
MAX_LEVELS = 2**40
"""With more, neighbouring values of a log scale are not told apart in the unit cube."""

NARROWEST = 2.0**-40
"""Smallest range of a Float beside its bounds: 8,192 doubles, enough to search among."""

DENSEST = 1e9
"""Ratio of the sparse to the dense end of a scale that is dense next to a large number, where
doubles run out (a log scale is dense next to zero, where they do not).
"""


@dataclass(frozen=True, slots=True)
class Unread:
    """Stands for a part of a definition that could not be read, whose faults are listed
    elsewhere: nothing more is said about it, or about what refers to it.
    """

    name: str


def name_fault(name: object) -> str | None:
    """Say what is wrong with the name of a parameter or metric."""
    if not isinstance(name, str):
        return f"must be a string, got {type(name).__name__}"
    if not name:
        return "must not be empty"
    if len(name) > MAX_NAME_LENGTH:
        return f"must have at most {MAX_NAME_LENGTH} characters, got {len(name)}"
    if NAME.fullmatch(name) is None:
        return (
            f"{name!a} may only have ASCII letters, digits, '.', '_', '-' and spaces, and "
            "must begin with a letter, a digit or '_'"
        )
    return None


def text_fault(text: str) -> str | None:
    """Say what is wrong with free text that will be shown on terminals and in logs."""
    if len(text) > MAX_TEXT_LENGTH:
        return f"must have at most {MAX_TEXT_LENGTH} characters, got {len(text)}"
    if not text.isprintable():
        return f"{text!a} has invisible or control characters"
    return None


def path_of(index: int, parameter: object) -> str:
    """Name a parameter in violations: by its name where that is one, else by position."""
    name = getattr(parameter, "name", None)
    return f"parameters[{name if name_fault(name) is None else index}]"


def parameter_violations(
    parameters: Sequence[Parameter | Unread],
) -> tuple[list[Violation], dict[str, Parameter | None]]:
    """List the faults of parameters on their own, and of their names together.

    Returns:
        The violations, and every parameter by name: ``None`` for those that are faulty, so
        that conditions and constraints on them are not blamed as well.
    """
    if not 1 <= len(parameters) <= MAX_PARAMETERS:
        message = f"must be 1 to {MAX_PARAMETERS} parameters, got {len(parameters)}"
        return [Violation("parameters", message)], {}
    violations: list[Violation] = []
    by_name: dict[str, Parameter | None] = {}
    for index, parameter in enumerate(parameters):
        path = path_of(index, parameter)
        if isinstance(parameter, Unread):
            by_name[parameter.name] = None
            continue
        if not isinstance(parameter, get_args(Parameter)):
            kind = type(parameter).__name__
            violations.append(Violation(path, f"must be a parameter, got {kind}"))
            continue
        faults = _faults(parameter)
        fault = name_fault(parameter.name)
        if fault is None and parameter.name in by_name:
            fault = "is used by two parameters"
        if fault is not None:
            faults.insert(0, ("name", fault))
        violations += [Violation(f"{path}.{field}", message) for field, message in faults]
        if isinstance(parameter.name, str):
            by_name[parameter.name] = None if faults else parameter
    if not violations and all(isinstance(parameter, Fixed) for parameter in parameters):
        violations.append(Violation("parameters", "every parameter is Fixed: nothing varies"))
    return violations, by_name


def _faults(parameter: Parameter) -> list[tuple[str, str]]:
    """List (field, message) for one parameter; its default only if the rest is right."""
    match parameter:
        case Float():
            faults = _float_faults(parameter)
        case Int():
            faults = _int_faults(parameter)
        case Ordinal():
            faults = _ordinal_faults(parameter)
        case Categorical():
            faults = _categorical_faults(parameter)
        case Bool():
            faults = []
        case Fixed():
            return _fixed_faults(parameter)
    if not faults and parameter.default is not None:
        fault = value_fault(parameter, parameter.default)
        faults += [] if fault is None else [("default", fault)]
    return faults


def _float_faults(parameter: Float) -> list[tuple[str, str]]:
    faults = []
    for field in ("low", "high"):
        value = getattr(parameter, field)
        if isinstance(value, bool) or not isinstance(value, float | int):
            faults.append((field, f"must be a number, got {type(value).__name__}"))
        elif not is_real(value):
            faults.append((field, f"must be finite, got {value}"))
    if not isinstance(parameter.periodic, bool):
        faults.append(("periodic", "must be a bool"))
    if faults:
        return faults
    faults += _range_faults(parameter) + _scale_faults(parameter)
    if not faults and not is_real(parameter.high - parameter.low):
        faults.append(("high", "high - low must be finite"))
    if not faults and parameter.high - parameter.low < NARROWEST * _magnitude(parameter):
        faults.append(("low", "the range is too narrow for doubles: search an offset instead"))
    if parameter.step is None:
        return faults
    if not is_real(parameter.step):
        faults.append(("step", f"must be a finite number, got {parameter.step!r}"))
    elif parameter.step <= 0:
        faults.append(("step", f"must be positive, got {parameter.step}"))
    elif not faults:
        if (parameter.high - parameter.low) / parameter.step >= MAX_LEVELS:
            faults.append(("step", f"makes more than {MAX_LEVELS} values: leave it out"))
        elif Grid(parameter.low, parameter.high, parameter.step).n_levels < 2:
            faults.append(("step", f"{parameter.step} is larger than high - low"))
    if parameter.periodic and not faults:
        faults.append(("periodic", "is not supported together with step"))
    return faults


def _magnitude(parameter: Float) -> float:
    return max(abs(parameter.low), abs(parameter.high))


def _int_faults(parameter: Int) -> list[tuple[str, str]]:
    faults = []
    for field in ("low", "high", "step"):
        value = getattr(parameter, field)
        if isinstance(value, bool) or not isinstance(value, int):
            faults.append((field, f"must be an integer, got {type(value).__name__} {value!r}"))
        elif abs(value) > MAX_INT:
            faults.append((field, f"must be within +-2**53, got {value}"))
    if faults:
        return faults
    faults += _range_faults(parameter) + _scale_faults(parameter)
    if parameter.step < 1:
        faults.append(("step", f"must be at least 1, got {parameter.step}"))
    elif not faults and parameter.step > parameter.high - parameter.low:
        faults.append(("step", f"{parameter.step} is larger than high - low"))
    elif not faults and (parameter.high - parameter.low) // parameter.step >= MAX_LEVELS:
        faults.append(("high", f"makes more than {MAX_LEVELS} values: use Float or a step"))
    return faults


def _range_faults(parameter: Float | Int) -> list[tuple[str, str]]:
    if parameter.low == parameter.high:
        hint = f"Fixed({parameter.name!r}, {parameter.low!r})"
        return [("low", f"low and high are both {parameter.low}: use {hint} for a constant")]
    if parameter.low > parameter.high:
        return [("low", f"low {parameter.low} is above high {parameter.high}")]
    return []


def _scale_faults(parameter: Float | Int) -> list[tuple[str, str]]:
    scale, low, high = parameter.scale, parameter.low, parameter.high
    if not isinstance(scale, Scale):
        names = ", ".join(member.value for member in Scale)
        return [("scale", f"must be one of {names}, got {scale!r}")]
    if scale in (Scale.LOG, Scale.REVERSE_LOG) and low <= 0:
        return [("low", f"a {scale.value} scale needs low > 0, got {low}")]
    if scale is Scale.LOGIT and not (low > 0 and high < 1):
        return [("scale", f"a logit scale needs 0 < low and high < 1, got [{low}, {high}]")]
    if scale is Scale.REVERSE_LOG and high > DENSEST * low:
        return [("low", f"a reverse_log scale needs low > high / {DENSEST:g}, got {low}")]
    if scale is Scale.LOGIT and (1 - high) * DENSEST < 1:
        return [("high", f"a logit scale needs high < 1 - {1 / DENSEST:g}, got {high}")]
    if scale is not Scale.LINEAR and isinstance(parameter, Float) and parameter.periodic:
        return [("scale", "a periodic parameter needs a linear scale")]
    return []


def _ordinal_faults(parameter: Ordinal) -> list[tuple[str, str]]:
    values = parameter.values
    if not isinstance(values, tuple):
        return [("values", f"must be a list of numbers, got {type(values).__name__}")]
    if not 2 <= len(values) <= MAX_CHOICES:
        return [("values", f"must be 2 to {MAX_CHOICES} numbers, got {len(values)}")]
    faults = [
        (f"values[{index}]", f"must be a finite number, got {value!r}")
        for index, value in enumerate(values)
        if not is_real(value)
    ]
    if not faults:
        faults += [
            (f"values[{index + 1}]", f"must be above {values[index]}: values must ascend")
            for index in range(len(values) - 1)
            if not values[index] < values[index + 1]
        ]
    return faults


def _categorical_faults(parameter: Categorical) -> list[tuple[str, str]]:
    choices = parameter.choices
    if not isinstance(choices, tuple):
        return [("choices", f"must be a list of strings, got {type(choices).__name__}")]
    if not 2 <= len(choices) <= MAX_CHOICES:
        hint = ": use Fixed for a constant" if len(choices) == 1 else ""
        return [("choices", f"must be 2 to {MAX_CHOICES} names, got {len(choices)}{hint}")]
    faults: list[tuple[str, str]] = []
    seen: set[str] = set()
    for index, choice in enumerate(choices):
        field = f"choices[{index}]"
        if not isinstance(choice, str):
            faults.append((field, f"must be a string, got {type(choice).__name__}"))
            continue
        fault = text_fault(choice) if choice else "must not be empty"
        # Two spellings of one accented letter look the same and would be two categories.
        normal = unicodedata.normalize("NFC", choice)
        if fault is None and normal in seen:
            fault = f"{choice!r} is there twice"
        seen.add(normal)
        faults += [] if fault is None else [(field, fault)]
    return faults


def _fixed_faults(parameter: Fixed) -> list[tuple[str, str]]:
    value = parameter.value
    if isinstance(value, bool):
        return []
    if isinstance(value, str):
        fault = text_fault(value)
        return [] if fault is None else [("value", fault)]
    if isinstance(value, int):
        return [] if abs(value) < 2**63 else [("value", "must fit 64 bits")]
    if isinstance(value, float):
        return [] if is_real(value) else [("value", f"must be finite, got {value}")]
    return [("value", f"must be a number, string or bool, got {type(value).__name__}")]
