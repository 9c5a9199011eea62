"""How messages lie on the pipe: four bytes of length, big-endian, then the message.

Both ends are the same build and trust each other, but not blindly: a length that cannot be
right means that the two have lost step, and the connection is over.
"""

import asyncio
import socket
import struct
from collections.abc import Iterable

from bbopt.rpc.splice import bytes_field
from bbopt.rpc.v1 import compute_pb2

MAX_FRAME_BYTES = 1 << 30
"""Protobuf itself ends at 2 GiB; a log of a million events stays below this."""

_LENGTH = struct.Struct(">I")
_EVENTS = compute_pb2.ComputeRequest.EVENTS_FIELD_NUMBER


class FrameError(ValueError):
    """What came through the pipe is no frame."""


def frame(message: bytes) -> bytes:
    """Put the length before a message.

    Raises:
        FrameError: The message is longer than a frame may be.
    """
    return _LENGTH.pack(_checked(len(message))) + message


def with_events(request: compute_pb2.ComputeRequest, events: Iterable[bytes]) -> bytes:
    """Serialise a request together with events that are serialised already: that saves the
    event loop parsing a whole log only to write it out again.
    """
    parts = (bytes_field(_EVENTS, event) for event in events)
    return b"".join((request.SerializeToString(), *parts))


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """Read the next message; ``None`` when the other end has gone.

    Raises:
        FrameError: The length cannot be right, or the message was cut off.
    """
    try:
        head = await reader.readexactly(_LENGTH.size)
        return await reader.readexactly(_checked(*_LENGTH.unpack(head)))
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise FrameError("the message was cut off") from error
        return None
    except ConnectionError:
        return None


def receive_frame(channel: socket.socket) -> bytes | None:
    """Block for the next message; ``None`` when the other end has gone.

    Raises:
        FrameError: The length cannot be right.
    """
    head = _receive(channel, _LENGTH.size)
    if head is None:
        return None
    return _receive(channel, _checked(*_LENGTH.unpack(head)))


def _receive(channel: socket.socket, n_bytes: int) -> bytes | None:
    buffer = memoryview(bytearray(n_bytes))
    n_read = 0
    while n_read < n_bytes:
        n = channel.recv_into(buffer[n_read:])
        if n == 0:
            return None
        n_read += n
    return bytes(buffer)


def _checked(n_bytes: int) -> int:
    if n_bytes > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {n_bytes} bytes is over the {MAX_FRAME_BYTES} allowed")
    return n_bytes
