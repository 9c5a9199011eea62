"""The four scales as maps between user units and the unit interval, and their resolution."""

from dataclasses import dataclass
from typing import assert_never

import numpy as np

from bbopt.space.grid import FloatArray
from bbopt.space.parameters import Scale

FINEST = 2.0**-50
"""What rounding in the transforms themselves may amount to, in unit-interval lengths."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Ranges of ``c`` parameters that share one scale.

    All methods work on blocks of shape ``(n, c)``; ``low``, ``high`` and ``span`` are ``(c,)``.
    """

    low: FloatArray
    high: FloatArray
    scale: Scale
    span: FloatArray
    """Length of the range after the scale's transform."""

    @classmethod
    def of(cls, low: FloatArray, high: FloatArray, scale: Scale) -> "Stretch":
        """Build one from the ends of the ranges."""
        match scale:
            case Scale.LINEAR:
                span = high - low
            case Scale.LOG | Scale.REVERSE_LOG:
                span = _log_ratio(high, low)
            case Scale.LOGIT:
                span = _logit(high) - _logit(low)
            case _:
                assert_never(scale)
        return cls(low, high, scale, span)

    def to_unit(self, values: FloatArray) -> FloatArray:
        """Stretch user units onto ``[0, 1]``."""
        match self.scale:
            case Scale.LINEAR:
                x = (values - self.low) / self.span
            case Scale.LOG:
                x = _log_ratio(values, self.low) / self.span
            case Scale.REVERSE_LOG:
                x = 1.0 - _log_ratio(self._mirrored(values), self.low) / self.span
            case Scale.LOGIT:
                x = (_logit(values) - _logit(self.low)) / self.span
            case _:
                assert_never(self.scale)
        return np.asarray(np.minimum(np.maximum(x, 0.0), 1.0))

    def from_unit(self, x: FloatArray) -> FloatArray:
        """Invert ``to_unit``: both ends exactly, and never outside the range."""
        match self.scale:
            case Scale.LINEAR:
                values = self.low + x * self.span
            case Scale.LOG:
                values = self._raised(x)
            case Scale.REVERSE_LOG:
                values = self._mirrored(self._raised(1.0 - x))
            case Scale.LOGIT:
                values = 1.0 / (1.0 + np.exp(-(_logit(self.low) + x * self.span)))
            case _:
                assert_never(self.scale)
        values = np.where(x <= 0.0, self.low, np.where(x >= 1.0, self.high, values))
        return np.asarray(np.minimum(np.maximum(values, self.low), self.high))

    def resolution(self, values: FloatArray) -> FloatArray:
        """Say how far apart in the unit interval neighbouring doubles are at ``values``."""
        spacing = np.spacing(np.abs(values))
        match self.scale:
            case Scale.LINEAR:
                gap = spacing / self.span
            case Scale.LOG:
                gap = spacing / values / self.span
            case Scale.REVERSE_LOG:
                gap = spacing / self._mirrored(values) / self.span
            case Scale.LOGIT:
                gap = spacing / values / (1.0 - values) / self.span
            case _:
                assert_never(self.scale)
        return np.asarray(np.minimum(gap + FINEST, 0.25))

    def worst_resolution(self) -> FloatArray:
        """Return an upper bound of ``resolution`` over each range, ``(c,)``."""
        at_ends = np.maximum(self.resolution(self.low), self.resolution(self.high))
        # Within a power of two the relative spacing of doubles varies by two.
        return np.minimum(2.0 * at_ends - FINEST, 0.25)

    def _mirrored(self, values: FloatArray) -> FloatArray:
        return self.low + (self.high - values)

    def _raised(self, x: FloatArray) -> FloatArray:
        """Return ``low * (high / low) ** x``."""
        exponent = x * self.span
        if (self.span < 700.0).all():
            return np.asarray(self.low + self.low * np.expm1(exponent))
        with np.errstate(over="ignore"):
            direct = self.low + self.low * np.expm1(exponent)
        return np.where(exponent < 700.0, direct, np.exp(np.log(self.low) + exponent))


def _log_ratio(values: FloatArray, low: FloatArray) -> FloatArray:
    """Return ``log(values / low)``, exact for narrow ranges and safe for huge ones."""
    with np.errstate(over="ignore"):
        ratio = values / low
    narrow = np.log1p((values - low) / np.maximum(low, 0.5 * values))
    wide = np.where(np.isfinite(ratio), np.log(ratio), np.log(values) - np.log(low))
    return np.where(ratio < 2.0, narrow, wide)


def _logit(values: FloatArray) -> FloatArray:
    return np.asarray(np.log(values) - np.log1p(-values))
