"""Every mutation happens once: its answer is stored with what it did, under the caller's id."""

import re
from collections.abc import Callable
from typing import TypeVar

from bbopt.errors import BboptError, InvalidError, RequestIdReusedError
from bbopt_server.crash_points import reach
from bbopt_server.storage.store import ResponseRow, Transaction
from bbopt_server.studies.commands import Call

A = TypeVar("A")


class RepeatedError(Exception):
    """A call was answered before, and what was done for it now must be undone."""


_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


def check_request_id(request_id: str, field: str = "request_id") -> str:
    """Return a request id if it is well formed.

    Raises:
        InvalidError: It is missing or malformed.
    """
    if _REQUEST_ID.fullmatch(request_id) is None:
        shown = ascii(request_id[:64])
        raise InvalidError.of(
            field,
            "must be 8 to 64 of A-Z a-z 0-9 . _ -, made once per logical call "
            f"(a UUID, say), not {shown}",
        )
    return request_id


def stored_answer(tx: Transaction, project: str, call: Call[A]) -> bytes | None:
    """Return the answer that this call was given before.

    Raises:
        RequestIdReusedError: The id was used for another request.
    """
    row = tx.response(project, call.method, call.request_id)
    if row is None:
        return None
    if row.body_hash != call.body_hash:
        raise RequestIdReusedError(
            f"request_id {call.request_id!r} was used for another {call.method} request; "
            "make a new one for every logical call"
        )
    return row.response


def store_answer(
    tx: Transaction, project: str, call: Call[A], *, answer: A, at: float
) -> bytes:
    """Store the answer to a call and return its bytes.

    Raises:
        RepeatedError: The call has an answer.
    """
    response = call.encode(answer)
    reach("answer.before_storing")
    row = ResponseRow(
        project=project,
        method=call.method,
        request_id=call.request_id,
        body_hash=call.body_hash,
        response=response,
        at=at,
    )
    try:
        tx.put_response(row)
    except KeyError as error:
        raise RepeatedError from error
    reach("answer.stored")
    return response


def once(
    tx: Transaction, project: str, call: Call[A], *, work: Callable[[], A], at: float
) -> bytes:
    """Return the stored answer, or do the work and store its answer with it."""
    stored = stored_answer(tx, project, call)
    if stored is not None:
        return stored
    return store_answer(tx, project, call, answer=work(), at=at)


def once_if_new(
    tx: Transaction, project: str, call: Call[A], *, work: Callable[[], A], at: float
) -> bytes:
    """Do the work of a call that most likely is new, and store its answer with it.

    Whether it was answered before is not looked up but found out by storing the answer, or
    when the work is refused.

    Raises:
        RepeatedError: It was answered: what this did must be undone, and ``once`` be used.
    """
    try:
        return store_answer(tx, project, call, answer=work(), at=at)
    except BboptError as error:
        if tx.response(project, call.method, call.request_id) is None:
            raise
        raise RepeatedError from error
