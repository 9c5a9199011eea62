"""Errors travel over a real connection, to both kinds of client."""

import asyncio

import grpc
import pytest

from bbopt.errors import (
    BboptError,
    InvalidError,
    LeaseLostError,
    SpecError,
    UnavailableError,
    Violation,
)
from bbopt.rpc.errors import (
    error_from_rpc,
    error_to_status,
    status_code,
    status_to_metadata,
)
from bbopt.rpc.v1.optimization_service_pb2 import GetStudyRequest
from bbopt.rpc.v1.optimization_service_pb2_grpc import (
    OptimizationServiceServicer,
    OptimizationServiceStub,
    add_OptimizationServiceServicer_to_server,
)
from bbopt.rpc.v1.study_pb2 import Study

HUGE = SpecError([Violation(f"parameters[{each}].low", "\u00e9" * 200) for each in range(2000)])


class Failing(OptimizationServiceServicer):
    def __init__(self, error: BboptError) -> None:
        self.error = error

    async def GetStudy(  # noqa: N802 - the name is gRPC's.
        self,
        request: GetStudyRequest,  # noqa: ARG002
        context: "grpc.aio.ServicerContext[GetStudyRequest, Study]",
    ) -> Study:
        status = error_to_status(self.error)
        await context.abort(status_code(self.error), status.message, status_to_metadata(status))


def call_with_threads(address: str) -> BboptError:
    with grpc.insecure_channel(address) as channel:
        try:
            OptimizationServiceStub(channel).GetStudy(GetStudyRequest(), timeout=10)
        except grpc.RpcError as failure:
            return error_from_rpc(failure)  # type: ignore[arg-type]
    raise AssertionError


async def call_with_asyncio(address: str) -> BboptError:
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            await OptimizationServiceStub(channel).GetStudy(GetStudyRequest(), timeout=10)
        except grpc.aio.AioRpcError as failure:
            return error_from_rpc(failure)
    raise AssertionError


async def received(error: BboptError) -> list[BboptError]:
    server = grpc.aio.server()
    failing = Failing(error)  # type: ignore[abstract]  # The other methods are not called.
    add_OptimizationServiceServicer_to_server(failing, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        return [
            await call_with_asyncio(address),
            await asyncio.to_thread(call_with_threads, address),
        ]
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    "error",
    [
        InvalidError([Violation("a.b", "é is not a number"), Violation("c", "missing")]),
        LeaseLostError("worker-2 holds the trial"),
        UnavailableError("draining", retry_after_s=0.25),
    ],
)
def test_an_error_arrives_as_it_was_raised(error: BboptError) -> None:
    for each in asyncio.run(received(error)):
        assert type(each) is type(error)
        assert str(each) == str(error)
        assert getattr(each, "retry_after_s", None) == getattr(error, "retry_after_s", None)


def test_thousands_of_violations_arrive_cut_but_typed() -> None:
    for each in asyncio.run(received(HUGE)):
        assert type(each) is SpecError
        assert each.violations[0].field == "parameters[0].low"
        assert "more violations" in each.violations[-1].message


def test_a_server_that_is_not_there_is_unavailable() -> None:
    assert type(call_with_threads("127.0.0.1:1")) is UnavailableError
