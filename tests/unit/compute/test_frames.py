import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.rpc.v1 import compute_pb2, log_pb2
from bbopt_server.compute.frames import (
    MAX_FRAME_BYTES,
    FrameError,
    frame,
    read_frame,
    receive_frame,
    with_events,
)


def read_all(data: bytes) -> list[bytes]:
    async def read() -> list[bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        found = []
        while (message := await read_frame(reader)) is not None:
            found.append(message)
        return found

    return asyncio.run(read())


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_messages_come_out_as_they_went_in(messages: list[bytes]) -> None:
    assert read_all(b"".join(map(frame, messages))) == messages


@given(st.binary(max_size=70_000))
def test_the_process_reads_what_the_front_writes(message: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(frame(message))
        ours.close()
        assert receive_frame(theirs) == message
        assert receive_frame(theirs) is None


@given(st.lists(st.text(max_size=200), max_size=20))
def test_appended_events_are_the_events_of_the_request(texts: list[str]) -> None:
    events = [
        log_pb2.LogEvent(requeued=log_pb2.LogEvent.Requeued(number=i, message=text))
        for i, text in enumerate(texts)
    ]
    request = compute_pb2.ComputeRequest(job=7, study_uid="s", since_revision=3)
    data = with_events(request, [each.SerializeToString() for each in events])
    request.events.extend(events)
    assert compute_pb2.ComputeRequest.FromString(data) == request


def test_a_message_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(FrameError, match="cut off"):
        read_all(frame(b"whole")[:-1])


def test_a_length_that_cannot_be_right_is_an_error() -> None:
    with pytest.raises(FrameError, match="over the"):
        read_all((MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"x")
