"""Trials as flat records, one a row: what ``pandas.DataFrame`` and a CSV file want."""

from collections.abc import Iterable

from bbopt.problem import Problem
from bbopt_client.trial import Trial

Cell = str | float | int | bool | None


def to_records(trials: Iterable[Trial], problem: Problem) -> list[dict[str, Cell]]:
    """Flatten trials; every record has the same keys in the same order.

    A parameter that is not active and a metric that was not measured are ``None``. A metric
    that shares its name with another column gets ``metric.`` in front, a parameter
    ``parameter.``.
    """
    names = column_names(problem)
    has_fidelity = problem.fidelity is not None
    return [_record(trial, names, has_fidelity=has_fidelity) for trial in trials]


def column_names(problem: Problem) -> dict[tuple[str, str], str]:
    """Name the column of each parameter and each metric, without clashes."""
    taken = {"number", "state", "feasible", "worker", "attempt", "generator", "message"}
    taken |= {"create_time", "start_time", "end_time", "fidelity", "resume_from"}
    keys = [("parameter", name) for name in problem.space.names]
    keys += [("metric", metric.name) for metric in problem.metrics]
    plain = [name for _, name in keys]
    return {
        (kind, name): f"{kind}.{name}" if name in taken or plain.count(name) > 1 else name
        for kind, name in keys
    }


def _record(
    trial: Trial, names: dict[tuple[str, str], str], *, has_fidelity: bool
) -> dict[str, Cell]:
    measured = trial.metrics
    record: dict[str, Cell] = {"number": trial.number, "state": trial.state.value}
    for (kind, name), column in names.items():
        source = trial.parameters if kind == "parameter" else measured
        record[column] = source.get(name)
    if has_fidelity:
        record |= {"fidelity": trial.fidelity, "resume_from": trial.resume_from}
    times = {
        "create_time": trial.create_time,
        "start_time": trial.start_time,
        "end_time": trial.end_time,
    }
    return record | {
        "feasible": trial.feasible,
        "worker": trial.worker,
        "attempt": trial.attempt,
        "generator": trial.provenance.generator,
        "message": trial.message,
        **{name: None if at is None else at.isoformat() for name, at in times.items()},
    }
