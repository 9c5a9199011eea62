"""Every error that bbopt raises on purpose, in one tree.

::

    BboptError
    ├── InvalidError              what was sent is wrong; lists every violation at once
    │   ├── SpecError             the definition of a study (space, metrics, strategy)
    │   └── UnsupportedError      a strategy cannot handle a feature of the problem
    ├── RequestIdReusedError      one request id, two different requests
    ├── NotFoundError             no such study or trial
    │   └── StudyDeletedError     there was one, and it was deleted
    ├── StudyExistsError          the name is taken by a study with another definition
    ├── PreconditionError         right request, wrong moment
    │   ├── StudyNotActiveError   the study is paused, completed or deleted
    │   └── EmptyFeasibleSetError no point satisfies the parameter constraints
    ├── ConflictError             somebody else was there first
    │   ├── TrialFinishedError    the trial already has another final result
    │   ├── LeaseLostError        another worker holds the trial now
    │   └── EtagMismatchError     the resource changed since it was read
    ├── LimitError                something has all that it can ever have
    ├── RetryableError            goes away by itself; says when to try again
    │   ├── ExhaustedError        a queue or a limit is full for now
    │   └── UnavailableError      starting, draining, store busy
    ├── DeadlineError             no answer in time, and no fallback was allowed
    ├── DataLossError             stored data fails its checksum or cannot be decoded
    ├── NumericalError            a factorization or a fit broke down
    └── InternalError             a bug; the details are in the server's log under a reference

``reason`` is the stable machine-readable name that travels on the wire (``ErrorInfo.reason``)
and is turned back into the same class by the client.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request."""

    field: str
    """Path of the field as the caller wrote it, e.g. ``parameters[lr].low`` in Python and
    ``study.spec.parameters[0].double_domain.min`` on the wire.
    """
    message: str
    """What is wrong and what would be right."""

    def __str__(self) -> str:
        """Show what cannot be seen, such as the mark at the head of a spreadsheet's file."""
        shown = self.field if self.field.isprintable() else ascii(self.field)[1:-1]
        return f"{shown}: {self.message}"


class BboptError(Exception):
    """Root of every error that bbopt raises on purpose."""

    reason: ClassVar[str] = "INTERNAL"


class InvalidError(BboptError, ValueError):
    """What was sent is wrong; ``violations`` lists everything that is."""

    reason = "INVALID"

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(str(violation) for violation in self.violations))

    @classmethod
    def of(cls, field: str, message: str) -> "InvalidError":
        """Build the error for one violation."""
        return cls([Violation(field, message)])


class SpecError(InvalidError):
    """The definition of a study is wrong."""

    reason = "BAD_SPEC"


class UnsupportedError(InvalidError):
    """The strategy cannot handle a feature of the problem; the message says which can."""

    reason = "ALGORITHM_CANNOT_HANDLE_SPEC"


class RequestIdReusedError(BboptError):
    """A request id came back with a different request."""

    reason = "REQUEST_ID_REUSED"


class NotFoundError(BboptError, LookupError):
    """There is no such study or trial."""

    reason = "NOT_FOUND"


class StudyDeletedError(NotFoundError):
    """The study that is meant was deleted, whatever has its name now."""

    reason = "STUDY_DELETED"


class StudyExistsError(BboptError):
    """The name is taken by a study with another definition; the message has the difference."""

    reason = "STUDY_EXISTS_WITH_OTHER_SPEC"


class PreconditionError(BboptError):
    """The request is right, the moment is wrong."""

    reason = "FAILED_PRECONDITION"


class StudyNotActiveError(PreconditionError):
    """The study takes no more of this: it is paused, completed or deleted."""

    reason = "STUDY_NOT_ACTIVE"


class EmptyFeasibleSetError(PreconditionError):
    """No point satisfies the parameter constraints; the message names those in conflict."""

    reason = "EMPTY_FEASIBLE_SET"


class ConflictError(BboptError):
    """Somebody else was there first."""

    reason = "CONFLICT"


class TrialFinishedError(ConflictError):
    """The trial already has a different final result; ``amend`` corrects one."""

    reason = "TRIAL_ALREADY_FINISHED"


class LeaseLostError(ConflictError):
    """The lease expired or was given to another worker."""

    reason = "LEASE_LOST"


class EtagMismatchError(ConflictError):
    """The resource changed since it was read."""

    reason = "ETAG_MISMATCH"


class LimitError(BboptError):
    """Something has all that it can ever have; waiting does not help."""

    reason = "LIMIT_REACHED"


class RetryableError(BboptError):
    """An error that goes away by itself."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class ExhaustedError(RetryableError):
    """A queue, or a limit on what is unfinished, is full; it will have room again."""

    reason = "EXHAUSTED"


class UnavailableError(RetryableError):
    """Not now: the server is starting, draining, or its store is busy."""

    reason = "UNAVAILABLE"


class DeadlineError(BboptError, TimeoutError):
    """No answer in time, and the caller allowed no fallback."""

    reason = "DEADLINE"


class DataLossError(BboptError):
    """Stored data fails its checksum or cannot be decoded."""

    reason = "DATA_LOSS"


class NumericalError(BboptError, ArithmeticError):
    """A factorization or a fit broke down; whoever composes strategies decides what then."""

    reason = "NUMERICAL"


class InternalError(BboptError):
    """A bug on the server; the message carries the reference under which it was logged."""

    reason = "INTERNAL"
