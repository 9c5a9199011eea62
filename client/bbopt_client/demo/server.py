"""The demo's own server: a process that may die, and comes back where it was."""

import sys
import time
from pathlib import Path

from bbopt.errors import BboptError
from bbopt_client.demo.processes import ProcessGroup

START_TIMEOUT_S = 60.0


class DemoServer:
    """The demo's own server on a free loopback port; comes back on the same port."""

    def __init__(self, out: Path, processes: ProcessGroup) -> None:
        self._out = out
        self._processes = processes
        self.address = "127.0.0.1:0"

    def start(self) -> None:
        """Start the server and wait until it has written its address.

        Raises:
            BboptError: It left, or wrote nothing for a minute; the log says why.
        """
        port_file = self._out / "server.address"
        port_file.unlink(missing_ok=True)
        self._process = self._processes.start(
            [
                *(sys.executable, "-m", "bbopt_server", "--db", str(self._out / "studies.db")),
                *("--listen", self.address, "--port-file", str(port_file)),
            ],
            log=self._out / "server.log",
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not port_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BboptError(f"the server did not start; see {self._out / 'server.log'}")
            time.sleep(0.05)
        self.address = port_file.read_text("utf-8").strip()

    def kill(self) -> None:
        """Kill the server without a warning, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def restart_if_dead(self) -> None:
        """Start the server again on its port if it has died."""
        if self._processes.has_ended(self._process):
            self.start()
