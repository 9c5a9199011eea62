"""Results that are on their way: on disk before they are sent, until they are answered.

Every client spools into a file of its own, ``<server>-<process>-<random>.jsonl``, and holds
that file's lock for as long as it lives. A file whose lock is free belongs to a client that is
gone; the next client of the same server adopts what is in it. An answered entry that could not
be crossed out in time is sent once more with the same request id, which the server recognises.

A line is either an entry or ``{"done": request id}``. A torn last line is a result whose tell
had not begun: whoever measured it was not told that it is safe.
"""

import base64
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from google.protobuf.message import DecodeError

from bbopt.errors import BboptError
from bbopt.rpc.v1.optimization_service_pb2 import TellTrialsRequest
from bbopt_client.file_lock import lock_file

logger = logging.getLogger("bbopt.client")

_MAX_FILE_BYTES = 4 << 20
"""A spool that outgrows this is begun anew with what is still pending."""


@dataclass(frozen=True, slots=True)
class SpooledTell:
    """One tell that has not been answered yet."""

    request_id: str
    server: str
    """Identity of the server that it is meant for."""
    study_uid: str
    """A study of the same name with another uid must not get it."""
    body: str
    """The serialised ``TellTrialsRequest``, base 64."""

    def request(self) -> TellTrialsRequest:
        """Decode the request."""
        return TellTrialsRequest.FromString(base64.b64decode(self.body))


def spooled(request: TellTrialsRequest, *, server: str) -> SpooledTell:
    """Make the entry of a request."""
    body = base64.b64encode(request.SerializeToString(deterministic=True)).decode()
    return SpooledTell(request.request_id, server, request.study_uid, body)


class Outbox:
    """The spool of one client in a folder that clients share.

    Raises:
        OSError: The folder cannot be made or written to.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self._server = server
        self._stem = hashlib.sha256(server.encode()).hexdigest()[:16]
        self._lock = threading.RLock()
        self._pending: dict[str, SpooledTell] = {}
        self._attended: set[str] = set()
        """Pending entries that a call is sending right now."""
        self._file: _SpoolFile | None = None
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def refused_path(self) -> Path:
        """File with the results that the server will never take, one JSON object a line."""
        return self.folder / "refused.jsonl"

    def append(self, entry: SpooledTell) -> None:
        """Write an entry to disk; it counts as being sent by the caller.

        Raises:
            OSError: The entry is not on disk.
        """
        with self._lock:
            self._write([entry])
            self._attended.add(entry.request_id)

    def adopt(self) -> int:
        """Take over what clients of the same server left behind when they ended.

        Returns:
            How many entries were adopted.
        """
        n_adopted = 0
        for path in sorted(self.folder.glob(f"{self._stem}-*.jsonl")):
            with self._lock:
                if self._file is None or path != self._file.path:
                    n_adopted += self._adopt(path)
        return n_adopted

    def settle(self, request_id: str) -> None:
        """Cross out an entry that was answered."""
        with self._lock:
            self._attended.discard(request_id)
            if self._pending.pop(request_id, None) is None or self._file is None:
                return
            try:
                if not self._pending:
                    self._file.empty()
                else:
                    self._file.append([{"done": request_id}], sync=False)
                    if self._file.size > _MAX_FILE_BYTES:
                        self._begin_anew()
            except OSError as error:
                logger.warning("outbox: cannot cross out %s: %s", request_id, error)

    def release(self, request_id: str) -> None:
        """Say that the caller stopped sending an entry; it stays pending."""
        with self._lock:
            self._attended.discard(request_id)

    def refuse(self, entry: SpooledTell, error: BboptError, trials: Iterable[str]) -> None:
        """Set aside results that the server will never take."""
        record = {
            "at": time.time(),
            "reason": error.reason,
            "message": str(error),
            "trials": list(trials),
            **asdict(entry),
        }
        with self._lock:
            try:
                _append_line(self.refused_path, record)
            except OSError as problem:
                logger.error("outbox: cannot set aside %s: %s", entry.request_id, problem)
            self.settle(entry.request_id)

    def pending(self) -> tuple[SpooledTell, ...]:
        """Return every entry that has not been answered."""
        with self._lock:
            return tuple(self._pending.values())

    def unattended(self) -> tuple[SpooledTell, ...]:
        """Return the entries that nobody is sending."""
        with self._lock:
            return tuple(
                entry for key, entry in self._pending.items() if key not in self._attended
            )

    def close(self) -> None:
        """Give the spool up; what is pending waits for the next client."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close(keep=bool(self._pending))

    def _write(self, entries: Iterable[SpooledTell]) -> None:
        entries = list(entries)
        if self._file is None:
            self._file = _SpoolFile.create(self.folder, self._stem)
        self._file.append([asdict(entry) for entry in entries], sync=True)
        self._pending.update((entry.request_id, entry) for entry in entries)

    def _begin_anew(self) -> None:
        old, self._file = self._file, None
        self._write(self._pending.values())
        if old is not None:
            old.close(keep=False)

    def _adopt(self, path: Path) -> int:
        try:
            orphan = _SpoolFile.claim(path)
        except OSError as error:
            logger.warning("outbox: cannot look into %s: %s", path, error)
            return 0
        if orphan is None:
            return 0
        keep = True
        try:
            found = [entry for entry in orphan.read() if entry.server == self._server]
            if found:
                self._write(found)
            keep = False
        except OSError as error:
            logger.warning("outbox: cannot adopt %s: %s", path, error)
            return 0
        finally:
            orphan.close(keep=keep)
        return len(found)


class _SpoolFile:
    """One open, locked spool."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    @classmethod
    def create(cls, folder: Path, stem: str) -> "_SpoolFile":
        """Begin a spool that nobody else has."""
        while True:
            path = folder / f"{stem}-{os.getpid()}-{uuid4().hex[:12]}.jsonl"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
            descriptor = os.open(path, flags, 0o600)
            try:
                lock_file(descriptor, blocking=True)
            except OSError as error:
                # Without locks nobody adopts this file, but its own client still resends.
                logger.warning("outbox: no file locks in %s: %s", folder, error)
            if path.exists():
                return cls(path, descriptor)
            os.close(descriptor)  # Taken for an orphan between its birth and its lock.

    @classmethod
    def claim(cls, path: Path) -> "_SpoolFile | None":
        """Open the spool of a client that is gone; ``None`` if it lives."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return None
        try:
            is_mine = lock_file(descriptor, blocking=False) and path.exists()
        except OSError:
            os.close(descriptor)
            raise
        if is_mine:
            return cls(path, descriptor)
        os.close(descriptor)
        return None

    def append(self, records: Iterable[object], *, sync: bool) -> None:
        """Write records at the end; a failed write leaves no half record."""
        data = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        try:
            written = os.write(self._descriptor, data)
            if written != len(data):
                raise OSError(f"wrote {written} of {len(data)} bytes: is the disk full?")
            if sync:
                os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)

    def empty(self) -> None:
        """Remove every record."""
        os.ftruncate(self._descriptor, 0)
        self.size = 0

    def read(self) -> Iterator[SpooledTell]:
        """Yield the entries that are not crossed out, in the order of writing."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._descriptor), "rb") as stream:
            lines = stream.read().split(b"\n")
        entries: dict[str, SpooledTell] = {}
        for line in filter(None, lines):
            record = _record(line)
            match record:
                case {"done": str(request_id)}:
                    entries.pop(request_id, None)
                case SpooledTell():
                    entries[record.request_id] = record
                case _:
                    logger.warning("outbox: a torn line in %s is ignored", self.path)
        yield from entries.values()

    def close(self, *, keep: bool) -> None:
        """Give the lock up, and remove the file unless it is still needed."""
        if not keep:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


def _record(line: bytes) -> object:
    """Read one line; ``None`` for what is no record."""
    try:
        record = json.loads(line)
        if isinstance(record, dict) and "done" not in record:
            entry = SpooledTell(**record)
            entry.request()
            return entry
    except (ValueError, TypeError, DecodeError):
        return None
    return record


def _append_line(path: Path, record: object) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, json.dumps(record).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
