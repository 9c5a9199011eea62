"""``bbopt ask``, ``tell``, ``amend``, ``enqueue``, ``best``, ``trials``, ``export``.

Each imports what it needs when it runs.
"""

import sys
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bbopt_client.cli.options import OutputOption, ServerOption, StudyArgument, merged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bbopt.trial import Measurement, Outcome, TrialState
    from bbopt_client.trial import Trial

_TABLE = ("trial", "state", "feasible", "generator", "worker", "message")
"""Columns of a table beside the parameters and the metrics, which follow the second."""


class TellState(StrEnum):
    """How a trial ended, as ``tell`` takes it."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    INFEASIBLE = "infeasible"
    FAILED = "failed"


def ask(
    context: typer.Context,
    study: StudyArgument,
    n: Annotated[int, typer.Option("-n", "--count", help="How many trials.")] = 1,
    wait: Annotated[
        str, typer.Option(help="How long to wait while all trials are being evaluated.")
    ] = "0s",
    lease: Annotated[
        str, typer.Option(help="After how long a trial is handed out again; 0 for never.")
    ] = "1d",
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Ask for points to evaluate; tell what they measured with `bbopt tell`.

    Exits with 6 when the study is finished.
    """
    from bbopt_client.cli.connecting import open_study
    from bbopt_client.cli.durations import duration_option
    from bbopt_client.cli.failures import CommandError, ExitCode
    from bbopt_client.cli.output import write_records
    from bbopt_client.cli.records import trial_records

    options = merged(context, server, output)
    wait_s, lease_s = duration_option("--wait", wait), duration_option("--lease", lease)
    with options.open(spools=False) as client:
        found = open_study(client, study)
        answer = found.ask(n, wait_s=wait_s, lease_s=lease_s)
        if not answer:
            reason = answer.reason.value.replace("_", " ")
            if answer.is_finished:
                text = f"no more trials: study {answer.study_state.value}, {reason}"
                raise CommandError(text, ExitCode.NO_MORE_TRIALS)
            raise CommandError(f"no trial for now ({reason}); try again or add --wait 60s")
        with _held_until_shown(answer):
            names = [parameter.name for parameter in found.problem.space.parameters]
            records = trial_records(answer, found)
            write_records(records, options.format, columns=("trial", *names, "generator"))


@contextmanager
def _held_until_shown(trials: "Sequence[Trial]") -> "Iterator[None]":
    """Give trials back where they could not be shown: nobody would ever tell them."""
    try:
        yield
    except BaseException:
        for trial in trials:
            trial.release("not shown to who asked")
        print(f"gave back {len(trials)} trials that were not shown", file=sys.stderr)
        raise


def tell(
    context: typer.Context,
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="STUDY/NUMBER, as ask says.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE...", help="Such as loss=0.3 or 'acc=0.9±0.01'."),
    ] = None,
    state: Annotated[TellState, typer.Option(help="How it ended.")] = TellState.COMPLETED,
    message: Annotated[str, typer.Option("-m", "--message", help="Why it ended so.")] = "",
    retry: Annotated[bool, typer.Option(help="Run a failed trial again.")] = True,
    study: Annotated[
        str | None, typer.Option("--study", help="The study, when TRIAL is a number.")
    ] = None,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Tell what a trial measured."""
    from bbopt.trial import Measurement
    from bbopt_client.cli.connecting import open_study, split_trial
    from bbopt_client.cli.output import write_record
    from bbopt_client.cli.records import tell_record
    from bbopt_client.cli.tell_values import parse_metrics

    options = merged(context, server, output)
    study_name, number = split_trial(trial, study)
    metrics = parse_metrics(values or [])
    measurement = Measurement(metrics) if metrics else None
    outcome = _outcome(state, measurement, message, retry=retry)
    with options.open() as client:
        found = open_study(client, study_name)
        result = found.tell(number, outcome)
        write_record(tell_record(result, found), options.format)


def amend(
    context: typer.Context,
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="STUDY/NUMBER, as trials says.")
    ],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE...", help="Every metric as it should have been."),
    ] = None,
    reason: Annotated[
        str, typer.Option("-r", "--reason", help="Why it is corrected; kept in the log.")
    ] = "",
    state: Annotated[TellState, typer.Option(help="How it ended.")] = TellState.COMPLETED,
    message: Annotated[str, typer.Option("-m", "--message", help="Why it ended so.")] = "",
    study: Annotated[
        str | None, typer.Option("--study", help="The study, when TRIAL is a number.")
    ] = None,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Correct the result of an ended trial; the earlier one stays in the log.

    The new result replaces the old one as a whole, and later suggestions learn from it.
    """
    from bbopt.trial import Measurement
    from bbopt_client.cli.connecting import open_study, split_trial
    from bbopt_client.cli.output import write_record
    from bbopt_client.cli.records import trial_records
    from bbopt_client.cli.tell_values import parse_metrics

    options = merged(context, server, output)
    study_name, number = split_trial(trial, study)
    metrics = parse_metrics(values or [])
    outcome = _outcome(state, Measurement(metrics) if metrics else None, message, retry=False)
    with options.open(spools=False) as client:
        found = open_study(client, study_name)
        amended = found.amend(number, outcome, reason)
        write_record(trial_records([amended], found)[0], options.format)


def enqueue(
    context: typer.Context,
    study: StudyArgument,
    values: Annotated[
        list[str], typer.Argument(metavar="NAME=VALUE...", help="Such as lr=0.01 layers=3.")
    ],
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Queue a point of your own: whoever asks next gets it."""
    from bbopt_client.cli.connecting import open_study
    from bbopt_client.cli.output import write_record
    from bbopt_client.cli.point_values import parse_point
    from bbopt_client.cli.records import trial_records

    options = merged(context, server, output)
    with options.open(spools=False) as client:
        found = open_study(client, study)
        trial = found.enqueue(parse_point(values, found.problem.space))
        write_record(trial_records([trial], found)[0], options.format)


def _outcome(
    state: TellState, measurement: "Measurement | None", message: str, *, retry: bool
) -> "Outcome":
    from bbopt.trial import Completed, Failed, Infeasible, Stopped
    from bbopt_client.cli.failures import CommandError, ExitCode

    match state, measurement:
        case TellState.INFEASIBLE, _:
            return Infeasible(message, measurement)
        case TellState.FAILED, _:
            return Failed(message, retry, measurement)
        case _, None:
            raise CommandError(f"a {state} trial needs values: loss=0.3 ...", ExitCode.USAGE)
        case TellState.STOPPED, measured:
            return Stopped(measured)
        case _, measured:
            return Completed(measured)


def best(
    context: typer.Context,
    study: StudyArgument,
    model: Annotated[
        bool, typer.Option("--model", help="Rank by the model's mean, for noisy metrics.")
    ] = False,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Show the best feasible trial."""
    from bbopt_client.cli.connecting import open_study
    from bbopt_client.cli.failures import CommandError, ExitCode
    from bbopt_client.cli.output import write_record
    from bbopt_client.cli.records import trial_records

    options = merged(context, server, output)
    with options.open(spools=False) as client:
        found = open_study(client, study)
        trial = found.best(use_model=model)
        if trial is None:
            raise CommandError("nothing feasible has been measured yet", ExitCode.NOT_FOUND)
        write_record(trial_records([trial], found)[0], options.format)


def trials(
    context: typer.Context,
    study: StudyArgument,
    state: Annotated[
        list[str] | None, typer.Option(help="Only trials in this state; repeat for more.")
    ] = None,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """List trials."""
    from bbopt_client.cli.connecting import open_study
    from bbopt_client.cli.output import write_records
    from bbopt_client.cli.records import trial_records

    options = merged(context, server, output)
    states = _states(state or [])
    with options.open(spools=False) as client:
        found = open_study(client, study)
        records = trial_records(found.trials(states or None), found)
        problem = found.problem
        names = [parameter.name for parameter in problem.space.parameters]
        names += [metric.name for metric in problem.metrics]
    columns = (*_TABLE[:2], *names, *_TABLE[2:])
    write_records(records, options.format, columns=columns)


def _states(texts: list[str]) -> list["TrialState"]:
    from bbopt.errors import InvalidError
    from bbopt.trial import TrialState

    known = {state.value: state for state in TrialState}
    for text in texts:
        if text.lower() not in known:
            raise InvalidError.of("--state", f"{text!r} is none of {', '.join(known)}")
    return [known[text.lower()] for text in texts]


def export(
    context: typer.Context,
    study: StudyArgument,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FILE", help="File to write.", show_default="standard output"
        ),
    ] = None,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Write all trials, one a row: CSV unless -o says otherwise."""
    from pathlib import Path

    from bbopt_client.cli.connecting import open_study
    from bbopt_client.cli.failures import CommandError
    from bbopt_client.cli.output import Format, write_records
    from bbopt_client.cli.records import trial_records

    options = merged(context, server, output)
    chosen = options.output or Format.CSV
    with options.open(spools=False) as client:
        found = open_study(client, study)
        records = trial_records(found.trials(), found)
    if out is None:
        write_records(records, chosen)
        return
    try:
        with Path(out).open("w", encoding="utf-8", newline="") as stream:
            write_records(records, chosen, stream=stream)
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror or error}") from error
    print(f"wrote {len(records)} trials to {out}", file=sys.stderr)
