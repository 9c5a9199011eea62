"""Errors <-> ``google.rpc.Status``, in the trailing metadata or in an item of a batch.

One table says which status each class of the tree has. ``ErrorInfo.reason`` names the class,
``BadRequest`` lists the violations, ``RetryInfo`` says when to try again; from these the
client builds an error of the same class. The message of an error is part of the contract:
it is shown to the caller, so what the caller must not see does not belong there.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from bbopt.errors import (
    BboptError,
    ConflictError,
    DataLossError,
    DeadlineError,
    EmptyFeasibleSetError,
    EtagMismatchError,
    ExhaustedError,
    InternalError,
    InvalidError,
    LeaseLostError,
    LimitError,
    NotFoundError,
    NumericalError,
    PreconditionError,
    RequestIdReusedError,
    RetryableError,
    SpecError,
    StudyDeletedError,
    StudyExistsError,
    StudyNotActiveError,
    TrialFinishedError,
    UnavailableError,
    UnsupportedError,
    Violation,
)
from bbopt.rpc.times import duration_from_message, duration_to_message
from bbopt.rpc.trial import printable
from bbopt.rpc.v1 import optimization_service_pb2 as service_pb2

DETAILS_KEY = "grpc-status-details-bin"
"""The metadata key under which gRPC carries a ``google.rpc.Status``."""

DOMAIN = "bbopt"
"""``ErrorInfo.domain`` of every error of this tree."""

# Metadata is limited to 8 KiB. It holds the message percent-encoded (three bytes for one), and
# once more in the details, which are in base 64.
_MAX_MESSAGE_BYTES = 768
_MAX_VIOLATIONS_BYTES = 2048
_MAX_FIELD_BYTES = 256
_MAX_DESCRIPTION_BYTES = 512

_CODES: Mapping[type[BboptError], grpc.StatusCode] = {
    InvalidError: grpc.StatusCode.INVALID_ARGUMENT,
    SpecError: grpc.StatusCode.INVALID_ARGUMENT,
    UnsupportedError: grpc.StatusCode.INVALID_ARGUMENT,
    RequestIdReusedError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    StudyDeletedError: grpc.StatusCode.NOT_FOUND,
    StudyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    StudyNotActiveError: grpc.StatusCode.FAILED_PRECONDITION,
    EmptyFeasibleSetError: grpc.StatusCode.FAILED_PRECONDITION,
    ConflictError: grpc.StatusCode.ABORTED,
    TrialFinishedError: grpc.StatusCode.ALREADY_EXISTS,
    LeaseLostError: grpc.StatusCode.ABORTED,
    EtagMismatchError: grpc.StatusCode.ABORTED,
    LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    DataLossError: grpc.StatusCode.DATA_LOSS,
    NumericalError: grpc.StatusCode.INTERNAL,
    InternalError: grpc.StatusCode.INTERNAL,
}
_CLASSES: Mapping[str, type[BboptError]] = {each.reason: each for each in _CODES}

_CLASSES_WITHOUT_REASON: Mapping[grpc.StatusCode, type[BboptError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.DATA_LOSS: DataLossError,
}
"""What gRPC itself says (no connection, no time left) or a proxy on the way."""

_BY_NUMBER: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class RpcFailure(Protocol):
    """What ``grpc.Call`` of a failed call and ``grpc.aio.AioRpcError`` have in common."""

    def code(self) -> grpc.StatusCode: ...  # noqa: D102
    def details(self) -> str | None: ...  # noqa: D102
    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...  # noqa: D102


def status_code(error: BboptError) -> grpc.StatusCode:
    """Say which status an error has; a class that is not in the table has its parent's."""
    return _CODES.get(_listed(error), grpc.StatusCode.UNKNOWN)


def reason_of(error: BboptError) -> str:
    """Say which reason an error travels under; of a class not in the table, its parent's."""
    return _listed(error).reason


def _listed(error: BboptError) -> type[BboptError]:
    for each in type(error).__mro__:
        if each in _CODES:
            return cast(type[BboptError], each)
    return BboptError


# To the wire -------------------------------------------------------------------------------


def error_to_status(error: BboptError) -> Status:
    """Write an error, cut to what fits into the metadata of an answer."""
    details: list[Message] = [ErrorInfo(reason=reason_of(error), domain=DOMAIN)]
    if isinstance(error, InvalidError):
        shown = _fitting(error.violations)
        details.append(
            BadRequest(
                field_violations=[
                    BadRequest.FieldViolation(field=each.field, description=each.message)
                    for each in shown
                ]
            )
        )
    if isinstance(error, RetryableError):
        delay = duration_to_message(max(0.0, error.retry_after_s))
        details.append(RetryInfo(retry_delay=delay))
    status = Status(
        code=status_code(error).value[0], message=_cut(str(error), _MAX_MESSAGE_BYTES)
    )
    for detail in details:
        status.details.add().Pack(detail)
    return status


def status_to_metadata(status: Status) -> tuple[tuple[str, bytes], ...]:
    """Write a status as trailing metadata."""
    return ((DETAILS_KEY, status.SerializeToString()),)


def error_to_item_status(error: BboptError) -> service_pb2.ItemStatus:
    """Write what is wrong with one item of a batch."""
    violations = error.violations if isinstance(error, InvalidError) else ()
    return service_pb2.ItemStatus(
        code=status_code(error).value[0],
        reason=reason_of(error),
        message=_cut(str(error), _MAX_MESSAGE_BYTES),
        violations=[
            service_pb2.FieldViolation(field=each.field, description=each.message)
            for each in _fitting(violations)
        ],
    )


def _cut(text: str, max_bytes: int) -> str:
    """Shorten a text to its limit, at a character's end."""
    encoded = printable(text).encode()
    if len(encoded) <= max_bytes:
        return encoded.decode()
    return encoded[: max_bytes - 3].decode(errors="ignore") + "..."


def _fitting(violations: Sequence[Violation]) -> list[Violation]:
    """Keep as many violations as fit, and say how many were left out."""
    shown: list[Violation] = []
    room = _MAX_VIOLATIONS_BYTES
    for position, violation in enumerate(violations):
        each = Violation(
            _cut(violation.field, _MAX_FIELD_BYTES),
            _cut(violation.message, _MAX_DESCRIPTION_BYTES),
        )
        room -= len(each.field.encode()) + len(each.message.encode()) + 8
        if room < 0:
            n_left = len(violations) - position
            shown.append(Violation("", f"and {n_left} more violations"))
            break
        shown.append(each)
    return shown


# From the wire -----------------------------------------------------------------------------


def error_from_rpc(failure: RpcFailure) -> BboptError:
    """Turn a failed call into the error that the server raised, or into the nearest one.

    Returns:
        An error of the class that ``ErrorInfo.reason`` names; without one, of the class
        that the status code suggests; ``BboptError`` itself if neither is known.
    """
    code, message = failure.code(), failure.details() or ""
    for key, value in failure.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return error_from_status(Status.FromString(value))
            except DecodeError:
                break
    return _without_reason(code, message or code.name)


def error_from_status(status: Status) -> BboptError:
    """Turn a status into the error that it was made from, or into the nearest one."""
    info, bad_request, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details:
        for message in (info, bad_request, retry):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    violations = [
        Violation(each.field, each.description) for each in bad_request.field_violations
    ]
    retry_after_s: float | None = None
    if retry.HasField("retry_delay"):
        try:
            retry_after_s = duration_from_message(retry.retry_delay)
        except InvalidError:
            retry_after_s = None
    known = _CLASSES.get(info.reason) if info.domain == DOMAIN else None
    if known is None:
        code = _BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
        return _without_reason(code, status.message, violations, retry_after_s)
    return _built(known, status.message, violations, retry_after_s)


def error_from_item_status(status: service_pb2.ItemStatus) -> BboptError | None:
    """Turn the status of one item of a batch into an error; ``None`` for success."""
    if status.code == 0:
        return None
    violations = [Violation(each.field, each.description) for each in status.violations]
    known = _CLASSES.get(status.reason)
    if known is None:
        code = _BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
        return _without_reason(code, status.message, violations)
    return _built(known, status.message, violations)


def _without_reason(
    code: grpc.StatusCode,
    message: str,
    violations: Sequence[Violation] = (),
    retry_after_s: float | None = None,
) -> BboptError:
    nearest = _CLASSES_WITHOUT_REASON.get(code)
    if nearest is None:
        return BboptError(f"{code.name}: {message}" if message else code.name)
    return _built(nearest, message, violations, retry_after_s)


def _built(
    kind: type[BboptError],
    message: str,
    violations: Sequence[Violation] = (),
    retry_after_s: float | None = None,
) -> BboptError:
    if issubclass(kind, InvalidError):
        return kind(violations or [Violation("request", message)])
    if issubclass(kind, RetryableError) and retry_after_s is not None:
        return kind(message, retry_after_s=retry_after_s)
    return kind(message)
