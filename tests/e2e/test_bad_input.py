"""Bad input of every kind against one real server: refused by field, with nothing changed."""

import gzip
import random
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2, trial_pb2
from tests.e2e.bad_input_cases import CASES
from tests.e2e.bad_requests import (
    EXHAUSTED,
    INVALID,
    Case,
    World,
    asking,
    creating,
    full_spec,
    outcome,
    plain_spec,
    step,
    value,
)
from tests.e2e.served import PARENT, Caller, ServerProcess, new_id
from tests.unit.server.service import SERVICES, completed, double

LEAKS = re.compile(
    r"Traceback|File \"|google\.|bbopt_server|DecodeError|Exception|sqlite|/tmp/"
)
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Site:
    """A server, what was put on it, and a stranger's connection to it."""

    server: ServerProcess
    caller: Caller
    world: World


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a request was refused."""

    code: grpc.StatusCode
    reason: str
    fields: tuple[str, ...]
    text: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    db: Path = tmp_path_factory.mktemp("bad_input") / "bbopt.db"
    server = ServerProcess(str(db))
    try:
        with Caller(server.address) as caller:
            yield Site(server, caller, furnish(caller))
            caller.call(caller.optimization.GetServerInfo, pb.GetServerInfoRequest())
    finally:
        status, errors = server.end(signal.SIGTERM)
        assert status == 0
        assert "Traceback" not in errors


def furnish(caller: Caller) -> World:
    study = caller.create("full", full_spec()).name
    other = caller.create("other", plain_spec()).name
    spec = plain_spec()
    spec.budget.max_trials = 1
    spec.strategy.random.SetInParent()
    finished = caller.create("finished", spec).name
    caller.tell(finished, caller.ask(finished).trials[0], 1.0)
    active, done = caller.ask(study, 2).trials
    request = pb.TellTrialsRequest(
        parent=study, tells=[pb.Tell(trial=done.name, outcome=outcome())], request_id=new_id()
    )
    told = caller.call(caller.optimization.TellTrials, request).results[0]
    assert told.status.code == 0
    listing = pb.ListTrialsRequest(parent=study, page_size=1)
    page = caller.call(caller.optimization.ListTrials, listing)
    return World(study, active, done, other, finished, page.next_page_token)


def everything(caller: Caller, world: World) -> list[bytes]:
    """Read all that a client can see of the store."""
    studies = pb.ListStudiesRequest(parent=PARENT, page_size=1000, show_deleted=True)
    found: list[Message] = [caller.call(caller.optimization.ListStudies, studies)]
    for study in (world.study, world.other, world.finished):
        request = pb.ListTrialsRequest(parent=study, page_size=1000)
        found.append(caller.call(caller.optimization.ListTrials, request))
    for trial in (world.active, world.done):
        request_of_one = pb.GetTrialRequest(name=trial.name)
        found.append(caller.call(caller.optimization.GetTrial, request_of_one))
    return [each.SerializeToString(deterministic=True) for each in found]


def send(caller: Caller, rpc: str, data: bytes, **more: object) -> bytes:
    """Send bytes as they are, as a client of another language might."""
    service = next(name for name, each in SERVICES.items() if rpc in each.methods_by_name)
    path = f"/{service}/{rpc}"
    if rpc == "WatchStudy":
        stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = caller.channel.unary_stream(path)
        return next(iter(stream(data, timeout=60.0)))
    call: Callable[..., bytes] = caller.channel.unary_unary(path)
    return call(data, timeout=60.0, **more)


def bytes_of(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


def refusal_of(caller: Caller, rpc: str, request: Message | bytes, **more: object) -> Refusal:
    """Send a request that is refused, as a whole or as an item of its batch."""
    try:
        answer = send(caller, rpc, bytes_of(request), **more)
    except grpc.RpcError as error:
        return _of_rpc(error)
    assert rpc == "TellTrials", f"{rpc} was accepted: {answer!r}"
    item = pb.TellTrialsResponse.FromString(answer).results[0].status
    code = next(each for each in grpc.StatusCode if each.value[0] == item.code)
    told = "; ".join(f"{each.field}: {each.description}" for each in item.violations)
    fields = tuple(each.field for each in item.violations)
    return Refusal(code, item.reason, fields, told or item.message)


def _of_rpc(error: grpc.RpcError) -> Refusal:
    assert isinstance(error, grpc.Call)
    details, info = BadRequest(), ErrorInfo()
    for key, metadatum in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(metadatum, bytes):
            for each in Status.FromString(metadatum).details:
                each.Unpack(details)
                each.Unpack(info)
    found = details.field_violations
    told = "; ".join(f"{each.field}: {each.description}" for each in found)
    fields = tuple(each.field for each in found)
    return Refusal(error.code(), info.reason, fields, told or error.details() or "")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_refused_by_field_and_changes_nothing(site: Site, case: Case) -> None:
    before = everything(site.caller, site.world)

    refused = refusal_of(site.caller, case.rpc, case.request(site.world))

    assert (refused.code, refused.reason) == (case.code, case.expected_reason), refused
    assert sorted(refused.fields) == sorted(case.fields), refused
    assert re.search(case.says, refused.text), refused.text
    assert not LEAKS.search(refused.text), refused.text
    assert everything(site.caller, site.world) == before


def test_the_table_has_no_name_twice() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


# What looks bad and is accepted ------------------------------------------------------------


def new_study(site: Site, *, strategy: str = "gp", study: study_pb2.Study | None = None) -> str:
    spec = plain_spec()
    spec.parameters.add().CopyFrom(double("y"))
    spec.metrics.add(id="mass", kind=study_pb2.Metric.KIND_CONSTRAINT, upper=1.0)
    getattr(spec.strategy, strategy).SetInParent()
    request = pb.CreateStudyRequest(
        parent=PARENT, study_id=f"s-{new_id()[:8]}", study=study, request_id=new_id()
    )
    request.study.spec.CopyFrom(spec)
    return site.caller.call(site.caller.optimization.CreateStudy, request).name


def observe(site: Site, study: str, *, x: float, y: float, loss: float) -> trial_pb2.Trial:
    request = pb.CreateTrialRequest(
        parent=study,
        parameters={"x": value(x), "y": value(y)},
        outcome=completed(loss, mass=0.5),
        request_id=new_id(),
    )
    return site.caller.call(site.caller.optimization.CreateTrial, request)


def assert_asks_are_answered(site: Site, study: str) -> None:
    trials = site.caller.ask(study, 2, timeout_s=60.0).trials
    assert len(trials) == 2
    for trial in trials:
        for name in ("x", "y"):
            assert 0.0 <= trial.parameters[name].double_value <= 1.0


MANY = [30, pytest.param(1000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("n", MANY)
def test_27_equal_results_are_no_obstacle_to_suggesting(site: Site, n: int) -> None:
    study = new_study(site)
    for i in range(n):
        observe(site, study, x=i / n, y=(i * 0.618) % 1.0, loss=1.0)

    assert_asks_are_answered(site, study)


@pytest.mark.parametrize("n", MANY)
def test_28_one_point_many_times_is_no_obstacle_to_suggesting(site: Site, n: int) -> None:
    study = new_study(site)
    for i in range(n):
        observe(site, study, x=0.25, y=0.75, loss=float(i))

    assert_asks_are_answered(site, study)


EXTREMES = [1e308, -1e308, 5e-324, -5e-324, 1e300, 1e-300, -0.0, 0.0]


def test_06_and_29_extreme_results_are_stored_exactly_and_the_model_stays_finite(
    site: Site,
) -> None:
    study = new_study(site)
    for i, loss in enumerate(EXTREMES * 3):
        x = i / 24
        number = observe(site, study, x=x, y=1.0 - x, loss=loss).number
        request = pb.GetTrialRequest(name=f"{study}/trials/{number}")
        stored = site.caller.call(site.caller.optimization.GetTrial, request)
        assert stored.final_measurement.metrics["loss"].value.hex() == loss.hex()

    assert_asks_are_answered(site, study)


def test_30_a_result_that_violates_a_measured_constraint_is_accepted_and_flagged(
    site: Site,
) -> None:
    study = new_study(site, strategy="random")
    trial = site.caller.ask(study).trials[0]
    request = pb.TellTrialsRequest(
        parent=study,
        tells=[pb.Tell(trial="1", outcome=completed(1.0, mass=2.0))],
        request_id=new_id(),
    )
    told = site.caller.call(site.caller.optimization.TellTrials, request).results[0]

    assert told.status.code == 0
    stored = site.caller.call(
        site.caller.optimization.GetTrial, pb.GetTrialRequest(name=trial.name)
    )
    assert stored.HasField("feasible")
    assert not stored.feasible


def test_25_steps_come_in_any_order_up_to_the_largest(site: Site) -> None:
    study = new_study(site, strategy="random")
    trial = site.caller.ask(study).trials[0]
    for number in (2**63 - 1, 7, 3, 7):
        request = pb.ReportMeasurementsRequest(
            trial=trial.name,
            lease_token=trial.lease.token,
            measurements=[step(number)],
            request_id=new_id(),
        )
        site.caller.call(site.caller.optimization.ReportMeasurements, request)

    request_of_one = pb.GetTrialRequest(name=trial.name)
    stored = site.caller.call(site.caller.optimization.GetTrial, request_of_one)
    assert [each.step for each in stored.measurements] == [3, 7, 2**63 - 1]


FREE_TEXT = {
    "46-sql": "x'; drop table trial;--",
    "49-homoglyph": "\u0455tudy",
    "50-decomposed": "e\u0301",
    "52-climbing": "../../etc/passwd%2e%2e",
    "54-format-string": "%s{0.__class__}__proto__",
    "55-formula": "=cmd()",
    "56-emoji": "\U0001f600\U0001f1e8\U0001f1ed",
    "lines": "one\ntwo\tthree",
}


@pytest.mark.parametrize("text", FREE_TEXT.values(), ids=list(FREE_TEXT))
def test_free_text_is_stored_as_it_is(site: Site, text: str) -> None:
    named = study_pb2.Study(display_name=text, labels={"note": text})
    name = new_study(site, strategy="random", study=named)
    site.caller.ask(name)
    failed = trial_pb2.Outcome(failed=trial_pb2.Failure(message=text, final=True))
    request = pb.TellTrialsRequest(
        parent=name, tells=[pb.Tell(trial="1", outcome=failed)], request_id=new_id()
    )
    site.caller.call(site.caller.optimization.TellTrials, request)

    get = pb.GetStudyRequest(name=name)
    study = site.caller.call(site.caller.optimization.GetStudy, get)
    assert (study.display_name, study.labels["note"]) == (text, text)
    assert site.caller.trials(name)[0].state_message == text


def test_54_a_parameter_may_be_called_what_a_language_reserves(site: Site) -> None:
    spec = study_pb2.StudySpec(
        parameters=[double(each) for each in ("__proto__", "constructor", "class")],
        metrics=plain_spec().metrics,
    )
    spec.strategy.random.SetInParent()
    study = site.caller.create("reserved", spec).name
    asked = site.caller.ask(study).trials[0]
    assert set(asked.parameters) == {"__proto__", "constructor", "class"}


# The protocol ------------------------------------------------------------------------------


def test_61_unknown_fields_are_let_pass(site: Site) -> None:
    unknown = b"\xfa\x3f\x03abc"  # Field 1023.
    study = new_study(site, strategy="random")
    request = pb.CreateTrialRequest(parent=study, request_id=new_id())
    request.parameters["x"].double_value = 0.5
    request.parameters["y"].double_value = 0.5
    request.outcome.completed.metrics["loss"].MergeFromString(unknown)
    request.outcome.completed.metrics["mass"].value = 0.5

    answer = send(site.caller, "CreateTrial", request.SerializeToString() + unknown)

    assert trial_pb2.Trial.FromString(answer).number == 1


def padded(n_bytes: int) -> bytes:
    """A request to create a study, of so many bytes."""
    study = study_pb2.Study(display_name="x" * (n_bytes - 200))
    request = creating(study_id="bad", study=study)(None)  # type: ignore[arg-type]
    assert isinstance(request, pb.CreateStudyRequest)
    request.study.display_name += "x" * (n_bytes - request.ByteSize())
    data = request.SerializeToString()
    assert len(data) == n_bytes
    return data


def test_62_a_message_may_have_four_mebibytes_and_not_a_byte_more(site: Site) -> None:
    before = everything(site.caller, site.world)
    within = refusal_of(site.caller, "CreateStudy", padded(4 * MIB))
    beyond = refusal_of(site.caller, "CreateStudy", padded(4 * MIB + 1))

    assert (within.code, within.fields) == (INVALID, ("study.display_name",))
    assert (beyond.code, beyond.fields) == (EXHAUSTED, ())
    assert everything(site.caller, site.world) == before


def peak_mib(site: Site) -> float:
    status = Path(f"/proc/{site.server.process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def test_63_a_message_that_unpacks_to_a_hundred_times_its_size_is_refused(site: Site) -> None:
    bomb = b"\x0a" + b"\0" * (64 * MIB)
    assert len(gzip.compress(bomb)) < MIB
    before, peak_before = everything(site.caller, site.world), peak_mib(site)

    refused = refusal_of(site.caller, "CreateStudy", bomb, compression=grpc.Compression.Gzip)

    assert refused.code is EXHAUSTED
    assert peak_mib(site) < peak_before + 256
    assert everything(site.caller, site.world) == before


def test_63_compressed_messages_are_read(site: Site) -> None:
    refused = refusal_of(
        site.caller, "CreateStudy", padded(4 * MIB), compression=grpc.Compression.Gzip
    )
    assert (refused.code, refused.fields) == (INVALID, ("study.display_name",))


def test_64_metadata_has_a_limit(site: Site) -> None:
    data = pb.GetServerInfoRequest().SerializeToString()

    def metadata(kib: int) -> dict[str, object]:
        return {"metadata": (("x-noise", "x" * (kib * 1024)),)}

    send(site.caller, "GetServerInfo", data, **metadata(7))
    assert refusal_of(site.caller, "GetServerInfo", data, **metadata(20)).code is EXHAUSTED
    # Between the two limits gRPC refuses by lot, the more the larger it is.
    code, _ = outcome_of(site, "GetServerInfo", data, **metadata(9))
    assert code in (grpc.StatusCode.OK, EXHAUSTED)
    send(site.caller, "GetServerInfo", data)


def outcome_of(
    site: Site, rpc: str, data: bytes, **more: object
) -> tuple[grpc.StatusCode, str]:
    """Send what may be accepted or refused."""
    try:
        send(site.caller, rpc, data, **more)
    except grpc.RpcError as error:
        refused = _of_rpc(error)
        return refused.code, refused.text
    return grpc.StatusCode.OK, ""


def test_90_a_count_of_zero_is_one_trial(site: Site) -> None:
    study = new_study(site, strategy="random")
    assert len(site.caller.ask(study, 0).trials) == 1


def test_91_an_ask_of_a_finished_study_says_so(site: Site) -> None:
    answer = site.caller.ask(site.world.finished)
    assert not answer.trials
    assert answer.study_state == study_pb2.Study.STATE_COMPLETED


def test_95_a_request_id_belongs_to_one_method_of_one_project(site: Site) -> None:
    request_id = new_id()
    first = creating(study_id="twice", request_id=request_id)(site.world)
    elsewhere = creating(study_id="twice", request_id=request_id, parent="projects/b")
    send(site.caller, "CreateStudy", bytes_of(first))
    send(site.caller, "CreateStudy", bytes_of(elsewhere(site.world)))
    asked = asking(parent=f"{PARENT}/studies/twice", request_id=request_id)(site.world)
    send(site.caller, "AskTrials", bytes_of(asked))
    before = everything(site.caller, site.world)

    other = creating(study_id="other-body", request_id=request_id)(site.world)
    refused = refusal_of(site.caller, "CreateStudy", other)

    assert (refused.code, refused.reason) == (INVALID, "REQUEST_ID_REUSED")
    assert everything(site.caller, site.world) == before


def test_a_definition_is_refused_under_validate_only_as_well(site: Site) -> None:
    request = creating(lambda spec: spec.ClearField("metrics"), validate_only=True)(site.world)
    refused = refusal_of(site.caller, "CreateStudy", request)
    assert (refused.code, refused.fields) == (INVALID, ("study.spec.metrics",))


EXPECTED = {
    grpc.StatusCode.OK,
    INVALID,
    EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
}
N_MUTANTS = [300, pytest.param(10_000, marks=pytest.mark.slow)]


def mutant(data: bytes, rng: random.Random) -> bytes:
    """Flip, drop, double or insert bytes at a few places."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[at : at + rng.randint(1, 8)]
            case 2:
                changed[at:at] = changed[at : at + rng.randint(1, 16)]
            case _:
                changed[at:at] = rng.randbytes(rng.randint(1, 3))
    return bytes(changed)


@pytest.mark.parametrize("n", N_MUTANTS)
def test_a_mutated_message_is_never_a_bug(site: Site, n: int) -> None:
    rng = random.Random(n)  # noqa: S311 - not for secrets
    originals = [
        (case.rpc, data)
        for case in CASES
        if case.rpc not in ("WatchStudy", "DeleteStudy")  # A stream; what others stand on.
        and len(data := bytes_of(case.request(site.world))) < 4096
    ]
    for _ in range(n):
        rpc, data = rng.choice(originals)
        sent = mutant(data, rng)
        code, text = outcome_of(site, rpc, sent)
        assert code in EXPECTED, (code, text, rpc, sent)
        assert not LEAKS.search(text), (text, rpc, sent)
