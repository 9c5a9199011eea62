"""A private server for one database file: found if it runs, started if it does not.

A running server writes ``<database>.lock`` with its address. Whoever finds none there that
answers takes ``<database>.starting``, looks again, and starts one; so two processes that come
at once end up at one server. The server is a program of its own and is never imported; what it
says is in ``<database>.log``.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bbopt.errors import BboptError, UnavailableError
from bbopt.rpc.v1.optimization_service_pb2 import GetServerInfoRequest
from bbopt_client.connection import Connection, FixedTarget
from bbopt_client.file_lock import lock_file
from bbopt_client.settings import ClientOptions

logger = logging.getLogger("bbopt.client")

IDLE_EXIT_S = 30
"""A private server leaves so long after its last client's last call."""
_PING_S = 10.0
_START_TIMEOUT_S = 60.0
_POLL_S = 0.02
_LEAVING_POLL_S = 0.2
_PROBE = ClientOptions(deadline_s=2.0, first_contact_s=1.0, attempt_timeout_s=1.0)
_N_LOG_LINES = 15
MEMORY = ":memory:"
"""A database that is gone with its server; never shared."""


class LocalServer:
    """Finds or starts the server of one database file."""

    is_movable = True

    def __init__(self, path: str | Path, *, device: str | None = None) -> None:
        self._is_memory = str(path) == MEMORY
        self.path = Path(path) if self._is_memory else Path(path).expanduser().resolve()
        self._device = device
        self._lock = threading.Lock()
        self._address: str | None = None

    @property
    def identity(self) -> str:
        """The file: its server may be at another address every time."""
        suffix = f"#{id(self)}-{os.getpid()}" if self._is_memory else ""
        return f"local:{self.path}{suffix}"

    def address(self) -> str:
        """Return where the server is, after starting it if none answers.

        Raises:
            UnavailableError: It could not be started.
        """
        with self._lock:
            if self._address is None or not _answers(self._address):
                try:
                    self._address = self._start() if self._is_memory else self._find_or_start()
                except OSError as error:
                    text = f"no server for {self.path} could be started: {error}"
                    raise UnavailableError(text) from error
            return self._address

    def keep_alive(self, connection: Connection) -> None:
        """Let the server hear of a client for as long as that is open."""
        threading.Thread(
            target=_ping, args=(connection,), name="bbopt-keep-alive", daemon=True
        ).start()

    def _find_or_start(self) -> str:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found = self._find()
        if found is not None:
            return found
        turn = Path(f"{self.path}.starting")
        descriptor = os.open(turn, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            lock_file(descriptor, blocking=True)
            address = self._find() or self._start()
            turn.unlink(missing_ok=True)  # Whoever comes after finds the server itself.
            return address
        finally:
            os.close(descriptor)

    def _find(self) -> str | None:
        """Return the address of the server that has the file, if it answers."""
        address = self._record().get("address")
        return address if isinstance(address, str) and _answers(address) else None

    def _record(self) -> dict[str, object]:
        """Read what the server that has, or had, the file left beside it."""
        try:
            record = json.loads(Path(f"{self.path}.lock").read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _start(self) -> str:
        deadline = time.monotonic() + _START_TIMEOUT_S
        with tempfile.TemporaryDirectory(prefix="bbopt-") as folder:
            port_file = Path(folder) / "port"
            log = Path(folder) / "log" if self._is_memory else Path(f"{self.path}.log")
            while True:
                process = self._spawn(port_file, log)
                while time.monotonic() < deadline and process.returncode is None:
                    address = _read_address(port_file)
                    if address is not None and _answers(address):
                        return address
                    time.sleep(_POLL_S)
                found = None if self._is_memory else self._find()
                if found is not None:
                    return found  # Somebody's `bbopt serve` was quicker.
                if time.monotonic() >= deadline or not self._is_leaving():
                    process.terminate()
                    raise UnavailableError(_explain(self.path, log))
                time.sleep(_LEAVING_POLL_S)

    def _spawn(self, port_file: Path, log: Path) -> "subprocess.Popen[bytes]":
        with log.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter
                self._command(port_file),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # Ctrl-C is for the client.
            )
        # Waiting also keeps the child from becoming a zombie when it leaves.
        threading.Thread(target=process.wait, name="bbopt-reaper", daemon=True).start()
        return process

    def _is_leaving(self) -> bool:
        """Say whether a server that answers no more is still writing the file back."""
        pid = self._record().get("pid")
        return isinstance(pid, int) and _is_alive(pid)

    def _command(self, port_file: Path) -> list[str]:
        command = [sys.executable, "-m", "bbopt_server", "--db", str(self.path)]
        command += ["--listen", "127.0.0.1:0", "--port-file", str(port_file)]
        command += ["--exit-after-last-client", str(IDLE_EXIT_S), "--log-level", "warning"]
        return command + (["--device", self._device] if self._device else [])


def _read_address(port_file: Path) -> str | None:
    """Read what the server wrote: a port, or host and port."""
    try:
        text = port_file.read_text().strip()
    except OSError:
        return None
    if not text:
        return None
    return text if ":" in text else f"127.0.0.1:{text}"


def _explain(path: Path, log: Path) -> str:
    """Say why a server did not start, in its own last words."""
    lines = log.read_text(errors="replace").splitlines()[-_N_LOG_LINES:]
    said = "\n  ".join(lines) or "(it said nothing)"
    hint = ""
    if any("No module named" in line for line in lines):
        hint = "\nThe server needs more than the client: pip install 'bbopt[server]'"
    return f"no server for {path} could be started:\n  {said}{hint}"


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return False  # A signal would end the process there.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _answers(address: str) -> bool:
    """Say whether a bbopt server answers at an address."""
    connection = Connection(FixedTarget(address), _PROBE)
    try:
        connection.call(lambda stubs: stubs.optimization.GetServerInfo, GetServerInfoRequest())
    except BboptError:
        return False
    finally:
        connection.close()
    return True


def _ping(connection: Connection) -> None:
    """Call now and then until the client is closed."""
    while True:
        try:
            connection.wait(_PING_S)
            if connection.last_answer_at is None:
                continue  # Nothing was asked yet, so there may be no server to keep.
            connection.call(
                lambda stubs: stubs.optimization.GetServerInfo,
                GetServerInfoRequest(),
                deadline_s=_PING_S,
            )
        except BboptError:
            if connection.is_closed:
                return


__all__ = ["IDLE_EXIT_S", "MEMORY", "LocalServer"]
