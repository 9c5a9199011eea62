"""Linear constraints as people write them: ``x + 2*y <= 1``, ``0.1 <= a - b <= 0.9``.

A recursive-descent parser of its own; nothing is ever evaluated as code.

::

    comparison := sum OP sum [OP sum]         OP is <=, >=, == or =
    sum        := product (('+' | '-') product)*
    product    := factor (('*' | '/') factor)*
    factor     := ('+' | '-') factor | NUMBER | name | '(' sum ')'

A name that is not a plain word stands in backticks or quotes: ``'learning rate' <= 1``.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bbopt.space import Linear

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)"
    r"|(?P<quoted>`[^`]*`|'[^']*'|\"[^\"]*\")"
    r"|(?P<symbol><=|>=|==|[-+*/()=<>]))"
)
_MAX_NESTING = 50


class LinearSyntaxError(ValueError):
    """A constraint cannot be read; the message says where and why."""


@dataclass(frozen=True, slots=True)
class _Form:
    """``constant + sum(coefficient * parameter)``."""

    coefficients: Mapping[str, float]
    constant: float = 0.0

    def plus(self, other: "_Form", sign: float = 1.0) -> "_Form":
        names = [*self.coefficients, *(set(other.coefficients) - set(self.coefficients))]
        summed = {
            name: self.coefficients.get(name, 0.0) + sign * other.coefficients.get(name, 0.0)
            for name in sorted(names)
        }
        return _Form(summed, self.constant + sign * other.constant)

    def times(self, factor: float) -> "_Form":
        scaled = {name: value * factor for name, value in self.coefficients.items()}
        return _Form(scaled, self.constant * factor)


def parse_linear(text: str) -> Linear:
    """Read one linear constraint.

    Args:
        text: One comparison, or two that enclose a sum between constants.

    Returns:
        The constraint, with every parameter on one side.

    Raises:
        LinearSyntaxError: The text is no such constraint.
    """
    parser = _Parser(text)
    sums = [parser.sum()]
    operators: list[str] = []
    while not parser.is_at_end:
        operators.append(parser.comparison())
        sums.append(parser.sum())
    match operators:
        case [operator]:
            return _single(sums[0], operator, sums[1])
        case [("<=" | ">=") as first, ("<=" | ">=") as second] if first == second:
            low, high = (sums[0], sums[2]) if first == "<=" else (sums[2], sums[0])
            return _double(low, sums[1], high)
        case []:
            raise LinearSyntaxError("has no <=, >= or ==")
        case _:
            raise LinearSyntaxError("must be `sum <= bound` or `low <= sum <= high`")


def _single(left: _Form, operator: str, right: _Form) -> Linear:
    difference = left.plus(right, -1.0)
    bound = -difference.constant
    lower = -math.inf if operator == "<=" else bound
    upper = math.inf if operator == ">=" else bound
    return Linear(_coefficients(difference), lower, upper)


def _double(low: _Form, middle: _Form, high: _Form) -> Linear:
    if any(low.coefficients.values()) or any(high.coefficients.values()):
        raise LinearSyntaxError("both ends of a double bound must be numbers")
    return Linear(
        _coefficients(middle), low.constant - middle.constant, high.constant - middle.constant
    )


def _coefficients(form: _Form) -> dict[str, float]:
    kept = {name: value for name, value in form.coefficients.items() if value != 0}
    if not kept:
        raise LinearSyntaxError("has no parameter in it")
    if not all(math.isfinite(value) for value in (*kept.values(), form.constant)):
        raise LinearSyntaxError("has a number that is too large")
    return kept


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._depth = 0
        self._kind = ""
        self._token = ""
        self._advance()

    @property
    def is_at_end(self) -> bool:
        return self._kind == "end"

    def _advance(self) -> None:
        if not self._text[self._position :].strip():
            self._kind, self._token = "end", "the end"
            return
        match = _TOKEN.match(self._text, self._position)
        if match is None:
            rest = self._text[self._position :].lstrip()
            raise LinearSyntaxError(f"cannot read {rest[:20]!r}")
        self._position = match.end()
        self._kind, self._token = match.lastgroup or "", match[match.lastgroup or 0]

    def _take(self, *symbols: str) -> str | None:
        if self._kind == "symbol" and self._token in symbols:
            token = self._token
            self._advance()
            return token
        return None

    def comparison(self) -> str:
        if self._kind == "symbol" and self._token in ("<", ">"):
            raise LinearSyntaxError(f"write {self._token}= instead of {self._token}")
        operator = self._take("<=", ">=", "==", "=")
        if operator is None:
            hint = ": write * between factors" if self._kind != "symbol" else ""
            raise LinearSyntaxError(f"unexpected {self._token!r}{hint}")
        return "==" if operator == "=" else operator

    def sum(self) -> _Form:
        total = self._product()
        while (sign := self._take("+", "-")) is not None:
            total = total.plus(self._product(), 1.0 if sign == "+" else -1.0)
        return total

    def _product(self) -> _Form:
        result = self._factor()
        while (operator := self._take("*", "/")) is not None:
            other = self._factor()
            result = _multiply(result, other) if operator == "*" else _divide(result, other)
        return result

    def _factor(self) -> _Form:
        if (sign := self._take("+", "-")) is not None:
            return self._nested(self._factor).times(1.0 if sign == "+" else -1.0)
        if self._take("(") is not None:
            inner = self._nested(self.sum)
            if self._take(")") is None:
                raise LinearSyntaxError("a bracket is not closed")
            return inner
        kind, token = self._kind, self._token
        if kind not in ("number", "name", "quoted"):
            raise LinearSyntaxError(f"expected a number or a parameter, found {token!r}")
        self._advance()
        if kind == "number":
            return _Form({}, float(token))
        return _Form({token if kind == "name" else token[1:-1]: 1.0})

    def _nested(self, parse: Callable[[], _Form]) -> _Form:
        self._depth += 1
        if self._depth > _MAX_NESTING:
            raise LinearSyntaxError("is nested too deeply")
        result = parse()
        self._depth -= 1
        return result


def _multiply(left: _Form, right: _Form) -> _Form:
    if not left.coefficients:
        return right.times(left.constant)
    if not right.coefficients:
        return left.times(right.constant)
    raise LinearSyntaxError("a product of two parameters is not linear")


def _divide(left: _Form, right: _Form) -> _Form:
    if right.coefficients:
        raise LinearSyntaxError("a parameter in a denominator is not linear")
    if right.constant == 0:
        raise LinearSyntaxError("divides by zero")
    return left.times(1.0 / right.constant)
