import pytest

from bbopt.errors import (
    BboptError,
    DataLossError,
    EmptyFeasibleSetError,
    InternalError,
    InvalidError,
    NumericalError,
    PreconditionError,
    SpecError,
    UnsupportedError,
    Violation,
)
from bbopt_server.compute import ComputeFailedError
from bbopt_server.compute.failures import error_of, failure_of


@pytest.mark.parametrize("kind", [InvalidError, SpecError, UnsupportedError])
def test_an_invalid_request_keeps_its_violations(kind: type[InvalidError]) -> None:
    error = kind([Violation("a", "is wrong"), Violation("b: c", "is too")])
    back = error_of(failure_of(error))
    assert type(back) is kind
    assert isinstance(back, InvalidError)
    assert back.violations == error.violations


@pytest.mark.parametrize(
    "kind", [DataLossError, EmptyFeasibleSetError, NumericalError, PreconditionError]
)
def test_an_error_of_the_library_keeps_its_class(kind: type[BboptError]) -> None:
    back = error_of(failure_of(kind("what happened")))
    assert type(back) is kind
    assert str(back) == "what happened"


def test_a_bug_in_compute_is_a_failed_job() -> None:
    assert type(error_of(failure_of(InternalError("reference 1")))) is ComputeFailedError
