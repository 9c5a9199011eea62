"""Enums of the wire -> the domain's, refusing the numbers of a newer client."""

from collections.abc import Mapping
from typing import TypeVar

from bbopt.errors import InvalidError

N = TypeVar("N", bound=int)
E = TypeVar("E")


def known(number: N, table: Mapping[N, E]) -> E:
    """Look up what the number of an enum means.

    Raises:
        InvalidError: The number is not in the table.
    """
    if number not in table:
        described = "set" if number == 0 else f"a value known to this version, not {number}"
        raise InvalidError.of("", f"must be {described}")
    return table[number]
