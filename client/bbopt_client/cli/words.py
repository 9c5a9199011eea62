"""Single values as people type them."""


class WordError(ValueError):
    """A word is not what it should be; the message says what that is."""


def read_truth(text: str) -> bool:
    """Read ``true`` or ``false``, in capitals as well.

    Raises:
        WordError: It is neither.
    """
    match text.lower():
        case "true":
            return True
        case "false":
            return False
        case _:
            raise WordError(f"{text!r} is not true or false")


def read_integer(text: str) -> int:
    """Read an integer.

    Raises:
        WordError: It is none.
    """
    try:
        return int(text)
    except ValueError:
        raise WordError(f"{text!r} is not an integer") from None


def read_number(text: str) -> float:
    """Read a number.

    Raises:
        WordError: It is none.
    """
    try:
        return float(text)
    except ValueError:
        raise WordError(f"{text!r} is not a number") from None
