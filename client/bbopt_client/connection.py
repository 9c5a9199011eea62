"""One channel to one server, and calls that survive what passes by itself.

A call is attempted until it is answered, refused, or its deadline has passed. Every attempt
carries the same request, and so the same request id: the server does the work once however
often it is asked.

Retried are a server that is not there, a full queue that says when to come back, an attempt
that ran into its own timeout, and a cancellation that was not ours. Everything else is an
answer, and is raised as the error that the server raised; so is a limit that the server expects
to stay reached for longer than a short call may take.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Never, Protocol, TypeVar, cast

import grpc

from bbopt.errors import BboptError, DeadlineError, LimitError, RetryableError, UnavailableError
from bbopt.rpc.errors import DETAILS_KEY, error_from_rpc
from bbopt.rpc.v1.insight_service_pb2_grpc import InsightServiceStub
from bbopt.rpc.v1.optimization_service_pb2_grpc import OptimizationServiceStub
from bbopt_client.settings import ClientOptions

logger = logging.getLogger("bbopt.client")

RequestT = TypeVar("RequestT")
RequestT_contra = TypeVar("RequestT_contra", contravariant=True)
ResponseT = TypeVar("ResponseT")
ResponseT_co = TypeVar("ResponseT_co", covariant=True)

_MAX_RESPONSE_BYTES = 16 << 20
"""As much as the server sends; a page of trials with many parameters is large."""


class Target(Protocol):
    """Where a server is."""

    @property
    def identity(self) -> str:
        """What stays the same when the server comes back at another address."""
        ...

    @property
    def is_movable(self) -> bool:
        """Whether the server may come back at another address."""
        ...

    def address(self) -> str:
        """Return ``host:port``, starting the server first if that is this target's duty."""
        ...


class FixedTarget:
    """A server at an address that does not change."""

    is_movable = False

    def __init__(self, address: str) -> None:
        self.identity = address

    def address(self) -> str:
        """Return the address."""
        return self.identity


class UnaryCall(Protocol[RequestT_contra, ResponseT_co]):
    """A callable of a stub that takes one message and answers one."""

    def __call__(  # noqa: D102
        self, request: RequestT_contra, /, *, timeout: float | None, wait_for_ready: bool | None
    ) -> ResponseT_co: ...


class StreamCall(Protocol[RequestT_contra, ResponseT_co]):
    """A callable of a stub that takes one message and answers many."""

    def __call__(  # noqa: D102
        self, request: RequestT_contra, /, *, wait_for_ready: bool | None
    ) -> Iterator[ResponseT_co]: ...


class Stubs:
    """A channel with the callables of both services."""

    def __init__(self, address: str, options: ClientOptions) -> None:
        self.address = address
        chosen = _channel_options(address, options)
        self.channel = grpc.insecure_channel(address, options=chosen)
        self.optimization = OptimizationServiceStub(self.channel)
        self.insight = InsightServiceStub(self.channel)


class CallIterator(Protocol[ResponseT_co]):
    """The answers of a stream, as they come."""

    def __iter__(self) -> Iterator[ResponseT_co]: ...
    def __next__(self) -> ResponseT_co: ...
    def cancel(self) -> bool:
        """End the stream."""
        ...


Method = Callable[[Stubs], UnaryCall[RequestT, ResponseT]]
StreamMethod = Callable[[Stubs], StreamCall[RequestT, ResponseT]]


class Connection:
    """A lazily opened channel; safe to use from several threads."""

    def __init__(
        self,
        target: Target,
        options: ClientOptions,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] | None = None,
    ) -> None:
        self.target = target
        self.options = options
        self.monotonic = monotonic
        self.last_answer_at: float | None = None
        """When the server last answered anything; ``None`` before the first time."""
        self._uniform = uniform or random.SystemRandom().uniform
        self._lock = threading.Lock()
        self._stubs: Stubs | None = None
        self._closed = threading.Event()
        self._pid = os.getpid()

    def __reduce__(self) -> Never:
        """Refuse to be copied, and with it the client, its studies and its trials."""
        raise TypeError("a Client and its studies cannot be copied: open them in each process")

    def check_process(self) -> None:
        """Refuse to work in a child after a fork: the threads that send signs of life and
        results are in the parent, and trials would be lost without a word.

        Raises:
            RuntimeError: This is such a child.
        """
        if os.getpid() != self._pid:
            raise RuntimeError("this Client is another process's: open one after the fork")

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed.is_set()

    def call(
        self,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        *,
        deadline_s: float | None = None,
        attempt_timeout_s: float | None = None,
    ) -> ResponseT:
        """Make one logical call, in as many attempts as it takes.

        Args:
            method: Picks the callable, e.g. ``lambda stubs: stubs.optimization.AskTrials``.
            request: Sent unchanged in every attempt.
            deadline_s: All attempts together; unset, the option of short calls.
            attempt_timeout_s: One attempt; unset, the option of short calls.

        Raises:
            UnavailableError: The server cannot be reached, or says to come back later.
            DeadlineError: The server is there but did not answer in time.
            BboptError: The server refused; of the class that it raised.
        """
        stubs = self._open()  # Starts the server, if need be: not on the call's time.
        attempts = _Attempts(self, deadline_s or self.options.deadline_s)
        timeout_s = attempt_timeout_s or self.options.attempt_timeout_s
        while True:
            try:
                response = method(stubs)(
                    request,
                    timeout=min(timeout_s, attempts.remaining_s()),
                    wait_for_ready=attempts.n_failed > 0 and not self.target.is_movable,
                )
            except grpc.RpcError as failure:
                pause_s = attempts.pause_after(cast(grpc.Call, failure), stubs.address)
                self.wait(pause_s)
                if attempts.is_unreachable and self.target.is_movable:
                    self._drop(stubs)
                stubs = self._open()
            except ValueError:
                if self._stubs is stubs:
                    raise  # Not the closed channel of a server that moved or of `close`.
                stubs = self._open()
            else:
                self.last_answer_at = self.monotonic()
                return response

    def stream(
        self, method: StreamMethod[RequestT, ResponseT], request: RequestT
    ) -> "CallIterator[ResponseT]":
        """Open a stream that the server feeds; errors surface while it is read."""
        call = method(self._open())(request, wait_for_ready=not self.target.is_movable)
        return cast("CallIterator[ResponseT]", call)

    def backoff_s(self, n_failed: int) -> float:
        """Draw a pause: full jitter under a ceiling that doubles with every failure."""
        options = self.options
        ceiling = options.initial_backoff_s * 2.0 ** min(n_failed - 1, 30)
        return self._uniform(0.0, min(options.max_backoff_s, ceiling))

    def close(self) -> None:
        """Close the channel; calls that are under way end with an error."""
        self._closed.set()
        with self._lock:
            stubs, self._stubs = self._stubs, None
        if stubs is not None:
            stubs.channel.close()

    def _open(self) -> Stubs:
        self.check_process()
        with self._lock:
            if self.is_closed:
                raise UnavailableError("the client is closed")
            if self._stubs is None:
                self._stubs = Stubs(self.target.address(), self.options)
            return self._stubs

    def _drop(self, stubs: Stubs) -> None:
        """Forget a channel whose server is gone, so that the next attempt looks for it anew."""
        with self._lock:
            if self._stubs is not stubs:
                return
            self._stubs = None
        stubs.channel.close()

    def wait(self, seconds: float) -> None:
        """Sleep, unless the client is closed meanwhile.

        Raises:
            UnavailableError: It was.
        """
        if self._closed.wait(seconds):
            raise UnavailableError("the client was closed during the call")


class _Attempts:
    """The attempts of one call: counts them and decides what follows a failure."""

    def __init__(self, connection: Connection, deadline_s: float) -> None:
        self._connection = connection
        is_new = connection.last_answer_at is None
        self._never_reached = is_new and not connection.target.is_movable
        self._deadline_s = deadline_s
        self._start = connection.monotonic()
        self.n_failed = 0
        self.is_unreachable = False
        """Whether the last word was that nobody is there."""
        self._why_unreachable = ""

    def remaining_s(self) -> float:
        """Return what is left of the deadline, at least a millisecond."""
        limit_s = self._deadline_s
        if self._never_reached:
            limit_s = min(limit_s, self._connection.options.first_contact_s)
        return max(1e-3, self._start + limit_s - self._connection.monotonic())

    def pause_after(self, failure: grpc.Call, address: str) -> float:
        """Say how long to wait before the next attempt.

        Raises:
            BboptError: There is no next attempt.
        """
        code, error = failure.code(), error_from_rpc(failure)
        is_answer = _has_details(failure)
        if is_answer:
            self._connection.last_answer_at = self._connection.monotonic()
            self._never_reached = False
        if code is grpc.StatusCode.UNIMPLEMENTED:
            raise BboptError(
                f"what answers at {address} is not bbopt, or of a version without this call: "
                f"{failure.details()}"
            ) from None
        if isinstance(error, LimitError) or not self._is_retried(code, is_answer):
            raise error from None
        if code is grpc.StatusCode.UNAVAILABLE:
            self.is_unreachable = not is_answer
            self._why_unreachable = failure.details() or ""
        self.n_failed += 1
        pause_s, patience_s = self._connection.backoff_s(self.n_failed), self.remaining_s()
        if is_answer and isinstance(error, RetryableError):
            pause_s = max(pause_s, error.retry_after_s)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:  # An ask waits for trials, not for room.
            patience_s = min(patience_s, self._connection.options.deadline_s)
        if pause_s >= patience_s:
            raise self._final(error, address, code) from None
        logger.debug("attempt %d: %s; again in %.2f s", self.n_failed, code.name, pause_s)
        return pause_s

    def _is_retried(self, code: grpc.StatusCode, is_answer: bool) -> bool:
        if self._connection.is_closed:
            return False
        match code:
            case grpc.StatusCode.UNAVAILABLE:
                return True
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return is_answer  # Without details: the message is too large, for ever.
            case grpc.StatusCode.DEADLINE_EXCEEDED | grpc.StatusCode.CANCELLED:
                return not is_answer
            case _:
                return False

    def _final(self, error: BboptError, address: str, code: grpc.StatusCode) -> BboptError:
        waited_s = self._connection.monotonic() - self._start
        if self.is_unreachable:
            return UnavailableError(
                f"no server at {address}: tried for {waited_s:.0f} s; start one with "
                f"`bbopt serve`, or set BBOPT_SERVER to where it is ({self._why_unreachable})"
            )
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(f"the server at {address} did not answer in {waited_s:.0f} s")
        return error


def _has_details(failure: grpc.Call) -> bool:
    """Say whether bbopt's server wrote this status, not gRPC or something in between."""
    return any(key == DETAILS_KEY for key, _ in failure.trailing_metadata() or ())


def _channel_options(address: str, options: ClientOptions) -> list[tuple[str, int | str]]:
    chosen: list[tuple[str, int | str]] = [
        ("grpc.enable_retries", 0),  # Ours know which failures are answers.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", max(100, int(options.initial_backoff_s * 1e3))),
        ("grpc.min_reconnect_backoff_ms", 5_000),  # In truth the time given to a connect.
        ("grpc.max_reconnect_backoff_ms", max(100, int(options.max_backoff_s * 1e3))),
        ("grpc.max_receive_message_length", _MAX_RESPONSE_BYTES),
    ]
    if address.startswith(("127.", "localhost:", "[::1]")):
        # A proxy that the environment names cannot reach this machine's own loopback.
        chosen.append(("grpc.enable_http_proxy", 0))
    return chosen
