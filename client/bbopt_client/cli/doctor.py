"""``bbopt doctor``: looks for what usually goes wrong, and says what to do about it."""

import enum
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

from bbopt import __version__
from bbopt.errors import BboptError
from bbopt_client.cli.engine import missing_modules
from bbopt_client.cli.failures import ExitCode

_LOW_DISK_BYTES = 1_000_000_000
_DEVICE_PROBE = (
    "import torch; print(torch.__version__, 'cuda' if torch.cuda.is_available() else 'cpu')"
)


class Level(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """Something works only in part, or not here."""
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    level: Level
    message: str

    def as_dict(self) -> dict[str, str]:
        """Return the finding as the command line shows it."""
        return {"check": self.check, "level": self.level.value, "message": self.message}


def examine(server: str | None, db: str) -> list[Finding]:
    """Run every check.

    Args:
        server: Address that was asked for; a server that was not asked for may be absent.
        db: Where a server here would keep its studies.
    """
    return [
        _python(),
        _packages(),
        _engine(),
        _disk(Path(db)),
        _outbox(),
        _server(server),
    ]


def worst_exit_code(findings: Sequence[Finding]) -> ExitCode:
    """Say what to exit with: 3 for a server that was asked for and is not there."""
    errors = [finding for finding in findings if finding.level is Level.ERROR]
    if not errors:
        return ExitCode.OK
    is_server_alone = all(finding.check == "server" for finding in errors)
    return ExitCode.UNREACHABLE if is_server_alone else ExitCode.ERROR


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    level = Level.OK if sys.version_info >= (3, 11) else Level.ERROR
    return Finding("python", level, text)


def _packages() -> Finding:
    names = ("grpcio", "protobuf", "numpy")
    try:
        versions = ", ".join(f"{name} {installed(name)}" for name in names)
    except PackageNotFoundError as error:
        return Finding("packages", Level.ERROR, f"{error.name} is not installed")
    return Finding("packages", Level.OK, f"bbopt {__version__}, {versions}")


def _engine() -> Finding:
    missing = missing_modules()
    if missing:
        text = f"no server here ({', '.join(missing)} missing): pip install 'bbopt[server]'"
        return Finding("engine", Level.WARNING, text)
    try:
        # In a process of its own: importing torch takes seconds and may even crash.
        probe = subprocess.run(  # noqa: S603 - our own interpreter and a constant
            [sys.executable, "-c", _DEVICE_PROBE],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        return Finding("engine", Level.ERROR, f"torch cannot be loaded: {error}")
    torch_version, device = probe.stdout.split()
    return Finding("engine", Level.OK, f"torch {torch_version}, device {device}")


def _disk(db: Path) -> Finding:
    folder = db.resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return Finding("disk", Level.WARNING, f"{folder} cannot be written")
    free = shutil.disk_usage(folder).free
    level = Level.OK if free >= _LOW_DISK_BYTES else Level.WARNING
    return Finding("disk", level, f"{free / 1e9:.1f} GB free in {folder}")


def _outbox() -> Finding:
    from bbopt_client.settings import outbox_folder

    folder = outbox_folder()
    probe = folder if folder.exists() else _existing_parent(folder)
    if not os.access(probe, os.W_OK):
        text = f"{folder} cannot be written: results would not survive a crash"
        return Finding("outbox", Level.WARNING, text)
    waiting = [path for path in folder.glob("*.jsonl") if path.stat().st_size]
    refused = [path for path in waiting if path.name == "refused.jsonl"]
    text = str(folder)
    if len(waiting) > len(refused):
        text += f"; {len(waiting) - len(refused)} clients' results wait to be sent"
    if refused:
        text += f"; results that a server refused are in {refused[0].name}"
    return Finding("outbox", Level.WARNING if refused else Level.OK, text)


def _existing_parent(folder: Path) -> Path:
    return next((parent for parent in folder.parents if parent.exists()), Path("/"))


def _server(given: str | None) -> Finding:
    from bbopt_client.client import Client
    from bbopt_client.settings import ClientOptions

    options = ClientOptions(first_contact_s=3.0)
    try:
        with Client(given, options=options, outbox=False) as client:
            started = time.perf_counter()
            info = client.server_info()
            latency_ms = (time.perf_counter() - started) * 1e3
            address = client.address
    except BboptError as error:
        if given is None and not os.environ.get("BBOPT_SERVER"):
            return Finding("server", Level.WARNING, f"none here: {error}")
        return Finding("server", Level.ERROR, str(error))
    text = f"{address}, version {info.version}, device {info.device}, {latency_ms:.1f} ms"
    if info.version != __version__:
        return Finding("server", Level.WARNING, f"{text}; this client is {__version__}")
    if not info.is_suggest_ready:
        return Finding("server", Level.OK, f"{text}; models are still being loaded")
    return Finding("server", Level.OK, text)
