"""Points as people type them: ``lr=0.01 layers=3 optimizer=adam shuffle=true``."""

from collections.abc import Sequence
from typing import assert_never

from bbopt.errors import InvalidError, Violation
from bbopt.space import (
    Bool,
    Categorical,
    Fixed,
    Float,
    Int,
    Ordinal,
    Parameter,
    ParamValue,
    Space,
)
from bbopt_client.cli.words import read_integer, read_number, read_truth


def parse_point(words: Sequence[str], space: Space) -> dict[str, ParamValue]:
    """Read ``NAME=VALUE`` words as values of the parameters they name.

    Whether they are a point of the space, in range and complete, is not looked at here.

    Args:
        words: As typed; a value may contain ``=``.
        space: Says which type each parameter has.

    Raises:
        InvalidError: A word is no value of a parameter; all are listed.
    """
    by_name = {parameter.name: parameter for parameter in space.parameters}
    point: dict[str, ParamValue] = {}
    violations: list[Violation] = []
    for word in words:
        name, equals, text = word.partition("=")
        try:
            if not equals or not name:
                raise ValueError("must be NAME=VALUE, such as lr=0.01")
            if name not in by_name:
                raise ValueError(f"no such parameter; there are {', '.join(by_name)}")
            if name in point:
                raise ValueError("is given twice")
            point[name] = _value(by_name[name], text)
        except ValueError as error:
            violations.append(Violation(name if equals and name else repr(word), str(error)))
    if violations:
        raise InvalidError(violations)
    return point


def _value(parameter: Parameter, text: str) -> ParamValue:
    match parameter:
        case Categorical():
            return text
        case Bool():
            return read_truth(text)
        case Int():
            return read_integer(text)
        case Float() | Ordinal():
            return read_number(text)
        case Fixed(value=bool()):
            return read_truth(text)
        case Fixed(value=str()):
            return text
        case Fixed(value=int()):
            return read_integer(text)
        case Fixed():
            return read_number(text)
        case _:
            assert_never(parameter)
