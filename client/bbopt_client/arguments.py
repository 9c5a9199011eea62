"""What people pass to the client, checked by name before anything is sent."""

from collections.abc import Mapping

from bbopt.errors import InvalidError
from bbopt.space.parameters import as_real


def seconds(field: str, given: object) -> float:
    """Return a duration, which may be endless.

    Raises:
        InvalidError: It is no number, or negative.
    """
    duration_s = as_real(given)
    if not isinstance(duration_s, float) or not duration_s >= 0:  # Catches NaN too.
        raise InvalidError.of(field, f"must be a number of seconds, at least 0, not {given!r}")
    return duration_s


def text(field: str, given: object) -> str:
    """Return text.

    Raises:
        InvalidError: It is none.
    """
    if not isinstance(given, str):
        raise InvalidError.of(field, f"must be text, not {given!r}")
    return given


def labels_of(given: object) -> Mapping[str, str] | None:
    """Return labels: text by name.

    Raises:
        InvalidError: They are no mapping, or a name or a value is no text.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise InvalidError.of("labels", f"must be text by name, not {given!r}")
    for name, each in given.items():
        if not (isinstance(name, str) and isinstance(each, str)):
            raise InvalidError.of(f"labels[{name}]", f"must be text, got {each!r}")
    return given
