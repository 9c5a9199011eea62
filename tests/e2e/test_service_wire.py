"""The service on real sockets: statuses, garbage, limits, health, reflection."""

# ruff: noqa: ARG002 - a broken compute ignores what it is asked

import uuid
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bbopt.errors import (
    BboptError,
    ExhaustedError,
    InternalError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    RequestIdReusedError,
    SpecError,
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


def test_a_stream_of_a_study_that_is_not_there_is_refused(caller: Caller) -> None:
    request = pb.WatchStudyRequest(name=f"{PARENT}/studies/none")
    with pytest.raises(grpc.RpcError) as caught:
        next(caller.optimization.WatchStudy(request, timeout=10.0))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


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


_NAN = float("nan")


def _spec(**changes: object) -> study_pb2.StudySpec:
    spec = quadratic()
    spec.MergeFrom(study_pb2.StudySpec(**changes))  # type: ignore[arg-type]
    return spec


def _created(spec: study_pb2.StudySpec, study_id: str = "bad") -> pb.CreateStudyRequest:
    study = study_pb2.Study(spec=spec)
    return pb.CreateStudyRequest(
        parent=PARENT, study_id=study_id, study=study, request_id=new_id()
    )


def _domain(low: float, high: float, **more: object) -> study_pb2.StudySpec:
    spec = quadratic()
    domain = study_pb2.DoubleDomain(min=low, max=high, **more)  # type: ignore[arg-type]
    spec.parameters[0].double_domain.CopyFrom(domain)
    return spec


BAD = {
    "bounds the wrong way round": ("CreateStudy", _created(_domain(2, 1)), SpecError),
    "equal bounds": ("CreateStudy", _created(_domain(1, 1)), SpecError),
    "a bound that is no number": ("CreateStudy", _created(_domain(_NAN, 1)), SpecError),
    "a log scale from zero": (
        "CreateStudy",
        _created(_domain(0, 1, scale=study_pb2.SCALE_LOG)),
        SpecError,
    ),
    "an unknown scale": ("CreateStudy", _created(_domain(0, 1, scale=99)), SpecError),
    "no parameters": (
        "CreateStudy",
        _created(study_pb2.StudySpec(metrics=quadratic().metrics)),
        SpecError,
    ),
    "no metrics": (
        "CreateStudy",
        _created(study_pb2.StudySpec(parameters=quadratic().parameters)),
        SpecError,
    ),
    "too many parameters": (
        "CreateStudy",
        _created(
            _spec(
                parameters=[
                    study_pb2.ParameterSpec(
                        id=f"p{i}", double_domain=study_pb2.DoubleDomain(min=0, max=1)
                    )
                    for i in range(2001)
                ]
            )
        ),
        SpecError,
    ),
    "a duplicate parameter": (
        "CreateStudy",
        _created(_spec(parameters=[quadratic().parameters[0]])),
        SpecError,
    ),
    "a parameter without a domain": (
        "CreateStudy",
        _created(_spec(parameters=[study_pb2.ParameterSpec(id="z")])),
        SpecError,
    ),
    "a study id that climbs": ("CreateStudy", _created(quadratic(), "../etc"), InvalidError),
    "a study id with markup": ("CreateStudy", _created(quadratic(), "<b>"), InvalidError),
    "a study id with a newline": ("CreateStudy", _created(quadratic(), "a\nb"), InvalidError),
    "a study id in another script": (
        "CreateStudy",
        _created(quadratic(), "\u0455tudy"),
        InvalidError,
    ),
    "a study id too long": ("CreateStudy", _created(quadratic(), "x" * 129), InvalidError),
    "no definition": (
        "CreateStudy",
        pb.CreateStudyRequest(parent=PARENT, study_id="bad", request_id=new_id()),
        InvalidError,
    ),
    "a project that is none": (
        "CreateStudy",
        pb.CreateStudyRequest(parent="default", study_id="a", request_id=new_id()),
        InvalidError,
    ),
    "an injected name": (
        "GetStudy",
        pb.GetStudyRequest(name=f"{PARENT}/studies/x'; drop table trial;--"),
        InvalidError,
    ),
    "a study that is not there": (
        "GetStudy",
        pb.GetStudyRequest(name=f"{PARENT}/studies/none"),
        NotFoundError,
    ),
    "a negative count": (
        "AskTrials",
        pb.AskTrialsRequest(parent=f"{PARENT}/studies/s", count=-1, request_id=new_id()),
        InvalidError,
    ),
    "a count too large": (
        "AskTrials",
        pb.AskTrialsRequest(parent=f"{PARENT}/studies/s", count=257, request_id=new_id()),
        InvalidError,
    ),
    "a worker with escapes": (
        "AskTrials",
        pb.AskTrialsRequest(
            parent=f"{PARENT}/studies/s", worker_id="\x1b[31m", request_id=new_id()
        ),
        InvalidError,
    ),
    "an unknown way to degrade": (
        "AskTrials",
        pb.AskTrialsRequest(parent=f"{PARENT}/studies/s", degrade=9, request_id=new_id()),  # type: ignore[arg-type]
        InvalidError,
    ),
    "nothing to tell": (
        "TellTrials",
        pb.TellTrialsRequest(parent=f"{PARENT}/studies/s", request_id=new_id()),
        InvalidError,
    ),
    "a trial number of zero": (
        "GetTrial",
        pb.GetTrialRequest(name=f"{PARENT}/studies/s/trials/0"),
        InvalidError,
    ),
    "a trial number too large": (
        "GetTrial",
        pb.GetTrialRequest(name=f"{PARENT}/studies/s/trials/{2**63}"),
        InvalidError,
    ),
    "a page too large": (
        "ListTrials",
        pb.ListTrialsRequest(parent=f"{PARENT}/studies/s", page_size=1001),
        InvalidError,
    ),
    "an unknown state to list": (
        "ListTrials",
        pb.ListTrialsRequest(parent=f"{PARENT}/studies/s", states=[77]),  # type: ignore[list-item]
        InvalidError,
    ),
    "an empty outcome to amend": (
        "AmendTrial",
        pb.AmendTrialRequest(name=f"{PARENT}/studies/s/trials/1", request_id=new_id()),
        InvalidError,
    ),
    "a tell and an ask of two studies": (
        "TellAndAsk",
        pb.TellAndAskRequest(
            tell=pb.TellTrialsRequest(
                parent=f"{PARENT}/studies/s", tells=[pb.Tell(trial="1", outcome=completed())]
            ),
            ask=pb.AskTrialsRequest(parent=f"{PARENT}/studies/t"),
            request_id=new_id(),
        ),
        InvalidError,
    ),
    "no points to predict at": (
        "Predict",
        insight_pb2.PredictRequest(name=f"{PARENT}/studies/s"),
        InvalidError,
    ),
}


@pytest.mark.parametrize(("method", "request_", "kind"), BAD.values(), ids=list(BAD))
def test_a_bad_request_is_refused_with_its_reason_and_the_server_lives(
    caller: Caller, method: str, request_: Message, kind: type[BboptError]
) -> None:
    stubs = caller.insight if method == "Predict" else caller.optimization
    with pytest.raises(kind) as caught:
        caller.call(getattr(stubs, method), request_)
    assert type(caught.value) is kind
    if isinstance(caught.value, InvalidError):
        assert caught.value.violations
    caller.call(caller.optimization.GetServerInfo, pb.GetServerInfoRequest())


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff", b"\x0a\xff", b"\x0b" * 50_000, b"\x0a\x05hello\x12"], ids=repr
)
def test_bytes_that_are_no_message_are_an_invalid_argument(caller: Caller, data: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw(caller, SERVICE + "CreateStudy", data)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "DecodeError" not in str(caught.value.details())


def test_fields_that_this_version_does_not_know_are_let_pass(caller: Caller) -> None:
    unknown = b"\xfa\x3f\x03abc"  # Field 1023.
    data = pb.GetServerInfoRequest().SerializeToString() + unknown
    raw(caller, SERVICE + "GetServerInfo", data)


def test_a_method_that_is_not_there_is_unimplemented(caller: Caller) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw(caller, SERVICE + "DropEverything", b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_beyond_the_limit_is_refused(caller: Caller) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw(caller, SERVICE + "CreateStudy", b"\x0a" + b"x" * (5 * 1024 * 1024))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    caller.call(caller.optimization.GetServerInfo, pb.GetServerInfoRequest())


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
        self, study: StudyLog, count: int, *, time_left_s: float | None
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
