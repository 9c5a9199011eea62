"""A disk in memory that forgets what was not synced when the power fails, for SQLite.

Every file has what is on the disk for sure and the writes since its last sync. A power loss
keeps the former and, of the latter, nothing or a random part: whole sectors of 512 bytes, in
any combination, so that pages tear. Names appear and disappear for sure with the next sync of
their folder: SQLite's file system for Unix does one with the first sync of a journal that it
opened.

The SQLite behind it is the one in apsw: Python's own takes no file system from Python. The
adapter at the end lets the store, its settings and its statements run on it unchanged.
"""

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast

import apsw

SECTOR = 512
_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL
_names = itertools.count(1)


class Keep(Enum):
    """What a power loss leaves of the writes since the last sync."""

    NOTHING = "nothing"
    SOME = "some"


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes at an offset; past the end, the gap is zeros."""

    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        end = self.offset + len(self.data)
        content.extend(bytes(max(0, end - len(content))))
        content[self.offset : end] = self.data

    def sectors(self) -> "Iterator[Write]":
        """Split where sectors end."""
        start = 0
        while start < len(self.data):
            end = start + SECTOR - (self.offset + start) % SECTOR
            yield Write(self.offset + start, self.data[start:end])
            start = end


@dataclass(frozen=True, slots=True)
class Truncate:
    """A new, smaller size."""

    size: int

    def apply(self, content: bytearray) -> None:
        del content[self.size :]

    def sectors(self) -> "Iterator[Truncate]":
        yield self


@dataclass(slots=True)
class File:
    """A file as its readers see it, and as the disk has it."""

    durable: bytearray = field(default_factory=bytearray)
    current: bytearray | None = field(default_factory=bytearray)
    """``None``: deleted, but the disk may not know it yet."""
    pending: list[Write | Truncate] = field(default_factory=list)
    is_named: bool = False
    """Whether the disk knows that the name leads here."""
    before: bytearray | None = None
    """Where the name leads on the disk otherwise."""

    def change(self, change: Write | Truncate) -> None:
        assert self.current is not None
        change.apply(self.current)
        self.pending.append(change)

    def sync(self) -> None:
        assert self.current is not None
        self.durable = bytearray(self.current)
        self.pending.clear()

    def delete(self) -> None:
        self.current = None
        self.pending.clear()

    @property
    def certain(self) -> bytearray | None:
        """What the disk has under the name for sure."""
        return self.durable if self.is_named else self.before

    def after_power_loss(self, keep: Keep, rng: random.Random) -> bytearray | None:
        """Say what is there when the power is back; ``None``: no such file."""
        is_name_kept = self.is_named or rng.random() < 0.5
        if keep is Keep.NOTHING or (self.current is not None and not is_name_kept):
            return self.certain
        if self.current is None:
            return self.certain if rng.random() < 0.5 else None
        content = bytearray(self.durable)
        share = rng.random()
        for change in self.pending:
            for piece in change.sectors():
                if rng.random() < share:
                    piece.apply(content)
        return content


class Disk:
    """Files by name, and a power supply.

    Args:
        files: What is there.
        fails_at: How many operations that change something are still done; ``None``: all.
    """

    def __init__(
        self, files: dict[str, bytearray] | None = None, *, fails_at: int | None = None
    ) -> None:
        self.files = {
            name: File(bytearray(content), bytearray(content), is_named=True)
            for name, content in (files or {}).items()
        }
        self.fails_at = fails_at
        self.n_changes = 0

    @property
    def has_failed(self) -> bool:
        return self.fails_at is not None and self.n_changes >= self.fails_at

    def count(self, what: int) -> None:
        """Count a change that is about to happen.

        Raises:
            apsw.IOError: The power is out.
        """
        self.check(what)
        self.n_changes += 1

    def check(self, what: int) -> None:
        """Refuse everything once the power is out."""
        if self.has_failed:
            raise apsw.exception_for(what)

    def sync_folder(self) -> None:
        """Make names as durable as the files that they lead to."""
        self.files = {n: file for n, file in self.files.items() if file.current is not None}
        for file in self.files.values():
            file.is_named, file.before = True, None

    def after_power_loss(self, keep: Keep, rng: random.Random) -> "Disk":
        """Switch the power on again."""
        contents = {name: file.after_power_loss(keep, rng) for name, file in self.files.items()}
        return Disk({name: each for name, each in contents.items() if each is not None})


class DiskFile:
    """The methods that SQLite calls on an open file."""

    def __init__(self, disk: Disk, name: str, flags: int) -> None:
        self._disk = disk
        self._name = name
        # As the one for Unix: with the first sync of a journal that may be new.
        self._syncs_folder = bool(flags & apsw.SQLITE_OPEN_CREATE and flags & _JOURNALS)

    @property
    def _file(self) -> File:
        return self._disk.files[self._name]

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.check(apsw.SQLITE_IOERR_READ)
        assert self._file.current is not None
        return bytes(self._file.current[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.count(apsw.SQLITE_IOERR_WRITE)
        self._file.change(Write(offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.count(apsw.SQLITE_IOERR_TRUNCATE)
        self._file.change(Truncate(size))

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802
        self._disk.count(apsw.SQLITE_IOERR_FSYNC)
        self._file.sync()
        if self._syncs_folder:
            self._disk.sync_folder()
            self._syncs_folder = False

    def xFileSize(self) -> int:  # noqa: N802
        self._disk.check(apsw.SQLITE_IOERR_FSTAT)
        assert self._file.current is not None
        return len(self._file.current)

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE  # What the one for Unix says.

    def xSectorSize(self) -> int:  # noqa: N802
        return 4096  # Likewise.

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: ARG002, N802
        return False

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xLock(self, level: int) -> None: ...  # noqa: N802
    def xUnlock(self, level: int) -> None: ...  # noqa: N802
    def xClose(self) -> None: ...  # noqa: N802


class DiskVfs(apsw.VFS):
    """A file system for SQLite on one disk; ``close`` it after its last connection."""

    def __init__(self, disk: Disk) -> None:
        self.name = f"disk-{next(_names)}"
        super().__init__(self.name, base="")
        self._disk = disk

    def close(self) -> None:
        self.unregister()

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name

    def xOpen(  # noqa: N802
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        filename = name.filename() if isinstance(name, apsw.URIFilename) else name
        assert filename is not None, "temporary files belong in memory"
        self._disk.check(apsw.SQLITE_CANTOPEN)
        known = self._disk.files.get(filename)
        if known is None or known.current is None:
            if not flags[0] & apsw.SQLITE_OPEN_CREATE:
                raise apsw.CantOpenError(filename)
            self._disk.count(apsw.SQLITE_CANTOPEN)
            self._disk.files[filename] = File(before=known.certain if known else None)
        flags[1] = flags[0]
        return cast(apsw.VFSFile, DiskFile(self._disk, filename, flags[0]))

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self._disk.count(apsw.SQLITE_IOERR_DELETE)
        self._disk.files[filename].delete()
        if syncdir:
            self._disk.sync_folder()

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: ARG002, N802
        self._disk.check(apsw.SQLITE_IOERR_ACCESS)
        file = self._disk.files.get(pathname)
        return file is not None and file.current is not None


# What the store uses of sqlite3 -------------------------------------------------------------


class _Cursor:
    """A cursor of apsw under the names that ``sqlite3.Cursor`` has."""

    def __init__(self, connection: apsw.Connection, sql: str, values: Sequence[Any]) -> None:
        self._rows: list[tuple[Any, ...]] = list(connection.execute(sql, tuple(values) or None))
        self.rowcount = connection.changes()
        self.lastrowid = connection.last_insert_rowid()

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        rows, self._rows = self._rows, []
        return rows

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.fetchall())


class _Connection:
    """A connection of apsw under the names that ``sqlite3.Connection`` has."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Any] = ()) -> _Cursor:
        try:
            return _Cursor(self._connection, sql, values)
        except apsw.Error as error:
            raise _as_sqlite3(error) from error

    def executescript(self, sql: str) -> _Cursor:
        return self.execute(sql)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def set_progress_handler(self, handler: Callable[[], bool] | None, n: int) -> None:
        self._connection.set_progress_handler(handler, max(1, n))

    def close(self) -> None:
        with suppress(apsw.Error):  # sqlite3's does not raise either when the disk fails.
            self._connection.close()


def _as_sqlite3(error: apsw.Error) -> sqlite3.DatabaseError:
    kind: type[sqlite3.DatabaseError] = sqlite3.OperationalError
    if isinstance(error, apsw.ConstraintError):
        kind = sqlite3.IntegrityError
    elif isinstance(error, apsw.CorruptError | apsw.NotADBError):
        kind = sqlite3.DatabaseError
    translated = kind(str(error))
    translated.sqlite_errorcode = getattr(error, "extendedresult", apsw.SQLITE_ERROR)
    return translated


def open_on(vfs: DiskVfs) -> Callable[[str], sqlite3.Connection]:
    """Return what ``connect`` opens files with instead of ``sqlite3.connect``."""

    def open_file(path: str) -> sqlite3.Connection:
        try:
            connection = apsw.Connection(path, vfs=vfs.name)
        except apsw.Error as error:
            raise _as_sqlite3(error) from error
        return cast(sqlite3.Connection, _Connection(connection))

    return open_file
