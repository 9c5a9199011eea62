"""Studies and trials as the command line shows them. The JSON is a documented schema."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from bbopt.problem import Goal, Metric, MetricKind
from bbopt_client.cli.output import Record

if TYPE_CHECKING:
    from datetime import datetime

    from bbopt_client.results import TellResult
    from bbopt_client.study import Study
    from bbopt_client.trial import Trial


def trial_id(trial: "Trial | int", study: "Study") -> str:
    """Name a trial as ``tell`` takes it: ``STUDY/NUMBER``."""
    number = trial if isinstance(trial, int) else trial.number
    return f"{study.id}/{number}"


def trial_records(trials: Iterable["Trial"], study: "Study") -> list[Record]:
    """Describe trials of one study."""
    from bbopt_client.records import to_records

    listed = list(trials)
    return [
        Record(_trial_data(trial, study), {"trial": trial_id(trial, study), **flat})
        for trial, flat in zip(listed, to_records(listed, study.problem), strict=True)
    ]


def _trial_data(trial: "Trial", study: "Study") -> dict[str, object]:
    times = {
        "create_time": trial.create_time,
        "start_time": trial.start_time,
        "end_time": trial.end_time,
    }
    return {
        "trial": trial_id(trial, study),
        "study": study.id,
        "number": trial.number,
        "state": trial.state.value,
        "attempt": trial.attempt,
        "fidelity": trial.fidelity,
        "resume_from": trial.resume_from,
        "parameters": dict(trial.parameters),
        "metrics": dict(trial.metrics),
        "sd": dict(trial.sd),
        "feasible": trial.feasible,
        "generator": trial.provenance.generator,
        "degraded_from": trial.provenance.degraded_from,
        "worker": trial.worker,
        "message": trial.message,
        **{name: None if time is None else time.isoformat() for name, time in times.items()},
    }


def study_record(study: "Study", *, with_definition: bool = False) -> Record:
    """Describe a study.

    Args:
        study: As of its last answer.
        with_definition: Add everything that defines it, in the form of a study file.
    """
    stats, problem, until = study.stats, study.problem, study.set_aside_until
    counts = {
        "queued": stats.queued,
        "active": stats.active,
        "completed": stats.completed,
        "stopped": stats.stopped,
        "infeasible": stats.infeasible,
        "failed": stats.failed,
        "abandoned": stats.abandoned,
    }
    data: dict[str, object] = {
        "study": study.id,
        "project": study.name.project,
        "state": study.state.value,
        "message": study.state_message,
        "set_aside_until": None if until is None else until.isoformat(),
        "objective": metric_text(problem.objective),
        "constraints": [metric_text(metric) for metric in problem.constraints],
        "n_parameters": len(problem.space.parameters),
        "trials": counts,
        "cost_spent": stats.cost_spent,
        "budget": {"trials": problem.budget.trials, "cost": problem.budget.cost},
        "labels": dict(study.labels),
    }
    if with_definition:
        from bbopt_client.cli.study_files.writer import to_definition

        data["definition"] = to_definition(study.spec, name=study.id, labels=study.labels)
    flat = {
        "study": study.id,
        "state": study.state.value,
        "objective": metric_text(problem.objective),
        "constraints": ", ".join(metric_text(metric) for metric in problem.constraints),
        "n_parameters": len(problem.space.parameters),
        "finished": stats.n_finished,
        "budget": problem.budget.trials,
        **counts,
        "message": study.state_message if until is None else _set_aside(until),
    }
    return Record(data, flat)


def _set_aside(until: "datetime") -> str:
    return f"asks get no model until {until:%H:%M:%S %Z}: it brought down compute too often"


def tell_record(result: "TellResult", study: "Study") -> Record:
    """Describe what became of a told result."""
    data: Mapping[str, str | int | bool | None] = {
        "trial": trial_id(result.number, study),
        "number": result.number,
        "state": None if result.state is None else result.state.value,
        "was_duplicate": result.was_duplicate,
        "was_late": result.was_late,
    }
    return Record(data, data)


def metric_text(metric: Metric) -> str:
    """Write a metric as people write it: ``-loss``, ``latency_ms <= 20``."""
    match metric.kind:
        case MetricKind.OBJECTIVE:
            return f"-{metric.name}" if metric.goal is Goal.MINIMIZE else metric.name
        case MetricKind.CONSTRAINT:
            lower = "" if metric.lower is None else f"{metric.lower:g} <= "
            upper = "" if metric.upper is None else f" <= {metric.upper:g}"
            return f"{lower}{metric.name}{upper}"
        case _:
            return metric.name
