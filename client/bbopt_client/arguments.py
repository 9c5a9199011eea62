"""What people pass to the client, checked by name before anything is sent."""

import operator
from collections.abc import Mapping

from bbopt.errors import InvalidError
from bbopt.space.parameters import as_real


def whole_number(field: str, given: object, low: int, high: int | None = None) -> int:
    """Return an integer in ``[low, high]``, of whichever library's type.

    Raises:
        InvalidError: It is none.
    """
    wanted = f"at least {low}" if high is None else f"in [{low}, {high}]"
    try:
        number = operator.index(given)  # type: ignore[arg-type]  # That is what is asked here.
    except TypeError as error:
        raise InvalidError.of(
            field, f"must be a whole number {wanted}, not {given!r}"
        ) from error
    if number < low or (high is not None and number > high):
        raise InvalidError.of(field, f"must be {wanted}, not {number}")
    return number


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
