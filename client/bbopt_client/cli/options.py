"""Options that several commands share. Importing this is light."""

from typing import Annotated, TypeAlias

import typer

from bbopt_client.cli.connecting import Globals
from bbopt_client.cli.output import Format

ServerOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="HOST:PORT",
        help="Address of the server.",
        show_default="$BBOPT_SERVER or 127.0.0.1:50151",
    ),
]
OutputOption: TypeAlias = Annotated[
    Format | None,
    typer.Option(
        "-o",
        "--output",
        help="How to write data.",
        show_default="table on a terminal, json otherwise",
    ),
]
StudyArgument: TypeAlias = Annotated[str, typer.Argument(metavar="STUDY", help="Name.")]
FileOption: TypeAlias = Annotated[
    str | None,
    typer.Option("-f", "--file", metavar="FILE", help="Study file (YAML or JSON); - is stdin."),
]


def merged(context: typer.Context, server: str | None, output: Format | None) -> Globals:
    """Put the options before and behind the command together."""
    before = context.obj if isinstance(context.obj, Globals) else Globals()
    return before.merged(server, output)
