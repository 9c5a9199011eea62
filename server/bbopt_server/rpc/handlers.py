"""Bytes in, bytes out: decoding, and the one place where an error becomes a status.

gRPC's own decoding and its handling of exceptions would answer with the text of internal
errors, so neither is used.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from bbopt.errors import BboptError, ExhaustedError, InternalError, InvalidError
from bbopt.rpc.errors import error_to_status, status_code, status_to_metadata
from bbopt_server.crash_points import reach
from bbopt_server.rpc.methods import Rpc, Stream, Unary

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[bytes, bytes]


MAX_CALLS = 1000


@dataclass(slots=True)
class Calls:
    """How many calls of one kind run, and when the last one was heard of."""

    monotonic: Callable[[], float] = time.monotonic
    limit: int = MAX_CALLS
    n_running: int = 0
    last_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.last_at = self.monotonic()

    def __enter__(self) -> None:
        self.n_running += 1

    def __exit__(self, *_: object) -> None:
        self.n_running -= 1
        self.last_at = self.monotonic()

    def refuse_too_many(self) -> None:
        """Refuse a call that was counted already.

        Raises:
            ExhaustedError: More calls run than may.
        """
        if self.n_running > self.limit:
            raise ExhaustedError(f"{self.limit} such calls run at this server; try again")

    @property
    def idle_s(self) -> float:
        """Seconds without any call; 0 while one runs."""
        return 0.0 if self.n_running else self.monotonic() - self.last_at


@dataclass(slots=True)
class Traffic:
    """The calls that run. However many wait for a trial, results get in."""

    waiting: Calls = field(default_factory=Calls)
    """Of methods that may wait for something to happen."""
    others: Calls = field(default_factory=Calls)

    @property
    def idle_s(self) -> float:
        """Seconds without any call; 0 while one runs: for private servers."""
        return min(self.waiting.idle_s, self.others.idle_s)


def generic_handlers(
    table: Mapping[str, Mapping[str, Unary | Stream]], traffic: Traffic
) -> list[grpc.GenericRpcHandler]:
    """Build gRPC's handlers for every method of the table."""
    return [
        grpc.method_handlers_generic_handler(
            service,
            {name: _rpc_handler(name, method, traffic) for name, method in methods.items()},
        )
        for service, methods in table.items()
    ]


def _rpc_handler(
    name: str, method: Unary | Stream, traffic: Traffic
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    match method:
        case Unary():
            calls = traffic.waiting if method.may_wait else traffic.others
            unary = _unary(name, method, calls)
            return grpc.unary_unary_rpc_method_handler(unary, None, None)
        case Stream():
            stream = _stream(name, method, traffic.waiting)
            return grpc.unary_stream_rpc_method_handler(stream, None, None)


def _unary(
    name: str, method: Unary, calls: Calls
) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def handle(data: bytes, context: Context) -> bytes:
        with calls:
            try:
                calls.refuse_too_many()
                request = _decode(method.request_type, data)
                reach("rpc.decoded")
                answer = await method.run(request, Rpc(_time_left_s(context)))
                reach("rpc.before_reply")
                return answer
            except BboptError as error:
                await _refuse(context, name, error)
            except asyncio.CancelledError:
                raise  # The caller left, or the server's grace is over.
            except Exception as error:  # noqa: BLE001, RUF100 - the border: nothing leaks
                await _refuse(context, name, _internal(name, error))

    return handle


def _stream(
    name: str, method: Stream, calls: Calls
) -> Callable[[bytes, Context], AsyncIterator[bytes]]:
    async def handle(data: bytes, context: Context) -> AsyncIterator[bytes]:
        with calls:
            try:
                calls.refuse_too_many()
                request = _decode(method.request_type, data)
                async for answer in method.run(request, Rpc(_time_left_s(context))):
                    yield answer
            except BboptError as error:
                await _refuse(context, name, error)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001, RUF100 - the border: nothing leaks
                await _refuse(context, name, _internal(name, error))

    return handle


def _decode(request_type: type[Message], data: bytes) -> Message:
    try:
        return request_type.FromString(data)
    except DecodeError as error:
        kind = request_type.DESCRIPTOR.name
        raise InvalidError.of("", f"the request is not a valid {kind} message") from error


def _time_left_s(context: Context) -> float | None:
    left_s: float | None = context.time_remaining()  # The stubs forget that it may be None.
    return left_s


def _internal(name: str, error: Exception) -> InternalError:
    """Log a bug under a reference, and say no more than the reference."""
    reference = secrets.token_hex(6)
    _log.error("bug in %s (reference %s)", name, reference, exc_info=error)
    return InternalError(f"internal error; the server's log has it as {reference}")


async def _refuse(context: Context, name: str, error: BboptError) -> NoReturn:
    status = error_to_status(error)
    code = status_code(error)
    _log.debug("%s refused: %s", name, code.name)
    await context.abort(code, status.message, status_to_metadata(status))
    raise AssertionError("abort raises")
