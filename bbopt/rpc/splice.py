"""Serialised messages put together from serialised parts, without parsing them.

Appending an encoded field to an encoded message sets it in the result. Parts in the order of
their field numbers, each serialised deterministically, give the bytes that serialising the
whole deterministically would have given.
"""

from functools import lru_cache

_VARINT, _LENGTH_DELIMITED = 0, 2
"""Wire types."""


def int_field(number: int, value: int) -> bytes:
    """Encode a field of a non-negative integer."""
    return varint(number << 3 | _VARINT) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """Encode a field of bytes, or of a message that is serialised already."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(len(value)) + value


@lru_cache(maxsize=4096)  # Most are tags and lengths, of which there are few.
def varint(number: int) -> bytes:
    """Encode a non-negative integer, seven bits to a byte, the lowest first."""
    if number < 0x80:
        return bytes((number,))
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
