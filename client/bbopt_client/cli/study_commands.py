"""``bbopt study``: create, list, show, delete and validate. Imports what it needs when run."""

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bbopt_client.cli.options import (
    FileOption,
    OutputOption,
    ServerOption,
    StudyArgument,
    merged,
)

if TYPE_CHECKING:
    from bbopt_client.cli.study_files import StudyDefinition

app = typer.Typer(help="Create, list, show, delete and check studies.", no_args_is_help=True)


class IfExists(StrEnum):
    """What to do when the name is taken."""

    FAIL = "fail"
    LOAD_IF_EQUAL = "load_if_equal"
    LOAD = "load"


NameArgument = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Name of the study.")
]
SpaceOption = Annotated[
    list[str] | None,
    typer.Option("--space", metavar="NAME:TYPE(...)", help="A parameter; repeat for more."),
]


@app.command()
def create(
    context: typer.Context,
    name: NameArgument = None,
    file: FileOption = None,
    space: SpaceOption = None,
    objective: Annotated[
        str | None, typer.Option(help="-loss is minimised, accuracy maximised.")
    ] = None,
    constraint: Annotated[
        list[str] | None, typer.Option(help="Such as 'latency_ms <= 20'; repeat for more.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Recorded, not used; repeat for more.")
    ] = None,
    parameter_constraint: Annotated[
        list[str] | None, typer.Option(help="Such as 'a + 2*b <= 1'; repeat for more.")
    ] = None,
    fidelity: Annotated[
        str | None,
        typer.Option(
            metavar="NAME(LOW,HIGH)", help="How far trials may go, such as 'epochs(1,81)'."
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Trials that complete the study.")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="auto, gp, cma_es, sobol, random or asha.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same suggestions.")] = None,
    if_exists: Annotated[
        IfExists, typer.Option(help="When the name is taken.")
    ] = IfExists.FAIL,
    project: Annotated[str | None, typer.Option(help="Groups studies.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Have the server check it, create nothing.")
    ] = False,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Create a study, from a file or from options.

    bbopt study create -f study.yaml

    bbopt study create digits --space 'lr:float(1e-5,1e-1,log)' --objective -loss --trials 40
    """
    from bbopt_client.cli.defining import definition_from_options
    from bbopt_client.cli.failures import CommandError, ExitCode
    from bbopt_client.cli.output import write_record
    from bbopt_client.cli.records import study_record

    options = merged(context, server, output)
    definition = definition_from_options(
        file=file,
        space=space or [],
        objective=objective,
        constraints=constraint or [],
        metrics=metric or [],
        parameter_constraints=parameter_constraint or [],
        fidelity=fidelity,
        trials=trials,
        strategy=strategy,
        seed=seed,
    )
    chosen = name or definition.name
    if chosen is None:
        raise CommandError(
            "the study needs a name: bbopt study create NAME ...", ExitCode.USAGE
        )
    with options.open(spools=False) as client:
        study = client.create_study_from(
            chosen,
            definition.spec,
            if_exists=if_exists.value,
            labels=definition.labels,
            project=project or definition.project or "default",
            validate_only=dry_run,
        )
        print(f"{'checked' if dry_run else 'created'} study {chosen}", file=sys.stderr)
        write_record(study_record(study), options.format)


@app.command(name="list")
def list_studies(
    context: typer.Context,
    project: Annotated[str, typer.Option(help="Groups studies.")] = "default",
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """List studies."""
    from bbopt_client.cli.output import write_records
    from bbopt_client.cli.records import study_record

    options = merged(context, server, output)
    columns = ("study", "state", "objective", "finished", "budget", "active", "failed")
    with options.open(spools=False) as client:
        records = [study_record(study) for study in client.studies(project=project)]
    write_records(records, options.format, columns=columns)


@app.command()
def show(
    context: typer.Context,
    study: StudyArgument,
    definition: Annotated[
        bool, typer.Option("--definition", help="Print the study as a study file.")
    ] = False,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Show one study."""
    from bbopt_client.cli.connecting import open_study
    from bbopt_client.cli.output import write_record
    from bbopt_client.cli.records import study_record

    options = merged(context, server, output)
    with options.open(spools=False) as client:
        found = open_study(client, study)
        if definition:
            from bbopt_client.cli.study_files.writer import to_definition, to_yaml

            print(
                to_yaml(to_definition(found.spec, name=found.id, labels=found.labels)), end=""
            )
            return
        write_record(study_record(found, with_definition=True), options.format)


@app.command()
def delete(
    context: typer.Context,
    study: StudyArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Delete a study; its name is free again."""
    from bbopt_client.cli.connecting import open_study
    from bbopt_client.cli.failures import CommandError, ExitCode

    options = merged(context, server, output)
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError("add --yes to delete without being asked", ExitCode.USAGE)
        typer.confirm(f"Delete study {study}?", abort=True, err=True)
    with options.open(spools=False) as client:
        open_study(client, study).delete()
    print(f"deleted study {study}", file=sys.stderr)


@app.command()
def validate(
    context: typer.Context,
    file: Annotated[
        str, typer.Option("-f", "--file", metavar="FILE", help="Study file; - is stdin.")
    ],
    output: OutputOption = None,
) -> None:
    """Check a study file without a server; every fault is listed with its line."""
    from bbopt_client.cli.output import Record, write_record
    from bbopt_client.cli.records import metric_text
    from bbopt_client.cli.study_files import load_study_file

    options = merged(context, None, output)
    definition: StudyDefinition = load_study_file(file)
    problem = definition.spec.problem
    flat = {
        "file": file,
        "study": definition.name,
        "n_parameters": len(problem.space.parameters),
        "objective": metric_text(problem.objective),
    }
    write_record(Record(flat, flat), options.format)
