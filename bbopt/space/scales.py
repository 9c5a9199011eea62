"""The four scales as maps between user units and the unit interval, with their resolution.

All functions work on blocks: ``values`` has shape ``(n, c)`` for ``c`` parameters of one
scale, ``low`` and ``high`` have shape ``(c,)``.
"""

from typing import assert_never

import numpy as np

from bbopt.space.grid import FloatArray
from bbopt.space.parameters import Scale

FINEST = 2.0**-50
"""What rounding in the transforms themselves may amount to, in unit-interval lengths."""


def to_unit(values: FloatArray, low: FloatArray, high: FloatArray, scale: Scale) -> FloatArray:
    """Stretch user units onto ``[0, 1]``; both bounds map exactly."""
    match scale:
        case Scale.LINEAR:
            x = (values - low) / (high - low)
        case Scale.LOG:
            x = _log_ratio(values, low) / _log_ratio(high, low)
        case Scale.REVERSE_LOG:
            mirrored = low + (high - values)
            x = 1.0 - _log_ratio(mirrored, low) / _log_ratio(high, low)
        case Scale.LOGIT:
            bottom, top = _logit(low), _logit(high)
            x = (_logit(values) - bottom) / (top - bottom)
        case _:
            assert_never(scale)
    x = np.where(values <= low, 0.0, np.where(values >= high, 1.0, x))
    return np.clip(x, 0.0, 1.0)


def from_unit(x: FloatArray, low: FloatArray, high: FloatArray, scale: Scale) -> FloatArray:
    """Invert ``to_unit``; the result is never outside ``[low, high]``."""
    match scale:
        case Scale.LINEAR:
            values = low + x * (high - low)
        case Scale.LOG:
            values = _raise(x, low, high)
        case Scale.REVERSE_LOG:
            values = high - (_raise(1.0 - x, low, high) - low)
        case Scale.LOGIT:
            bottom, top = _logit(low), _logit(high)
            values = 1.0 / (1.0 + np.exp(-(bottom + x * (top - bottom))))
        case _:
            assert_never(scale)
    values = np.where(x <= 0.0, low, np.where(x >= 1.0, high, values))
    return np.clip(values, low, high)


def resolution(
    values: FloatArray, low: FloatArray, high: FloatArray, scale: Scale
) -> FloatArray:
    """Say how far apart in the unit interval neighbouring doubles are at ``values``."""
    spacing = np.spacing(np.abs(values))
    match scale:
        case Scale.LINEAR:
            gap = spacing / (high - low)
        case Scale.LOG:
            gap = spacing / values / _log_ratio(high, low)
        case Scale.REVERSE_LOG:
            gap = spacing / (low + (high - values)) / _log_ratio(high, low)
        case Scale.LOGIT:
            gap = spacing / values / (1.0 - values) / (_logit(high) - _logit(low))
        case _:
            assert_never(scale)
    return np.minimum(gap + FINEST, 0.25)


def _log_ratio(values: FloatArray, low: FloatArray) -> FloatArray:
    """Return ``log(values / low)``, exact for narrow ranges and safe for huge ones."""
    with np.errstate(over="ignore"):
        ratio = values / low
        narrow = np.log1p((values - low) / low)
    wide = np.log(values) - np.log(low)
    return np.where(ratio < 2.0, narrow, np.where(np.isfinite(ratio), np.log(ratio), wide))


def _raise(x: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Return ``low * (high / low) ** x``."""
    exponent = x * _log_ratio(high, low)
    with np.errstate(over="ignore"):
        direct = low + low * np.expm1(exponent)
    return np.where(exponent < 700.0, direct, np.exp(np.log(low) + exponent))


def _logit(values: FloatArray) -> FloatArray:
    return np.log(values) - np.log1p(-values)
