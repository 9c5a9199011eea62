"""What a program says about its trial, read from one JSON object.

``{"loss": 0.3, "acc": [0.9, 0.01]}`` are final values, ``{"step": 3, "loss": 0.4}`` is an
intermediate report, ``{"infeasible": "why"}`` blames the parameters. Other keys are ignored,
so that a program may log more than the study measures.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bbopt.trial import Value
from bbopt_client.worker.lines import legible

STEP_KEY = "step"
INFEASIBLE_KEY = "infeasible"


@dataclass(frozen=True, slots=True)
class NotFinite:
    """A metric that was reported as NaN or infinite."""

    text: str


Measured: TypeAlias = Value | NotFinite


@dataclass(frozen=True, slots=True)
class Report:
    """Metrics, final (``step`` is ``None``) or on the way."""

    metrics: Mapping[str, Measured]
    step: int | None = None
    strangers: tuple[str, ...] = ()
    """Where there is no metric: the keys that there are instead, for whoever misspelt one."""

    @property
    def finite(self) -> dict[str, Value]:
        """The metrics that are numbers."""
        return {name: value for name, value in self.metrics.items() if isinstance(value, Value)}


@dataclass(frozen=True, slots=True)
class InfeasibleReport:
    """The program says that the parameters are to blame."""

    message: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that was meant as a report and is none."""

    message: str


Reading: TypeAlias = Report | InfeasibleReport | Unreadable


def read_json(text: str | bytes, names: frozenset[str]) -> Reading:
    """Read one JSON object.

    Args:
        text: The object, without a marker before it.
        names: Metrics of the study; other keys are ignored.
    """
    try:
        loaded = json.loads(text)
        if isinstance(loaded, dict):
            return read_object(loaded, names)
    except (ValueError, RecursionError):
        return Unreadable(f"not JSON: {_shorten(text)}")
    return Unreadable(f"not a JSON object: {_shorten(text)}")


def read_object(loaded: Mapping[str, object], names: frozenset[str]) -> Reading:
    """Read an object that was parsed already."""
    if (reason := loaded.get(INFEASIBLE_KEY)) and INFEASIBLE_KEY not in names:
        return InfeasibleReport(
            legible(reason).strip() if isinstance(reason, str) else "infeasible"
        )
    step = loaded.get(STEP_KEY)
    if step is not None and (isinstance(step, bool) or not isinstance(step, int)):
        return Unreadable(f"step must be an integer, got {_shorten(step)}")
    if step is not None and not 0 <= step < 2**63:
        return Unreadable(f"step must be in [0, 2**63), got {_shorten(step)}")
    metrics: dict[str, Measured] = {}
    for name, given in loaded.items():
        if name not in names or name == STEP_KEY:
            continue
        measured = _measured(given)
        if measured is None:
            return Unreadable(
                f"{name} must be a number, [value, sd] or {{value, sd}}, got {_shorten(given)}"
            )
        metrics[name] = measured
    if metrics:
        return Report(metrics, step)
    return Report(metrics, step, tuple(legible(key) for key in loaded if key != STEP_KEY))


def _measured(given: object) -> Measured | None:
    match given:
        case bool():
            return None
        case int() | float():
            return to_measured(given)
        case [int() | float() as value, int() | float() as sd] if not (
            isinstance(value, bool) or isinstance(sd, bool)
        ):
            return to_measured(value, sd)
        case {"value": int() | float() as value, **rest} if rest.keys() <= {"sd", "replicates"}:
            return _measured_with(value, rest)
        case _:
            return None


def _measured_with(value: float, rest: Mapping[object, object]) -> Measured | None:
    sd, replicates = rest.get("sd"), rest.get("replicates", 1)
    if (
        isinstance(value, bool)
        or isinstance(sd, bool)
        or not isinstance(sd, int | float | None)
    ):
        return None
    if isinstance(replicates, bool) or not isinstance(replicates, int):
        return None
    if not 1 <= replicates < 2**63:
        return None
    return to_measured(value, sd, replicates)


def to_measured(value: float, sd: float | None = None, replicates: int = 1) -> Measured | None:
    """Tell numbers from NaN and infinities; ``None`` for a negative or non-finite ``sd``."""
    try:
        number, deviation = float(value), None if sd is None else float(sd)
    except OverflowError:
        return NotFinite("too large")
    if not math.isfinite(number):
        return NotFinite(str(number))
    if deviation is not None and not (math.isfinite(deviation) and deviation >= 0):
        return None
    return Value(number, deviation, replicates)


def _shorten(given: object) -> str:
    text = given.decode(errors="replace") if isinstance(given, bytes) else str(given)
    text = legible(text[:200])
    return text if len(text) <= 80 else text[:77] + "..."
