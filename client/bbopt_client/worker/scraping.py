"""Metrics in a program's output: marked lines, and values picked out of log lines.

Marked lines (``::bbopt::{json}`` and Syne Tune's ``[tune-metric]: {json}``) are reports like
those of the report file. Log lines (``loss=0.3``, as Katib reads them, or a pattern of the
user's) have no step; the last value counts.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bbopt.errors import InvalidError
from bbopt_client.worker.lines import without_escapes
from bbopt_client.worker.readings import (
    Measured,
    Reading,
    Unreadable,
    read_json,
    read_object,
    to_measured,
)

MARKER = "::bbopt::"
SYNE_TUNE_MARKER = "[tune-metric]:"
_MAX_SCRAPED_LINE = 4096  # A user's pattern may need time quadratic in this.
_NUMBER = r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|inf(?:inity)?)"


@dataclass(frozen=True, slots=True)
class Scraped:
    """Values that a pattern found in a line; without step, last one wins."""

    metrics: Mapping[str, Measured]


@dataclass(frozen=True, slots=True)
class OutputReader:
    """Reads lines of standard output as one ``--metrics`` setting says."""

    names: frozenset[str]
    reads_marked: bool = True
    pattern: re.Pattern[str] | None = None

    def read(self, line: bytes) -> Reading | Scraped | None:
        """Read one line; ``None`` when it is not about metrics."""
        text = without_escapes(line.decode("utf-8", errors="replace")).strip()
        if self.reads_marked:
            # Not only at the start: progress bars leave the cursor inside a line.
            if (position := text.find(MARKER)) >= 0:
                return read_json(text[position + len(MARKER) :], self.names)
            if (position := text.find(SYNE_TUNE_MARKER)) >= 0:
                return _read_syne_tune(text[position + len(SYNE_TUNE_MARKER) :], self.names)
        if self.pattern is not None:
            metrics = _scrape(self.pattern, text[:_MAX_SCRAPED_LINE], self.names)
            return Scraped(metrics) if metrics else None
        return None


def parse_metrics_option(text: str, names: frozenset[str]) -> OutputReader:
    """Read the value of ``--metrics``.

    Args:
        text: ``auto``, ``jsonl``, ``katib``, ``syne-tune`` or ``regex=PATTERN``.
        names: Metrics of the study.

    Raises:
        InvalidError: It is none of these, or the pattern is wrong.
    """
    kind, equals, argument = text.partition("=")
    match kind:
        case "auto" if not equals:
            return OutputReader(names, pattern=_name_value_pattern(names))
        case "jsonl" if not equals:
            return OutputReader(names, reads_marked=False)
        case "katib" if not equals:
            return OutputReader(names, reads_marked=False, pattern=_name_value_pattern(names))
        case "syne-tune" if not equals:
            return OutputReader(names)
        case "regex" if argument:
            return OutputReader(names, pattern=_user_pattern(argument, names))
        case _:
            raise InvalidError.of(
                "--metrics", f"{text!r} is none of auto, jsonl, katib, syne-tune, regex=PATTERN"
            )


def _name_value_pattern(names: frozenset[str]) -> re.Pattern[str]:
    # Katib's `name=value` restricted to the study's metrics: other words cost nothing. What
    # ends in a comma and a digit is `0,5` or `1,024`, and the part before no value at all.
    alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(
        rf"(?<![\w|.-])({alternatives})\s*=\s*({_NUMBER})(?![\w.]|,\d)", re.IGNORECASE
    )


def _user_pattern(argument: str, names: frozenset[str]) -> re.Pattern[str]:
    try:
        pattern = re.compile(argument)
    except re.error as error:
        raise InvalidError.of("--metrics", f"bad pattern {argument!r}: {error}") from error
    groups = set(pattern.groupindex)
    if groups and groups <= names:
        return pattern
    if groups == {"name", "value"} or (not groups and pattern.groups == 2):
        return pattern
    raise InvalidError.of(
        "--metrics",
        f"the pattern {argument!r} needs a named group for each metric it finds, such as "
        f"(?P<{min(names)}>...), or two groups: the metric's name and its value",
    )


def _scrape(pattern: re.Pattern[str], text: str, names: frozenset[str]) -> dict[str, Measured]:
    metrics: dict[str, Measured] = {}
    for match in pattern.finditer(text):
        named = {key: value for key, value in match.groupdict().items() if key in names}
        found = named or {match[1]: match[2]}
        for name, value in found.items():
            if name in names and (measured := _to_number(value)) is not None:
                metrics[name] = measured
    return metrics


def _to_number(text: str | None) -> Measured | None:
    try:
        return to_measured(float(text or ""))
    except ValueError:
        return None


def _read_syne_tune(text: str, names: frozenset[str]) -> Reading:
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError):
        loaded = None
    if not isinstance(loaded, dict):
        return Unreadable(f"not a JSON object after {SYNE_TUNE_MARKER}")
    reading = {name: value for name, value in loaded.items() if name in names}
    return read_object({**reading, "step": loaded.get("st_worker_iter")}, names)


__all__ = ["MARKER", "OutputReader", "Reading", "Scraped", "parse_metrics_option"]
