"""``bbopt serve``, ``demo``, ``doctor``, ``version``. Imports what it needs when run."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from bbopt_client.cli.options import OutputOption, ServerOption, merged


def serve(
    db: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="SQLite file, or :memory:. Default: bbopt.db."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Loopback address; port 0 picks one. Default: 127.0.0.1:50151.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:N or auto. Default: auto.")
    ] = None,
    compute_processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that fit models, one thread each. Default: 1."),
    ] = None,
    compute_cores: Annotated[
        str | None,
        typer.Option(metavar="2,3", help="Cores to bind them to, in turn; Linux only."),
    ] = None,
    backups: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Gets copies of the file while it is served."),
    ] = None,
    backup_every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Between two of them. Default: 1h.")
    ] = None,
    port_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Gets the address once it is bound.")
    ] = None,
    exit_after_last_client: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Leave when no call came for so long."),
    ] = None,
) -> None:
    """Run a server until SIGTERM or Ctrl-C."""
    from bbopt_client.cli.durations import duration_option
    from bbopt_client.cli.engine import require_engine

    every_s = None if backup_every is None else duration_option("--backup-every", backup_every)
    require_engine()
    flags = {
        "--db": db,
        "--listen": listen,
        "--device": device,
        "--compute-processes": compute_processes,
        "--compute-cores": compute_cores,
        "--backups": backups,
        "--backup-every": every_s,
        "--port-file": port_file,
        "--exit-after-last-client": exit_after_last_client,
    }
    given = [
        word
        for flag, value in flags.items()
        if value is not None
        for word in (flag, str(value))
    ]
    command = [sys.executable, "-m", "bbopt_server", *given]
    sys.stdout.flush()
    if os.name == "posix":
        # The server takes this process over: signals and the exit code are its own.
        os.execv(sys.executable, command)  # noqa: S606 - our own server, never a shell
    import subprocess

    raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603


def demo(
    seed: Annotated[
        int, typer.Option(min=0, max=2**63, help="Same seed, same initial points.")
    ] = 0,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each study.")] = 40,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 4,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path(
        "bbopt-demo"
    ),
    no_random: Annotated[
        bool, typer.Option("--no-random", help="Leave out the comparison with random search.")
    ] = False,
    chaos: Annotated[
        bool,
        typer.Option(
            "--chaos",
            help="Kill a worker and the server on the way, and check that nothing is lost; "
            "without the comparison.",
        ),
    ] = False,
) -> None:
    """Tune a classifier on a real server with real workers, and write a report."""
    from bbopt_client.cli.failures import CommandError, ExitCode
    from bbopt_client.demo.chaos import MIN_TRIALS, MIN_WORKERS
    from bbopt_client.demo.main import DemoOptions
    from bbopt_client.demo.main import run as run_demo

    if chaos and (trials < MIN_TRIALS or workers < MIN_WORKERS):
        raise CommandError(
            f"--chaos needs {MIN_TRIALS} trials and {MIN_WORKERS} workers at least",
            ExitCode.USAGE,
        )
    options = DemoOptions(
        seed=seed,
        n_trials=trials,
        n_workers=workers,
        out=out,
        with_random=not (no_random or chaos),
        has_chaos=chaos,
    )
    raise typer.Exit(run_demo(options))


def doctor(
    context: typer.Context,
    db: Annotated[
        str, typer.Option(metavar="PATH", help="Where a server here would keep its studies.")
    ] = "bbopt.db",
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Check this installation, this machine and the server."""
    from bbopt_client.cli.doctor import examine, worst_exit_code
    from bbopt_client.cli.output import Record, write_records

    options = merged(context, server, output)
    findings = examine(options.server, db)
    records = [Record(finding.as_dict(), finding.as_dict()) for finding in findings]
    write_records(records, options.format)
    raise typer.Exit(worst_exit_code(findings))


def version(context: typer.Context, output: OutputOption = None) -> None:
    """Show the version."""
    from importlib.metadata import version as installed

    from bbopt import __version__
    from bbopt_client.cli.output import Format, Record, write_record

    options = merged(context, None, output)
    if options.output in (None, Format.TABLE):
        print(f"bbopt {__version__}")
        return
    data = {
        "bbopt": __version__,
        "grpcio": installed("grpcio"),
        "protobuf": installed("protobuf"),
        "python": sys.version.split()[0],
    }
    write_record(Record(data, data), options.format)
