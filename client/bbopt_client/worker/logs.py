"""A program's output on disk, within bounds, and its last lines in memory."""

import io
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bbopt_client.worker.lines import LineSplitter, legible


class CappedLog:
    """Writes a log file of bounded size: the older half moves to ``NAME.1`` and is replaced.

    What cannot be written, on a full disk for one, is left out: a log is not worth a trial.
    """

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        """Create the file.

        Args:
            path: Where to write.
            limit_bytes: Most bytes to keep, both halves together; at least 2.
        """
        self._path = path
        self._half = max(1, limit_bytes // 2)
        self._size = 0
        self._file: io.FileIO | None = None
        self.problem = ""
        """Why something was left out, or nothing."""
        with self._forgiving():
            self._open()

    def write(self, data: bytes) -> None:
        """Append; whatever is written last is kept."""
        with self._forgiving():
            for start in range(0, len(data), self._half):
                self._append(data[start : start + self._half])

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        file, self._file = self._file, None
        if file is not None:
            with self._forgiving():
                file.close()

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.problem = self.problem or str(error)

    def _append(self, piece: bytes) -> None:
        if self._file is not None and self._size + len(piece) > self._half:
            self.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        file = self._file or self._open()
        rest = memoryview(piece)
        while rest:
            written = file.write(rest)
            self._size += written
            rest = rest[written:]

    def _open(self) -> io.FileIO:
        # Unbuffered, so that nothing is left to fail when the file is closed.
        file = self._path.open("wb", buffering=0)
        self._file, self._size = file, 0
        return file


class LastLines:
    """Keeps the last lines of a stream for an error message."""

    def __init__(self, n_lines: int = 20, max_length: int = 500, max_total: int = 3500) -> None:
        """Start empty.

        Args:
            n_lines: Lines to keep.
            max_length: Characters to keep of each.
            max_total: Characters to keep of all; at least ``max_length``.
        """
        self._splitter = LineSplitter()
        self._lines: deque[str] = deque(maxlen=n_lines)
        self._max_length = max_length
        self._max_total = max_total

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        for line in self._splitter.feed(data):
            self._keep(line)

    def text(self) -> str:
        """Return the last lines, as text without control characters."""
        if rest := self._splitter.finish():
            self._keep(rest)
        lines = deque(self._lines)
        # The server cuts a message that is too long at its end, where the reason stands.
        while len(text := "\n".join(lines)) > self._max_total:
            lines.popleft()
        return text

    def _keep(self, line: bytes) -> None:
        # A progress bar redraws its line after carriage returns; the last drawing counts.
        text = line.decode("utf-8", errors="replace").rstrip().rsplit("\r", 1)[-1]
        text = legible(text).rstrip()
        if text:
            self._lines.append(text[: self._max_length])
