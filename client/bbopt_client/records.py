"""Trials as flat records, one a row: what ``pandas.DataFrame`` and a CSV file want."""

from collections.abc import Iterable, Mapping, Set

from bbopt.problem import Noise, Problem
from bbopt_client.trial import Trial

Cell = str | float | int | bool | None


def to_records(trials: Iterable[Trial], problem: Problem) -> list[dict[str, Cell]]:
    """Flatten trials; every record has the same keys in the same order.

    A parameter that is not active and a metric that was not measured are ``None``. A metric
    that shares its name with another column gets ``metric.`` in front, a parameter
    ``parameter.``. Standard deviations are in ``NAME.sd``, for metrics that have any.
    """
    listed = list(trials)
    noisy = {metric.name for metric in problem.metrics if metric.noise is Noise.REPORTED}
    noisy.update(name for trial in listed for name in trial.sd)
    names = column_names(problem, noisy)
    has_fidelity = problem.fidelity is not None
    return [_record(trial, names, has_fidelity=has_fidelity) for trial in listed]


def column_names(problem: Problem, noisy: Set[str]) -> dict[tuple[str, str], str]:
    """Name the columns, without clashes.

    Args:
        problem: What the columns are of.
        noisy: Metrics with a column of deviations.

    Returns:
        The column of each (kind, name); kinds are ``parameter``, ``metric`` and ``sd``.
    """
    taken = {"number", "state", "feasible", "worker", "attempt", "generator", "message"}
    taken |= {"create_time", "start_time", "end_time", "fidelity", "resume_from"}
    keys = [("parameter", name) for name in problem.space.names]
    keys += [("metric", metric.name) for metric in problem.metrics]
    plain = [name for _, name in keys]
    names: dict[tuple[str, str], str] = {}
    for kind, name in keys:
        is_taken = name in taken or plain.count(name) > 1
        names[kind, name] = column = f"{kind}.{name}" if is_taken else name
        if kind == "metric" and name in noisy:
            deviations = f"{column}.sd"
            names["sd", name] = f"sd.{name}" if deviations in plain else deviations
    return names


def _record(
    trial: Trial, names: dict[tuple[str, str], str], *, has_fidelity: bool
) -> dict[str, Cell]:
    sources: Mapping[str, Mapping[str, Cell]] = {
        "parameter": trial.parameters,
        "metric": trial.metrics,
        "sd": trial.sd,
    }
    record: dict[str, Cell] = {"number": trial.number, "state": trial.state.value}
    record |= {column: sources[kind].get(name) for (kind, name), column in names.items()}
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
