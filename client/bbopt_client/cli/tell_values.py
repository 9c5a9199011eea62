"""Metrics as people type them: ``loss=0.3``, ``'acc=0.9±0.01'``, ``acc=0.9+-0.01``."""

from collections.abc import Sequence

from bbopt.errors import InvalidError, Violation
from bbopt.trial import Value


def parse_metrics(words: Sequence[str]) -> dict[str, Value]:
    """Read ``NAME=VALUE`` words.

    Args:
        words: As typed; the standard deviation follows ``±`` or ``+-``.

    Raises:
        InvalidError: A word is no metric; all are listed.
    """
    metrics: dict[str, Value] = {}
    violations: list[Violation] = []
    for word in words:
        name, equals, text = word.partition("=")
        try:
            if not equals or not name:
                raise ValueError("must be NAME=VALUE, such as loss=0.3 or 'acc=0.9±0.01'")
            if name in metrics:
                raise ValueError("is given twice")
            metrics[name] = _value(text)
        except ValueError as error:
            violations.append(Violation(name if equals and name else repr(word), str(error)))
    if violations:
        raise InvalidError(violations)
    return metrics


def _value(text: str) -> Value:
    value, plus_minus, sd = _split(text)
    try:
        return Value(float(value), float(sd) if plus_minus else None)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _split(text: str) -> tuple[str, str, str]:
    for mark in ("±", "+/-", "+-"):
        if mark in text:
            return text.partition(mark)
    return text, "", ""
