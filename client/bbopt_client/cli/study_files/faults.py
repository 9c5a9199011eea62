"""Everything wrong with a study file, collected with its place instead of raised one by one."""

from collections.abc import Sequence
from dataclasses import dataclass

from bbopt.errors import SpecError, Violation


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a file, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and where."""

    path: str
    """What is wrong, as in ``parameters[lr].low``; empty for the file as a whole."""
    message: str
    place: Place | None = None


class StudyFileError(SpecError):
    """A study file is wrong; every fault is listed with file and line."""

    def __init__(self, source: str, faults: Sequence[Fault]) -> None:
        """Gather the faults.

        Args:
            source: The file's name as the user wrote it.
            faults: What is wrong, at least one.
        """
        first = Place(0, 0)
        self.source = source
        self.faults = tuple(
            sorted(faults, key=lambda each: ((each.place or first).line, each.path))
        )
        super().__init__([Violation(self._field(each), each.message) for each in self.faults])

    def __str__(self) -> str:
        return "\n".join(str(violation) for violation in self.violations)

    def _field(self, fault: Fault) -> str:
        where = self.source if fault.place is None else f"{self.source}:{fault.place.line}"
        return f"{where}: {fault.path}" if fault.path else where


class FaultList:
    """Collects faults, and knows where each part of the file stands."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._places: dict[str, Place] = {}

    def __bool__(self) -> bool:
        return bool(self._faults)

    def mark(self, path: str, place: Place) -> None:
        """Remember where a part of the file stands."""
        self._places[path] = place

    def add(self, path: str, message: str, place: Place | None = None) -> None:
        """Note a fault, at the nearest known place unless one is given."""
        self._faults.append(Fault(path, message, place or self.place_of(path)))

    def add_violations(self, error: SpecError, *, renamed: tuple[str, str] = ("", "")) -> None:
        """Note the violations that a domain class found.

        Args:
            error: What it raised.
            renamed: Beginning of a path in the domain, and how the file calls it.
        """
        domain, ours = renamed
        for violation in error.violations:
            path = violation.field
            if domain and path.startswith(domain):
                path = ours + path.removeprefix(domain)
            self.add(path, violation.message)

    def place_of(self, path: str) -> Place | None:
        """Find where a part of the file stands, or the nearest part around it."""
        while path:
            if path in self._places:
                return self._places[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return None

    def as_list(self) -> list[Fault]:
        """Return the faults in the order in which they were found."""
        return list(self._faults)
