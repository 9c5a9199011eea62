"""Free text that comes with requests: how long it may be, and that people can read it."""

from collections.abc import Mapping

from bbopt.errors import InvalidError
from bbopt.rpc.names import check_id
from bbopt.rpc.violations import Violations

_MAX_TEXT = 1024
_MAX_OUTCOME_TEXT = 4096
_MAX_LABELS = 64


def checked_text(text: str) -> str:
    """Accept what people write: printable, several lines, of a sane length."""
    if len(text.encode()) > _MAX_TEXT:
        raise InvalidError.of(
            "", f"must be at most {_MAX_TEXT} bytes, not {len(text.encode())}"
        )
    if not all(map(_is_readable, text)):
        raise InvalidError.of("", "must have no control characters")
    return text


def checked_line(text: str) -> str:
    """Accept one short line, e.g. the name of a worker."""
    if len(text) > 256 or not text.isprintable():
        raise InvalidError.of("", "must be at most 256 printable characters on one line")
    return text


def checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Accept labels: an id each, and what people write."""
    violations = Violations()
    if len(labels) > _MAX_LABELS:
        violations.add("", f"must be at most {_MAX_LABELS}, not {len(labels)}")
    for key in sorted(labels):
        with violations.within(f"[{ascii(key[:64])[1:-1]}]"):
            check_id(key)
            checked_text(labels[key])
    violations.check()
    return dict(labels)


def tidied(text: str) -> str:
    """Make the text of an outcome acceptable: a message too long must not cost the result."""
    return "".join(c if _is_readable(c) else " " for c in text[:_MAX_OUTCOME_TEXT])


def _is_readable(char: str) -> bool:
    return char.isprintable() or char in "\n\t"
