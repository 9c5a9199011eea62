"""Errors of the library <-> failures on the pipe. No stack trace goes this way."""

from collections.abc import Mapping

from bbopt.errors import (
    BboptError,
    DataLossError,
    EmptyFeasibleSetError,
    InvalidError,
    NumericalError,
    PreconditionError,
    SpecError,
    UnsupportedError,
    Violation,
)
from bbopt.rpc.v1 import compute_pb2
from bbopt_server.compute.errors import ComputeFailedError

NOT_INSTALLED = "NOT_INSTALLED"
"""Reason of a process that cannot start because the engine's packages are missing."""

_INVALID: Mapping[str, type[InvalidError]] = {
    each.reason: each for each in (InvalidError, SpecError, UnsupportedError)
}
_OTHERS: Mapping[str, type[BboptError]] = {
    each.reason: each
    for each in (DataLossError, EmptyFeasibleSetError, NumericalError, PreconditionError)
}


def failure_of(error: BboptError) -> compute_pb2.ComputeReply.Failure:
    """Write an error."""
    failure = compute_pb2.ComputeReply.Failure(reason=error.reason, message=str(error))
    if isinstance(error, InvalidError):
        for each in error.violations:
            failure.violations.add(field=each.field, message=each.message)
    return failure


def error_of(failure: compute_pb2.ComputeReply.Failure) -> BboptError:
    """Read an error; what is no error of the caller is a ``ComputeFailedError``."""
    if failure.reason in _INVALID and failure.violations:
        violations = [Violation(each.field, each.message) for each in failure.violations]
        return _INVALID[failure.reason](violations)
    if failure.reason in _OTHERS:
        return _OTHERS[failure.reason](failure.message)
    return ComputeFailedError(failure.message)
