import base64
from collections.abc import Iterable
from urllib.parse import quote

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from bbopt import errors
from bbopt.errors import BboptError, InvalidError, RetryableError, Violation
from bbopt.rpc import errors as rpc_errors
from bbopt.rpc.v1.optimization_service_pb2 import ItemStatus

CODE = grpc.StatusCode


def every_class(root: type[BboptError] = BboptError) -> Iterable[type[BboptError]]:
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from every_class(child)


# Only RetryableError itself is never raised: its children are.
RAISED = sorted(set(every_class()) - {RetryableError}, key=lambda each: each.__name__)


def example(kind: type[BboptError]) -> BboptError:
    if issubclass(kind, InvalidError):
        return kind([Violation("a.b", "is wrong"), Violation("c[0]", "is missing")])
    if issubclass(kind, RetryableError):
        return kind("later", retry_after_s=2.5)
    return kind("what happened")


class Failure:
    """What a failed call looks like."""

    def __init__(
        self,
        code: grpc.StatusCode,
        details: str | None = "",
        metadata: Iterable[tuple[str, str | bytes]] | None = (),
    ) -> None:
        self._code, self._details, self._metadata = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        return self._metadata


def back(error: BboptError) -> BboptError:
    status = rpc_errors.error_to_status(error)
    metadata = rpc_errors.status_to_metadata(status)
    return rpc_errors.error_from_rpc(
        Failure(rpc_errors.status_code(error), status.message, metadata)
    )


@pytest.mark.parametrize("kind", RAISED)
def test_an_error_comes_back_as_the_same_class(kind: type[BboptError]) -> None:
    error = example(kind)
    received = back(error)
    assert type(received) is kind
    assert str(received) == str(error)
    if isinstance(error, InvalidError):
        assert isinstance(received, InvalidError)
        assert received.violations == error.violations
    if isinstance(error, RetryableError):
        assert isinstance(received, RetryableError)
        assert received.retry_after_s == 2.5


@pytest.mark.parametrize("kind", RAISED)
def test_an_error_of_an_item_comes_back_as_the_same_class(kind: type[BboptError]) -> None:
    error = example(kind)
    received = rpc_errors.error_from_item_status(rpc_errors.error_to_item_status(error))
    assert type(received) is kind
    assert str(received) == str(error)


@pytest.mark.parametrize("kind", RAISED)
def test_every_class_has_a_status_that_is_not_ok(kind: type[BboptError]) -> None:
    assert rpc_errors.status_code(example(kind)) not in (CODE.OK, CODE.UNKNOWN)


def test_reasons_are_not_shared() -> None:
    reasons = [kind.reason for kind in RAISED]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.SpecError, CODE.INVALID_ARGUMENT),
        (errors.RequestIdReusedError, CODE.INVALID_ARGUMENT),
        (errors.NotFoundError, CODE.NOT_FOUND),
        (errors.StudyDeletedError, CODE.NOT_FOUND),
        (errors.StudyExistsError, CODE.ALREADY_EXISTS),
        (errors.StudyNotActiveError, CODE.FAILED_PRECONDITION),
        (errors.TrialFinishedError, CODE.ALREADY_EXISTS),
        (errors.LeaseLostError, CODE.ABORTED),
        (errors.LimitError, CODE.RESOURCE_EXHAUSTED),
        (errors.ExhaustedError, CODE.RESOURCE_EXHAUSTED),
        (errors.UnavailableError, CODE.UNAVAILABLE),
        (errors.DeadlineError, CODE.DEADLINE_EXCEEDED),
        (errors.DataLossError, CODE.DATA_LOSS),
        (errors.InternalError, CODE.INTERNAL),
    ],
)
def test_the_table_of_statuses(kind: type[BboptError], code: grpc.StatusCode) -> None:
    assert rpc_errors.status_code(example(kind)) is code


def test_a_class_of_a_plug_in_travels_as_its_parent() -> None:
    class TooFarError(errors.ConflictError):
        reason = "TOO_FAR"

    assert type(back(TooFarError("x"))) is errors.ConflictError


def test_success_of_an_item_is_no_error() -> None:
    success = ItemStatus()
    assert rpc_errors.error_from_item_status(success) is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (CODE.UNAVAILABLE, errors.UnavailableError),
        (CODE.DEADLINE_EXCEEDED, errors.DeadlineError),
        (CODE.RESOURCE_EXHAUSTED, errors.ExhaustedError),
        (CODE.INVALID_ARGUMENT, InvalidError),
        (CODE.NOT_FOUND, errors.NotFoundError),
        (CODE.UNIMPLEMENTED, BboptError),
        (CODE.UNAUTHENTICATED, BboptError),
        (CODE.INTERNAL, BboptError),
        (CODE.UNKNOWN, BboptError),
    ],
)
@pytest.mark.parametrize("metadata", [None, (), ((rpc_errors.DETAILS_KEY, b"\xff garbage"),)])
def test_without_details_the_status_decides(
    code: grpc.StatusCode,
    kind: type[BboptError],
    metadata: Iterable[tuple[str, str | bytes]] | None,
) -> None:
    received = rpc_errors.error_from_rpc(Failure(code, "said gRPC", metadata))
    assert type(received) is kind
    assert "said gRPC" in str(received)


def test_a_reason_of_another_domain_is_not_ours() -> None:
    status = Status(code=CODE.UNAVAILABLE.value[0], message="m")
    status.details.add().Pack(ErrorInfo(reason="DATA_LOSS", domain="example.com"))
    assert type(rpc_errors.error_from_status(status)) is errors.UnavailableError


def test_a_reason_of_a_newer_server_falls_back_to_the_status() -> None:
    status = Status(code=CODE.INVALID_ARGUMENT.value[0], message="m")
    status.details.add().Pack(ErrorInfo(reason="NEW", domain=rpc_errors.DOMAIN))
    violation = BadRequest.FieldViolation(field="f", description="d")
    status.details.add().Pack(BadRequest(field_violations=[violation]))
    received = rpc_errors.error_from_status(status)
    assert type(received) is InvalidError
    assert received.violations == (Violation("f", "d"),)


@given(
    st.lists(
        st.builds(Violation, st.text(max_size=3000), st.text(max_size=3000)),
        min_size=1,
        max_size=40,
    )
)
def test_an_error_of_any_size_fits_into_the_metadata(violations: list[Violation]) -> None:
    error = InvalidError(violations)
    status = rpc_errors.error_to_status(error)
    ((key, value),) = rpc_errors.status_to_metadata(status)
    n_bytes = len(key) + len(base64.b64encode(value)) + len(quote(status.message))
    assert n_bytes < 8000


def test_violations_that_were_left_out_are_counted() -> None:
    error = InvalidError([Violation(f"p[{each}]", "x" * 100) for each in range(1000)])
    received = back(error)
    assert isinstance(received, InvalidError)
    shown = received.violations
    assert shown[:-1] == error.violations[: len(shown) - 1]
    assert shown[-1].message == f"and {1001 - len(shown)} more violations"
