"""A real server and the ``bbopt`` command as a person types it, for end-to-end tests."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from bbopt_client.cli import app
from tests.waiting import wait_until

BBOPT = (sys.executable, "-m", "bbopt_client.cli")
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Done:
    """What a command wrote."""

    stdout: str
    stderr: str


@dataclass
class CommandLine:
    """One folder, one server, and commands that talk to it."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    server: "subprocess.Popen[bytes] | None" = None

    def start_server(self, listen: str = "127.0.0.1:0") -> None:
        """Start ``bbopt serve`` and wait until it answers."""
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self.server = subprocess.Popen(  # noqa: S603
                [
                    *(*BBOPT, "serve", "--db", "studies.db", "--listen", listen),
                    *("--device", "cpu", "--port-file", str(port_file)),
                ],
                cwd=self.folder,
                env=self._environment(),
                stdout=log,
                stderr=log,
            )
        wait_until(
            lambda: port_file.exists() and bool(port_file.read_text().strip()),
            limit_s=START_TIMEOUT_S,
        )
        self.address = port_file.read_text().strip()

    def stop_server(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the server and wait for its end."""
        assert self.server is not None
        self.server.send_signal(number)
        return self.server.wait(START_TIMEOUT_S)

    def run(self, *words: str, code: int = 0, stdin: str = "") -> "Done":
        """Type ``bbopt WORDS`` and expect an exit code.

        In this process, which saves a second of imports each time; ``type`` starts a new one.
        """
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self._environment(), clear=True),
            mock.patch("sys.stdin", io.StringIO(stdin)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            given = app.run(words)
        assert given == code, (given, out.getvalue(), err.getvalue())
        return Done(out.getvalue(), err.getvalue())

    def type(self, *words: str, code: int = 0) -> "Done":
        """Type ``bbopt WORDS`` as a process of its own and expect an exit code."""
        done = subprocess.run(  # noqa: S603
            [*BBOPT, *words],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return Done(done.stdout, done.stderr)

    def shell(self, command: str) -> None:
        """Type a line into a shell and expect that it succeeds."""
        environment = self._environment()
        programs = f"{Path(sys.executable).parent}:{environment['PATH']}"
        done = subprocess.run(  # noqa: S602 - as a reader would
            command,
            shell=True,
            cwd=self.folder,
            env=environment | {"PATH": programs},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def json(self, *words: str) -> Any:  # noqa: ANN401 - whatever the command writes
        """Type a command and read the JSON it writes."""
        return json.loads(self.run(*words, "-o", "json").stdout)

    def worker(self, *words: str) -> "subprocess.Popen[str]":
        """Start ``bbopt run WORDS`` in the background."""
        return subprocess.Popen(  # noqa: S603
            [*BBOPT, "run", *words],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def create(self, name: str, *words: str) -> None:
        """Create a random-search study of one parameter ``x`` and one metric ``loss``."""
        self.run(
            *("study", "create", name, "--space", "x:float(0,1)", "--objective", "-loss"),
            *("--strategy", "random", "--seed", "1", *words),
        )

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "BBOPT" not in name}
        return kept | {
            "XDG_STATE_HOME": str(self.folder / "state"),
            "OMP_NUM_THREADS": "1",
            "BBOPT_SERVER": self.address or "127.0.0.1:1",
            "OUT": str(self.folder),
            **self.environment,
        }


@contextlib.contextmanager
def served(folder: Path) -> Iterator[CommandLine]:
    """Give a command line with a server, and leave nothing running."""
    line = CommandLine(folder)
    try:
        line.start_server()
        yield line
    finally:
        if line.server is not None and line.server.poll() is None:
            line.stop_server(signal.SIGKILL)
