"""Where the virtual environments of the peers are, and whether they are as they should be.

Nothing here needs anything but the standard library, so that ``install`` runs with any Python.
"""

import os
from dataclasses import dataclass
from pathlib import Path

PINS = Path(__file__).parent
"""Has the versions of each peer's packages in ``NAME.txt``."""
_DEFAULT = PINS.parents[1] / ".peers"


@dataclass(frozen=True, slots=True)
class Environment:
    """The virtual environment of one peer."""

    name: str
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def pins(self) -> Path:
        """The file that says what belongs into it."""
        return PINS / f"{self.name}.txt"

    @property
    def is_installed(self) -> bool:
        """Whether it has what is pinned now; an installation that broke off does not count."""
        return self._note.exists() and self._note.read_text() == self.pins.read_text()

    @property
    def _note(self) -> Path:
        return self.folder / "installed.txt"

    def mark_installed(self) -> None:
        """Note what was installed."""
        self._note.write_text(self.pins.read_text())


def environment_of(name: str, *, folder: Path | None = None) -> Environment:
    """Return the environment of a peer.

    Args:
        name: Of the peer.
        folder: Where the environments are; if not given, ``$BBOPT_PEERS``, else ``.peers``
            beside the sources.
    """
    parent = folder or Path(os.environ.get("BBOPT_PEERS") or _DEFAULT)
    return Environment(name, parent.absolute() / name)


def known_peers() -> list[str]:
    """Name the peers that can be installed."""
    return sorted(path.stem for path in PINS.glob("*.txt"))
