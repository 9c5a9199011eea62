"""``bbopt run``: a worker that executes a command for each trial."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bbopt_client.cli.options import OutputOption, ServerOption, StudyArgument, merged


class OnPreempt(StrEnum):
    """What becomes of trials when the worker has to go."""

    RELEASE = "release"
    FAIL = "fail"


def run(
    context: typer.Context,
    study: StudyArgument,
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="What to execute.")
    ],
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Trials to take.", show_default="until finished"),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, max=256, help="Trials at a time.")] = 1,
    timeout_trial: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Longest run of one trial.")
    ] = None,
    grace: Annotated[
        str, typer.Option(metavar="DURATION", help="From SIGTERM to SIGKILL.")
    ] = "30s",
    stop_notice: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="From the stop file to SIGTERM on an early stop."
        ),
    ] = "5s",
    work_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Logs and files.", show_default="bbopt-runs/STUDY"),
    ] = None,
    cwd_per_trial: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run each trial in a directory below DIR."),
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="auto, jsonl, katib, syne-tune or regex=PATTERN.")
    ] = "auto",
    result: Annotated[
        str | None, typer.Option(metavar="FILE", help="JSON file that the command writes.")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(metavar="IN=OUT", help="Render an input file; repeat for more."),
    ] = None,
    on_preempt: Annotated[
        OnPreempt, typer.Option(help="What becomes of trials when the worker has to go.")
    ] = OnPreempt.RELEASE,
    keep_alive: Annotated[
        bool, typer.Option("--keep-alive", help="Wait when the study is finished.")
    ] = False,
    ignore_failures: Annotated[
        bool, typer.Option("--ignore-failures", help="Go on however often the command fails.")
    ] = False,
    patience: Annotated[
        str,
        typer.Option(metavar="DURATION", help="How long to outlast an unreachable server."),
    ] = "30m",
    log_limit: Annotated[
        int, typer.Option(min=1, metavar="MB", help="Most megabytes of each log file.")
    ] = 10,
    keep: Annotated[
        int, typer.Option(min=0, help="Directories of finished trials to keep.")
    ] = 100,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Execute a command for each trial until the study is finished.

    bbopt run digits -- python train.py '${args}'

    The command is an argument list; no shell looks at it. Parameters reach it through macros
    in its words, BBOPT_PARAMS_FILE and BBOPT_PARAM_NAME; metrics come back through
    BBOPT_RESULT_FILE, BBOPT_REPORT_FILE or lines of its output.
    """
    from bbopt_client.cli.connecting import open_study
    from bbopt_client.cli.durations import duration_option
    from bbopt_client.cli.failures import CommandError
    from bbopt_client.cli.output import Cell, Record, write_record
    from bbopt_client.cli.planning import RunRequest, plan_work, work_exit_code
    from bbopt_client.worker.evaluation import Limits
    from bbopt_client.worker.loop import Worker

    if os.name != "posix":
        raise CommandError("bbopt run needs process groups, which this system has not")
    limits = Limits(
        timeout_s=None
        if timeout_trial is None
        else duration_option("--timeout-trial", timeout_trial),
        grace_s=duration_option("--grace", grace),
        notice_s=duration_option("--stop-notice", stop_notice),
        log_bytes=log_limit * 1_000_000,
        releases_on_preempt=on_preempt is OnPreempt.RELEASE,
    )
    request = RunRequest(
        command=tuple(command),
        limits=limits,
        metrics=metrics,
        work_dir=work_dir,
        cwd_per_trial=cwd_per_trial,
        result=result,
        templates=tuple(template or ()),
        count=count,
        parallel=parallel,
        keep_alive=keep_alive,
        gives_up=not ignore_failures,
        patience_s=duration_option("--patience", patience),
        n_kept=keep,
    )
    options = merged(context, server, output)
    with options.open(first_contact_s=10.0) as client:
        found = open_study(client, study)
        plan = plan_work(request, found, server=client.address, environment=os.environ)
        ended = Worker(found, plan, say=_say).run()
    _say(f"{ended.end.value}: {ended.message}" if ended.message else ended.end.value)
    if options.output is not None:
        data: dict[str, Cell] = {
            "end": ended.end.name.lower(),
            "message": ended.message,
            "n_succeeded": ended.tally.n_succeeded,
            "n_failed": ended.tally.n_failed,
        }
        write_record(Record(data, data), options.output)
    raise typer.Exit(work_exit_code(ended.end))


def _say(line: str) -> None:
    # One write, so that lines of several slots do not mix.
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
