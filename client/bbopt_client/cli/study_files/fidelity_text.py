"""The short text that stands for a fidelity: ``epochs(1,81)`` or ``epochs(1,81,4)``."""

import re

from bbopt.problem import Fidelity

_TEXT = re.compile(
    r"(?P<name>[^()]+)\(\s*(?P<low>\d+)\s*,\s*(?P<high>\d+)\s*(,\s*(?P<eta>\d+)\s*)?\)"
)


def parse_fidelity(text: str) -> Fidelity:
    """Read ``name(low,high)`` or ``name(low,high,eta)``.

    Raises:
        ValueError: The text is no fidelity; whether the numbers make sense is not checked.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise ValueError("is not NAME(LOW,HIGH) or NAME(LOW,HIGH,ETA), such as epochs(1,81)")
    eta = match["eta"]
    return Fidelity(
        match["name"].strip(),
        int(match["low"]),
        int(match["high"]),
        3 if eta is None else int(eta),
    )
