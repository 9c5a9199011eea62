"""Collects everything that is wrong with a message, so that a caller hears it all at once.

A converter names fields relative to its own message; whoever calls it says where that message
lies with ``within``. The path that comes out is the one of the wire: names of fields as in the
``.proto`` files, items of a list by position, entries of a map by key, for instance
``study.spec.parameters[0].double_domain.min`` or ``outcome.completed.metrics[loss].sd``. What
the library's own classes find in a definition that could be read is translated by ``paths``.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from bbopt.errors import InvalidError, Violation

M = TypeVar("M")
T = TypeVar("T")


def join(prefix: str, field: str) -> str:
    """Append a relative path (``min``, ``[0].id`` or nothing) to the path of its message."""
    if not prefix or not field:
        return prefix or field
    return prefix + field if field.startswith("[") else f"{prefix}.{field}"


def prefixed(error: InvalidError, prefix: str) -> list[Violation]:
    """List the violations of an error as seen from the message around."""
    return [Violation(join(prefix, each.field), each.message) for each in error.violations]


@contextmanager
def within(prefix: str) -> Iterator[None]:
    """Prefix the paths of an ``InvalidError`` that passes, keeping its class."""
    try:
        yield
    except InvalidError as error:
        raise type(error)(prefixed(error, prefix)) from error


class Violations:
    """What is wrong with one message; nothing is raised until ``check``."""

    __slots__ = ("_error", "_found", "_kinds")

    def __init__(self, error: type[InvalidError] = InvalidError) -> None:
        self._error = error
        self._kinds: set[type[InvalidError]] = set()
        self._found: list[Violation] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, field: str, message: str) -> None:
        """Note one violation."""
        self.extend([Violation(field, message)])

    def require(self, given: object, field: str, message: str) -> None:
        """Note a violation where nothing was given."""
        if not given:
            self.add(field, message)

    def extend(self, violations: Iterable[Violation]) -> None:
        """Note several."""
        self._kinds.add(self._error)
        self._found.extend(violations)

    def within(self, prefix: str) -> "_Part":
        """Note, instead of raising, what a converter of the part at ``prefix`` finds.

        A variable that the block would have bound may be used after ``check`` only.
        """
        return _Part(self, prefix)

    def note(self, error: InvalidError, prefix: str) -> None:
        """Note what is wrong with the part at ``prefix``."""
        self._kinds.add(type(error))
        self._found.extend(prefixed(error, prefix))

    def each(self, field: str, convert: Callable[[M], T], items: Iterable[M]) -> tuple[T, ...]:
        """Convert the items of a list, noting what is wrong with those that fail."""
        converted = []
        for position, item in enumerate(items):
            with self.within(f"{field}[{position}]"):
                converted.append(convert(item))
        return tuple(converted)

    def check(self) -> None:
        """Raise if anything was noted.

        Raises:
            InvalidError: With every violation; of the class given when this was built, or of
                the narrower one that all of them were of.
        """
        if self._found:
            raise self.as_error()

    def as_tuple(self) -> tuple[Violation, ...]:
        """Return what was noted."""
        return tuple(self._found)

    def as_error(self) -> InvalidError:
        """Build the error of everything that was noted."""
        kind = next(iter(self._kinds)) if len(self._kinds) == 1 else self._error
        return (kind if issubclass(kind, self._error) else self._error)(self._found)


class _Part:
    """The block of ``Violations.within``; a generator would take three times as long, a dozen
    times a call.
    """

    __slots__ = ("_prefix", "_violations")

    def __init__(self, violations: Violations, prefix: str) -> None:
        self._violations = violations
        self._prefix = prefix

    def __enter__(self) -> None:
        """Begin to read the part."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        """Note a fault and go on."""
        if not isinstance(error, InvalidError):
            return False
        self._violations.note(error, self._prefix)
        return True
