"""Durations as people write them: ``90``, ``30s``, ``5m``, ``2h``, ``1d``."""

import math
import re

from bbopt.errors import InvalidError

_PATTERN = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*(ms|s|m|min|h|d)?\s*")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Read a duration.

    Args:
        text: A number with ``ms``, ``s``, ``m``, ``h`` or ``d``; seconds without a unit.

    Returns:
        Seconds, not negative.

    Raises:
        ValueError: The text is no duration.
    """
    match = _PATTERN.fullmatch(text)
    seconds = float(match[1]) * _SECONDS[match[2] or "s"] if match else math.nan
    if not math.isfinite(seconds):
        raise ValueError(f"{text!r} is not a duration such as 90, 30s, 5m, 2h or 1d")
    return seconds


def duration_option(option: str, text: str) -> float:
    """Read the value of an option.

    Raises:
        InvalidError: The text is no duration.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InvalidError.of(option, str(error)) from error
