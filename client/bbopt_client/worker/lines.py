"""Whole lines out of bytes that arrive in pieces, from a pipe or a growing file."""

import re
from pathlib import Path

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
"""What terminals take for colours, the cursor and titles (ECMA-48)."""
_CHUNK = 1 << 16
_CHUNKS_PER_POLL = 64  # 4 MiB: one poll stays short however fast the file grows.


def without_escapes(text: str) -> str:
    """Leave out the escape sequences of terminals."""
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def legible(text: str) -> str:
    """Make a text of anybody's fit for a message: what cannot be printed becomes a space."""
    text = without_escapes(text)
    return "".join(char if char.isprintable() else " " for char in text)


class LineSplitter:
    """Cuts a byte stream into lines; a line that is too long is dropped, not kept."""

    def __init__(self, max_length: int = 1 << 20) -> None:
        """Start empty.

        Args:
            max_length: Longest line to keep, in bytes.
        """
        self._max_length = max_length
        self._rest = b""
        self._is_skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the lines that they complete."""
        *complete, rest = data.split(b"\n")
        lines: list[bytes] = []
        for piece in complete:
            line = self._rest + piece
            if not self._is_skipping and len(line) <= self._max_length:
                lines.append(line)
            self._rest, self._is_skipping = b"", False
        if self._is_skipping or len(self._rest) + len(rest) > self._max_length:
            self._rest, self._is_skipping = b"", True
        else:
            self._rest += rest
        return lines

    def finish(self) -> bytes:
        """Return the last line, which no newline ended, and start again."""
        rest, self._rest, self._is_skipping = self._rest, b"", False
        return rest


class FileTail:
    """Follows a file that a program appends to, creates late or starts over."""

    def __init__(self, path: Path) -> None:
        """Begin at the start of a file that need not exist yet."""
        self._path = path
        self._offset = 0
        self._lines = LineSplitter()

    def poll(self) -> list[bytes]:
        """Return the lines that were completed since the last call."""
        lines: list[bytes] = []
        if not self._path.is_file():  # Nor a pipe, whose opening would wait for a writer.
            return lines
        try:
            with self._path.open("rb") as file:
                if self._path.stat().st_size < self._offset:
                    self._offset = 0
                    self._lines = LineSplitter()
                file.seek(self._offset)
                for _ in range(_CHUNKS_PER_POLL):
                    if not (data := file.read(_CHUNK)):
                        break
                    self._offset += len(data)
                    lines.extend(self._lines.feed(data))
        except OSError:
            return lines
        return lines

    def finish(self) -> list[bytes]:
        """Return what is left once nobody writes any more, the unended line included.

        A half-written JSON object is never valid JSON, so the reader can tell.
        """
        lines: list[bytes] = []
        while batch := self.poll():
            lines.extend(batch)
        rest = self._lines.finish()
        return [*lines, rest] if rest.strip() else lines
