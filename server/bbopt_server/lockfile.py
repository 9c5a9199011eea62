"""Files that tell others on this machine where a server listens.

The lock file beside a database says which process serves it: ``{"pid": ..., "address": ...}``.
It is only a hint for finding that server. What keeps a second server away is the exclusive
lock that SQLite holds on the database itself, which ends with the process.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bbopt.errors import UnavailableError
from bbopt_server.settings import MEMORY


def write_atomically(path: Path, text: str) -> None:
    """Put a text into a file so that nobody ever reads half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def announced(db: str, address: str, port_file: Path | None) -> Iterator[None]:
    """Say where the server of a database listens, for as long as the block runs.

    Raises:
        UnavailableError: A file cannot be written.
    """
    written: list[tuple[Path, str]] = []
    if db != MEMORY:
        content = json.dumps({"pid": os.getpid(), "address": address})
        written.append((Path(f"{db}.lock"), content))
    if port_file is not None:
        written.append((port_file, address + "\n"))
    try:
        for path, text in written:
            try:
                write_atomically(path, text)
            except OSError as error:
                raise UnavailableError(f"{path} cannot be written: {error.strerror}") from error
        yield
    finally:
        for path, text in written:
            with contextlib.suppress(OSError):
                if path.read_text() == text:  # Not one that another server wrote since.
                    path.unlink()


def holder_of(db: str) -> str:
    """Say which other process serves a database, if its lock file knows one that lives."""
    try:
        record = json.loads(Path(f"{db}.lock").read_text())
        os.kill(pid := record["pid"], 0)
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return ""
    return f"process {pid} at {record.get('address')}"
