"""Durations and timestamps <-> seconds as floats, to the nanosecond that the wire carries."""

from math import floor

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from bbopt.errors import InvalidError

_NANO = 10**9
_MAX_DURATION_S = 315_576_000_000
_MIN_TIMESTAMP_S, _MAX_TIMESTAMP_S = -62_135_596_800, 253_402_300_799  # Years 1 to 9999.


def duration_to_message(seconds: float) -> Duration:
    """Write a non-negative number of seconds as a message; see ``write_duration``."""
    message = Duration()
    write_duration(message, seconds)
    return message


def write_duration(message: Duration, seconds: float) -> None:
    """Write a non-negative number of seconds, rounded to a nanosecond.

    Raises:
        InvalidError: The number is negative, not finite, or above 10,000 years.
    """
    if not 0 <= seconds <= _MAX_DURATION_S:  # Catches NaN too.
        raise InvalidError.of("", f"must be between 0 and {_MAX_DURATION_S} s, not {seconds}")
    message.seconds, message.nanos = _split(seconds)


def duration_from_message(message: Duration) -> float:
    """Read a non-negative number of seconds.

    Raises:
        InvalidError: The duration is negative or not a valid one.
    """
    if not (0 <= message.seconds <= _MAX_DURATION_S and 0 <= message.nanos < _NANO):
        raise InvalidError.of("", "must be a valid duration that is not negative")
    return (message.seconds * _NANO + message.nanos) / _NANO


def write_timestamp(message: Timestamp, unix_s: float) -> None:
    """Write a time given as Unix seconds, rounded to a nanosecond.

    Raises:
        InvalidError: The time is not within the years 1 to 9999.
    """
    if not _MIN_TIMESTAMP_S <= unix_s <= _MAX_TIMESTAMP_S:
        raise InvalidError.of("", f"must be a time of the years 1 to 9999, not {unix_s}")
    message.seconds, message.nanos = _split(unix_s)


def timestamp_from_message(message: Timestamp) -> float:
    """Read a time as Unix seconds.

    Raises:
        InvalidError: The timestamp is not a valid one.
    """
    in_range = _MIN_TIMESTAMP_S <= message.seconds <= _MAX_TIMESTAMP_S
    if not (in_range and 0 <= message.nanos < _NANO):
        raise InvalidError.of("", "must be a valid timestamp of the years 1 to 9999")
    return (message.seconds * _NANO + message.nanos) / _NANO


def _split(seconds: float) -> tuple[int, int]:
    """Split into whole seconds and the nanoseconds after them, rounded."""
    whole = floor(seconds)  # What is left is exact.
    nanos = round((seconds - whole) * _NANO)
    return (whole, nanos) if nanos < _NANO else (whole + 1, 0)
