"""The commands of ``bbopt``. Every command imports what it needs when it runs: help is quick.

Standard output has data only; everything else goes to standard error.
"""

from collections.abc import Sequence

import typer

from bbopt_client.cli import run_command, server_commands, study_commands, trial_commands
from bbopt_client.cli.connecting import Globals
from bbopt_client.cli.failures import ExitCode, report_failure, wants_json
from bbopt_client.cli.options import OutputOption, ServerOption

app = typer.Typer(
    name="bbopt",
    help="Bayesian optimization as a service: studies, trials, workers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _globals(
    context: typer.Context, server: ServerOption = None, output: OutputOption = None
) -> None:
    context.obj = Globals(server, output)


app.add_typer(study_commands.app, name="study", rich_help_panel="Studies")
for _panel, _commands in {
    "Studies": (
        trial_commands.ask,
        trial_commands.tell,
        trial_commands.amend,
        trial_commands.enqueue,
        trial_commands.best,
        trial_commands.trials,
        trial_commands.export,
    ),
    "Work": (run_command.run,),
    "Server": (
        server_commands.serve,
        server_commands.demo,
        server_commands.doctor,
        server_commands.version,
    ),
}.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        code = app(list(arguments), standalone_mode=False, prog_name="bbopt")
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except Exception as error:
        return report_failure(error, as_json=wants_json(arguments))
    return code if isinstance(code, int) else ExitCode.OK
