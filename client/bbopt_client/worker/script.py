"""The script's side of ``bbopt run``: files named by environment variables.

A script in any language can do the same by hand: read the JSON object in
``BBOPT_PARAMS_FILE``, append JSON lines to ``BBOPT_REPORT_FILE``, and finish when
``BBOPT_STOP_FILE`` exists. Outside ``bbopt run`` reports go nowhere, so that a script runs
by hand unchanged.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

ParamValue: TypeAlias = float | int | str | bool
Measured: TypeAlias = float | tuple[float, float]
"""A metric's value, or the value and its standard deviation."""


def parameters(defaults: Mapping[str, ParamValue] | None = None) -> dict[str, ParamValue]:
    """Read the trial's parameters.

    Args:
        defaults: What to answer outside ``bbopt run``, for running a script by hand.

    Returns:
        The value of each active parameter, in user units.

    Raises:
        RuntimeError: The script does not run under ``bbopt run`` and there are no defaults.
    """
    path = os.environ.get("BBOPT_PARAMS_FILE")
    if path:
        loaded: dict[str, ParamValue] = json.loads(Path(path).read_text(encoding="utf-8"))
        return loaded
    if defaults is None:
        raise RuntimeError(
            "BBOPT_PARAMS_FILE is not set: start this script with `bbopt run STUDY -- ...`, "
            "or pass defaults to parameters()"
        )
    return dict(defaults)


def report(step: int | None = None, /, **metrics: Measured) -> bool:
    """Hand metrics to the worker.

    Args:
        step: Progress counter of an intermediate report; without it the values are final.
        metrics: Each metric's value, or a pair of value and standard deviation.

    Returns:
        Whether the script should stop now, as ``should_stop`` says it.
    """
    line: dict[str, object] = dict(metrics)
    if step is not None:
        line["step"] = step
    _append(line)
    return should_stop()


def infeasible(reason: str) -> None:
    """Say that these parameters cannot be evaluated, whatever the machine.

    Args:
        reason: What is wrong with them; kept with the trial.
    """
    _append({"infeasible": reason})


def should_stop() -> bool:
    """Say whether the worker has been asked to end this trial early."""
    path = os.environ.get("BBOPT_STOP_FILE")
    return bool(path) and os.path.exists(path or "")


def budget() -> int | None:
    """Return how far to evaluate: steps counted from the beginning of the configuration.

    Returns:
        ``None`` where the study has no fidelity, or outside ``bbopt run``.
    """
    text = os.environ.get("BBOPT_BUDGET")
    return int(text) if text else None


def checkpoint_dir() -> Path | None:
    """Return the directory of this configuration: where an earlier trial or attempt of it left
    its checkpoint, if it left one, and where to leave one for the next.

    Returns:
        ``None`` where the study has no fidelity, or outside ``bbopt run``.
    """
    text = os.environ.get("BBOPT_CHECKPOINT_DIR")
    return Path(text) if text else None


def _append(line: Mapping[str, object]) -> None:
    path = os.environ.get("BBOPT_REPORT_FILE")
    if not path:
        return
    # One write to a file opened for appending: lines of several processes do not mix.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)
