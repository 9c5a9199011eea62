"""What identifies a mutation, so that it happens once however often it is sent."""

import hashlib
from collections.abc import Callable
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from bbopt.errors import InvalidError
from bbopt.rpc.violations import Violations
from bbopt_server.studies.commands import Call
from bbopt_server.studies.idempotency import check_request_id

A = TypeVar("A")
C = TypeVar("C")
M = TypeVar("M", bound="Mutation")


class Mutation(Protocol):
    """A request that carries the id of its logical call."""

    request_id: str

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...  # noqa: D102


def mutation(
    method: str,
    request: M,
    read: Callable[[M], C],
    *,
    answer: Callable[[A], Message | bytes],
) -> tuple[C, Call[A]]:
    """Read a mutation: what it wants, and its identity with how its answer is written.

    Raises:
        InvalidError: Anything is wrong with it, its request id included.
    """
    try:
        command = read(request)
    except InvalidError as error:
        violations = Violations()
        with violations.within(""):
            check_request_id(request.request_id)
        violations.note(error, "")
        raise violations.as_error() from error
    check_request_id(request.request_id)
    return command, call_of(method, request, answer)


def call_of(method: str, request: Mutation, answer: Callable[[A], Message | bytes]) -> Call[A]:
    """Identify a mutation, and say how its answer becomes a message, or the bytes of one."""
    body = request.SerializeToString(deterministic=True)
    body_hash = hashlib.blake2b(body, digest_size=16).digest()

    def encode(given: A) -> bytes:
        written = answer(given)
        return written if isinstance(written, bytes) else written.SerializeToString()

    return Call(method, request.request_id, body_hash, encode)
