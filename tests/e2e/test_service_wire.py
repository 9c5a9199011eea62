"""The service on real sockets: errors, health, reflection; bad input has a file of its own."""

# ruff: noqa: ARG002 - a broken compute ignores what it is asked

import uuid
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bbopt.errors import (
    ExhaustedError,
    InternalError,
    InvalidError,
    PreconditionError,
    RequestIdReusedError,
    UnavailableError,
)
from bbopt.rpc.v1 import insight_service_pb2 as insight_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2
from bbopt_server.compute import Recommendation, StudyLog, Suggestions
from bbopt_server.rpc.methods import Methods
from bbopt_server.rpc.server import Address
from bbopt_server.storage import MemoryStore
from bbopt_server.studies import Studies
from tests.e2e.served import PARENT, Caller, ServerThread, new_id, serving
from tests.unit.server.service import SERVICES, FakeCompute, completed, point, quadratic

SERVICE = "/bbopt.rpc.v1.OptimizationService/"


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    with serving() as caller:
        yield caller


def new_study(caller: Caller, spec: study_pb2.StudySpec | None = None) -> str:
    return caller.create(f"s-{uuid.uuid4().hex[:8]}", spec or quadratic()).name


def raw(caller: Caller, method: str, data: bytes, timeout_s: float = 10.0) -> bytes:
    """Send bytes as they are."""
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = caller.channel.unary_unary(
        method, request_serializer=None, response_deserializer=None
    )
    return call(data, timeout=timeout_s)


def test_every_method_of_the_contract_is_in_the_table_and_no_other() -> None:
    table = Methods(Studies(MemoryStore(), FakeCompute()), device="cpu").table()
    assert {service: set(methods) for service, methods in table.items()} == {
        service: set(descriptor.methods_by_name) for service, descriptor in SERVICES.items()
    }
    for service, methods in table.items():
        for name, method in methods.items():
            declared = SERVICES[service].methods_by_name[name].input_type
            assert method.request_type.DESCRIPTOR is declared


def test_a_study_is_created_asked_told_and_listed_over_sockets(caller: Caller) -> None:
    study = new_study(caller)
    trials = caller.ask(study, 3).trials
    for trial in trials:
        assert caller.tell(study, trial, 1.0).status.code == 0
    assert [each.number for each in caller.trials(study)] == [1, 2, 3]
    best = caller.call(caller.insight.GetBest, insight_pb2.GetBestRequest(name=study))
    assert best.trial.number == 1
    listed = caller.call(
        caller.optimization.ListStudies, pb.ListStudiesRequest(parent=PARENT, page_size=1000)
    )
    assert study in [each.name for each in listed.studies]


def test_a_watch_stream_follows_over_sockets(caller: Caller) -> None:
    study = new_study(caller)
    stream = caller.optimization.WatchStudy(pb.WatchStudyRequest(name=study), timeout=20.0)
    trial = caller.ask(study).trials[0]
    caller.tell(study, trial, 1.0)
    assert [next(stream).kind for _ in range(3)] == ["study", "asked", "told"]
    stream.cancel()


def test_the_server_says_what_it_is(caller: Caller) -> None:
    info = caller.call(caller.optimization.GetServerInfo, pb.GetServerInfoRequest())
    assert info.api_versions == ["bbopt.rpc.v1"]
    assert {each.id for each in info.strategies} == {
        "auto",
        "random",
        "sobol",
        "gp",
        "cma_es",
        "asha",
    }
    assert info.limits["ask_count"] == 256


def test_a_method_that_is_not_there_is_unimplemented(caller: Caller) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw(caller, SERVICE + "DropEverything", b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_error_comes_back_as_the_class_it_was(caller: Caller) -> None:
    study = new_study(caller)
    caller.ask(study, 1, request_id="the-same-one")
    with pytest.raises(RequestIdReusedError):
        caller.ask(study, 2, request_id="the-same-one")
    bad = pb.CreateTrialRequest(
        parent=study, parameters=point(x=7.0, y=0.5), request_id=new_id()
    )
    with pytest.raises(InvalidError) as caught:
        caller.call(caller.optimization.CreateTrial, bad)
    assert [each.field for each in caught.value.violations] == ["parameters[x]"]
    stop = pb.AmendTrialRequest(
        name=f"{study}/trials/1", outcome=completed(), request_id=new_id()
    )
    with pytest.raises(PreconditionError):
        caller.call(caller.optimization.AmendTrial, stop)


class BrokenCompute(FakeCompute):
    """Has a bug that knows a secret."""

    async def suggest(
        self,
        study: StudyLog,
        count: int,
        *,
        time_left_s: float | None,
        is_ahead: bool = False,
    ) -> Suggestions:
        raise ExhaustedError("too many jobs", retry_after_s=7.0)

    async def recommend(self, study: StudyLog) -> Recommendation:
        raise RuntimeError("the secret is 4711")


def test_a_bug_is_internal_and_tells_nothing_but_a_reference() -> None:
    with serving(compute=BrokenCompute()) as caller:
        study = new_study(caller)
        request = insight_pb2.GetBestRequest(name=study, use_model=True)
        with pytest.raises(InternalError) as caught:
            caller.call(caller.insight.GetBest, request)
        assert "4711" not in str(caught.value)
        assert "RuntimeError" not in str(caught.value)


def test_a_full_queue_says_when_to_come_back() -> None:
    with serving(compute=BrokenCompute()) as caller:
        study = new_study(caller)
        with pytest.raises(ExhaustedError) as caught:
            caller.ask(study)
        assert caught.value.retry_after_s == 7.0


def test_however_many_calls_wait_results_get_in() -> None:
    server = ServerThread()
    try:
        server.app.server.traffic.waiting.limit = 1
        with Caller(server.address) as caller:
            study = new_study(caller)
            trial = caller.ask(study).trials[0]
            watch = caller.optimization.WatchStudy(
                pb.WatchStudyRequest(name=study), timeout=20.0
            )
            next(watch)
            with pytest.raises(ExhaustedError, match="1 such calls run"):
                caller.ask(study)
            assert caller.tell(study, trial, 1.0).status.code == 0
            watch.cancel()
    finally:
        server.stop()


def test_health_tells_tells_and_suggests_apart(caller: Caller) -> None:
    health = health_pb2_grpc.HealthStub(caller.channel)

    def status(name: str) -> int:
        request = health_pb2.HealthCheckRequest(service=name)
        return int(health.Check(request, timeout=5.0).status)

    assert status("") == health_pb2.HealthCheckResponse.SERVING
    assert status("bbopt.Tell") == health_pb2.HealthCheckResponse.SERVING
    assert status("bbopt.Suggest") in (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )


def test_reflection_lists_the_services(caller: Caller) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(caller.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(stub.ServerReflectionInfo(iter([request]), timeout=5.0))
    names = {each.name for each in answer.list_services_response.service}
    assert {"bbopt.rpc.v1.OptimizationService", "bbopt.rpc.v1.InsightService"} <= names


def test_two_servers_do_not_share_a_port() -> None:
    server = ServerThread()
    try:
        port = int(server.address.rpartition(":")[2])
        with pytest.raises(UnavailableError):
            server.run(server.app.server.start(Address("127.0.0.1", port)))
    finally:
        server.stop()
