"""What `bbopt run` was asked to do, checked before any trial is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bbopt_client.cli.failures import ExitCode
from bbopt_client.study import Study
from bbopt_client.worker.command import CommandTemplate
from bbopt_client.worker.evaluation import Limits
from bbopt_client.worker.loop import WorkEnd, WorkPlan
from bbopt_client.worker.scraping import parse_metrics_option
from bbopt_client.worker.workspace import FileTemplate, Layout, check_shared_files


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The options of ``bbopt run``."""

    command: tuple[str, ...]
    limits: Limits
    metrics: str = "auto"
    work_dir: Path | None = None
    cwd_per_trial: Path | None = None
    result: str | None = None
    templates: tuple[str, ...] = ()
    count: int | None = None
    parallel: int = 1
    keep_alive: bool = False
    gives_up: bool = True
    patience_s: float = 1800.0
    n_kept: int = 100


def plan_work(
    request: RunRequest, study: Study, *, server: str, environment: Mapping[str, str]
) -> WorkPlan:
    """Check everything that can be checked and put the worker's plan together.

    Args:
        request: What was asked for.
        study: The study to work for.
        server: Its server's address.
        environment: This process's environment, for ``${envvar:X}``.

    Raises:
        InvalidError: A macro, pattern, template or path is wrong.
    """
    names = frozenset(study.problem.space.names)
    has_fidelity = study.problem.fidelity is not None
    check_shared_files(
        parallel=request.parallel,
        cwd_per_trial=request.cwd_per_trial is not None,
        templates=request.templates,
        result=request.result,
    )
    return WorkPlan(
        command=CommandTemplate.parse(
            request.command, names=names, environment=environment, has_fidelity=has_fidelity
        ),
        metrics=parse_metrics_option(
            request.metrics, frozenset(metric.name for metric in study.problem.metrics)
        ),
        layout=Layout(
            work_dir=request.work_dir or Path("bbopt-runs") / study.id,
            cwd_per_trial=request.cwd_per_trial,
            result_file=None if request.result is None else Path(request.result),
            templates=tuple(
                FileTemplate.parse(
                    option, names=names, environment=environment, has_fidelity=has_fidelity
                )
                for option in request.templates
            ),
        ),
        limits=request.limits,
        count=request.count,
        parallel=request.parallel,
        keep_alive=request.keep_alive,
        gives_up=request.gives_up,
        patience_s=request.patience_s,
        n_kept=request.n_kept,
        server=server,
    )


def work_exit_code(end: WorkEnd) -> ExitCode:
    """Say what ``bbopt run`` exits with."""
    match end:
        case WorkEnd.FINISHED | WorkEnd.COUNT_REACHED | WorkEnd.PREEMPTED:
            return ExitCode.OK
        case WorkEnd.INTERRUPTED:
            return ExitCode.INTERRUPTED
        case WorkEnd.FLAPPING:
            return ExitCode.GAVE_UP
        case WorkEnd.UNREACHABLE:
            return ExitCode.UNREACHABLE
        case WorkEnd.GONE:
            return ExitCode.NOT_FOUND
        case WorkEnd.BROKEN:
            return ExitCode.ERROR
