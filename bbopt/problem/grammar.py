"""The short text that stands for a metric: ``-loss``, ``latency_ms <= 20``.

::

    metric = name | "-" name | name "<=" number | name ">=" number
           | number "<=" name ["<=" number] | number ">=" name [">=" number]
"""

import math
import re
from dataclasses import dataclass

from bbopt.space.validation import name_fault

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
MINUS_LOOKALIKES = "\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d"
FORMS = "write 'accuracy', '-loss', 'latency_ms <= 20', 'qps >= 100' or '0.1 <= ratio <= 0.9'"


@dataclass(frozen=True, slots=True)
class Direction:
    """An objective."""

    name: str
    is_minimized: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """A constraint."""

    name: str
    lower: float | None
    upper: float | None


def read(text: object) -> Direction | Bounds | str:
    """Read the text of a metric; a ``str`` says what is wrong with it."""
    if not isinstance(text, str):
        return f"must be text, got {type(text).__name__}"
    lookalike = next((sign for sign in text if sign in MINUS_LOOKALIKES), None)
    if lookalike is not None:
        return f"{text!a} has the character {lookalike!a}; a minus sign is '-'"
    if "≤" in text or "≥" in text:
        return f"{text!a}: write <= and >= in ASCII"
    parts = re.split(r"(<=|>=)", text)
    if any(sign in part for part in parts[::2] for sign in "<>="):
        return f"{text!a}: only <= and >= are comparisons; {FORMS}"
    operands, signs = [part.strip() for part in parts[::2]], parts[1::2]
    if not signs:
        return _direction(operands[0], text)
    if len(set(signs)) > 1 or len(signs) > 2:
        return f"{text!a} is no range; {FORMS}"
    # Read every comparison as ascending.
    ascending = operands if signs[0] == "<=" else operands[::-1]
    return _bounds(ascending, text)


def _direction(operand: str, text: str) -> Direction | str:
    is_minimized = operand.startswith("-")
    name = operand[1:].strip() if is_minimized else operand
    if NUMBER.fullmatch(name):
        return f"{text!a} is a number; {FORMS}"
    fault = name_fault(name)
    return Direction(name, is_minimized) if fault is None else f"{fault}; {FORMS}"


def _bounds(ascending: list[str], text: str) -> Bounds | str:
    name: str
    lower: str | None
    upper: str | None
    is_number = [NUMBER.fullmatch(operand) is not None for operand in ascending]
    match is_number:
        case [False, True]:
            name, lower, upper = ascending[0], None, ascending[1]
        case [True, False]:
            name, lower, upper = ascending[1], ascending[0], None
        case [True, False, True]:
            name, lower, upper = ascending[1], ascending[0], ascending[2]
        case _:
            return f"{text!a} must compare one name with numbers; {FORMS}"
    fault = name_fault(name)
    if fault is not None:
        return f"{fault}; {FORMS}"
    bounds = [None if bound is None else float(bound) for bound in (lower, upper)]
    if any(bound is not None and math.isinf(bound) for bound in bounds):
        return f"{text!a}: a bound must be finite"
    return Bounds(name, *bounds)
