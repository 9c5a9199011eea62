"""The server's event loop: how often it looks for input."""

import asyncio
import selectors
import socket
from collections.abc import Iterator

import pytest

from bbopt_server.loop import PatientSelector, new_loop
from tests.waiting import Clock


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_busy_loop_looks_for_input_once_in_a_while(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    clock = Clock()
    with PatientSelector(clock) as selector:
        selector.register(ours, selectors.EVENT_READ)
        assert selector.select(0) == []
        theirs.send(b"x")
        assert selector.select(0) == []
        clock.now_s += 0.001
        assert [key.fileobj for key, _ in selector.select(0)] == [ours]


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_loop_that_may_wait_always_looks(
    ends: tuple[socket.socket, socket.socket], timeout: float | None
) -> None:
    ours, theirs = ends
    with PatientSelector(Clock()) as selector:
        selector.register(ours, selectors.EVENT_READ)
        selector.select(0)
        theirs.send(b"x")
        assert [key.fileobj for key, _ in selector.select(timeout)] == [ours]


def test_input_gets_in_between_callbacks_that_never_end(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends

    async def scenario() -> bytes:
        loop = asyncio.get_running_loop()
        received: asyncio.Future[bytes] = loop.create_future()
        loop.add_reader(ours, lambda: received.set_result(ours.recv(1)))
        theirs.send(b"x")
        while not received.done():
            await asyncio.sleep(0)
        loop.remove_reader(ours)
        return await received

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(scenario()) == b"x"
