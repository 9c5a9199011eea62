"""A program's output on disk, within bounds, and its last lines in memory."""

from collections import deque
from pathlib import Path

from bbopt_client.worker.lines import LineSplitter


class CappedLog:
    """Writes a log file of bounded size: the older half moves to ``NAME.1`` and is replaced."""

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        """Create the file.

        Args:
            path: Where to write.
            limit_bytes: Most bytes to keep, both halves together; at least 2.
        """
        self._path = path
        self._half = max(1, limit_bytes // 2)
        self._size = 0
        self._file = path.open("wb")

    def write(self, data: bytes) -> None:
        """Append; whatever is written last is kept."""
        for start in range(0, len(data), self._half):
            piece = data[start : start + self._half]
            if self._size + len(piece) > self._half:
                self._turn_over()
            self._file.write(piece)
            self._size += len(piece)
        self._file.flush()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def _turn_over(self) -> None:
        self._file.close()
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._file = self._path.open("wb")
        self._size = 0


class LastLines:
    """Keeps the last lines of a stream for an error message."""

    def __init__(self, n_lines: int = 20, max_length: int = 500) -> None:
        """Start empty.

        Args:
            n_lines: Lines to keep.
            max_length: Characters to keep of each.
        """
        self._splitter = LineSplitter()
        self._lines: deque[str] = deque(maxlen=n_lines)
        self._max_length = max_length

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        for line in self._splitter.feed(data):
            self._keep(line)

    def text(self) -> str:
        """Return the last lines, as text without control characters."""
        if rest := self._splitter.finish():
            self._keep(rest)
        return "\n".join(self._lines)

    def _keep(self, line: bytes) -> None:
        # A progress bar redraws its line after carriage returns; the last drawing counts.
        text = line.decode("utf-8", errors="replace").rstrip().rsplit("\r", 1)[-1]
        printable = "".join(char if char.isprintable() else " " for char in text)
        if printable.strip():
            self._lines.append(printable[: self._max_length])
