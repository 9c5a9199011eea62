"""How the bad requests of the table are put together: a good one, spoiled in one place."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from grpc import StatusCode

from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2, trial_pb2
from tests.e2e.served import PARENT, new_id
from tests.unit.server.service import double, measured

NAN, INF = math.nan, math.inf
INVALID, NOT_FOUND = StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND
EXISTS, ABORTED = StatusCode.ALREADY_EXISTS, StatusCode.ABORTED
PRECONDITION, EXHAUSTED = StatusCode.FAILED_PRECONDITION, StatusCode.RESOURCE_EXHAUSTED


@dataclass(frozen=True, slots=True)
class World:
    """What is on the server before the first case, and after every one."""

    study: str
    """Every kind of parameter and metric, one trial active and one completed."""
    active: trial_pb2.Trial
    done: trial_pb2.Trial
    other: str
    """A study with nothing in it."""
    finished: str
    """A study whose budget is spent."""
    page_token: str
    """Of a listing of the first study's trials, a page of one."""


@dataclass(frozen=True, slots=True)
class Case:
    """One bad request."""

    name: str
    rpc: str
    request: Callable[[World], Message | bytes]
    fields: tuple[str, ...] = ()
    """Exactly the fields blamed, in any order."""
    says: str = "must"
    """A pattern in the message: what would be right."""
    code: StatusCode = INVALID
    reason: str = ""
    """``ErrorInfo.reason``; empty: what follows from the code and the fields."""

    @property
    def expected_reason(self) -> str:
        """The reason that an error of this kind has."""
        if self.reason or self.code is not INVALID:
            return self.reason or self.code.name
        is_spec = all(field.startswith("study.spec.") for field in self.fields)
        return "BAD_SPEC" if is_spec else "INVALID"


# Building blocks ---------------------------------------------------------------------------


def value(given: object) -> study_pb2.ParamValue:
    """Write a value as the type that it has; ``None`` is a value without one."""
    match given:
        case None:
            return study_pb2.ParamValue()
        case bool():
            return study_pb2.ParamValue(bool_value=given)
        case int():
            return study_pb2.ParamValue(int_value=given)
        case float():
            return study_pb2.ParamValue(double_value=given)
        case _:
            return study_pb2.ParamValue(string_value=str(given))


POINT: Mapping[str, object] = {
    "x": 0.5,
    "y": 0.5,
    "rate": 0.01,
    "n": 3,
    "kind": "adam",
    "flag": True,
}
RESULT = {"loss": 1.0, "mass": 0.5, "cost": 1.0}


def full_spec() -> study_pb2.StudySpec:
    """Every kind of parameter and of metric, a condition and a constraint."""
    spec = study_pb2.StudySpec(parameters=[double("x"), double("y"), double("rate", 1e-5, 0.1)])
    spec.parameters[2].double_domain.scale = study_pb2.SCALE_LOG
    spec.parameters.add(id="n", integer_domain=study_pb2.IntegerDomain(min=1, max=9))
    kinds = study_pb2.CategoricalDomain(values=["adam", "sgd"])
    spec.parameters.add(id="kind", categorical_domain=kinds)
    spec.parameters.add(id="flag", bool_domain=study_pb2.BoolDomain())
    momentum = spec.parameters.add()
    momentum.CopyFrom(double("momentum"))
    momentum.active_if.equals.parent = "kind"
    momentum.active_if.equals.values.add(string_value="sgd")
    linear = spec.parameter_constraints.add().linear
    linear.coefficients.update({"x": 1.0, "y": 1.0})
    linear.upper = 1.5
    spec.metrics.add(
        id="loss", kind=study_pb2.Metric.KIND_OBJECTIVE, goal=study_pb2.Metric.GOAL_MINIMIZE
    )
    spec.metrics.add(id="mass", kind=study_pb2.Metric.KIND_CONSTRAINT, upper=1.0)
    spec.metrics.add(id="cost", kind=study_pb2.Metric.KIND_COST)
    spec.metrics.add(id="note", kind=study_pb2.Metric.KIND_TRACKED)
    spec.lease.duration.SetInParent()  # Never expires, so a listing never changes by itself.
    spec.strategy.random.SetInParent()
    return spec


def plain_spec() -> study_pb2.StudySpec:
    """One parameter and one objective: what a case then spoils."""
    spec = study_pb2.StudySpec(parameters=[double("x")])
    spec.metrics.add(
        id="loss", kind=study_pb2.Metric.KIND_OBJECTIVE, goal=study_pb2.Metric.GOAL_MINIMIZE
    )
    return spec


def creating(
    spoil: Callable[[study_pb2.StudySpec], object] = lambda _: None,
    *,
    study_id: str = "bad",
    **more: Any,  # noqa: ANN401 - fields of a request
) -> Callable[[World], Message]:
    """Create a study whose definition was spoiled."""
    spec = plain_spec()
    spoil(spec)

    def request(_: World) -> Message:
        built = pb.CreateStudyRequest(parent=PARENT, study_id=study_id, request_id=new_id())
        built.study.spec.CopyFrom(spec)
        for name, given in more.items():
            match given:
                case Message():
                    getattr(built, name).MergeFrom(given)
                case _:
                    setattr(built, name, given)
        return built

    return request


def enqueue(**changes: object) -> Callable[[World], Message]:
    """Create a trial at the point with some values replaced; ``...`` leaves one out."""
    point = {**POINT, **changes}
    parameters = {name: value(each) for name, each in point.items() if each is not ...}
    return lambda w: pb.CreateTrialRequest(
        parent=w.study, parameters=parameters, request_id=new_id()
    )


def outcome(without: str = "", **changes: float) -> trial_pb2.Outcome:
    """Complete a trial, with some numbers replaced and perhaps one left out."""
    numbers = {name: each for name, each in {**RESULT, **changes}.items() if name != without}
    return trial_pb2.Outcome(completed=measured(**numbers))


def telling(told: trial_pb2.Outcome, trial: str = "") -> Callable[[World], Message]:
    """Tell one outcome, of the active trial unless another is named."""
    return lambda w: pb.TellTrialsRequest(
        parent=w.study,
        tells=[pb.Tell(trial=trial or w.active.name, outcome=told)],
        request_id=new_id(),
    )


def spread(number: float, **fields: Any) -> trial_pb2.Outcome:  # noqa: ANN401
    """Complete a trial with a loss that has more to it than its value."""
    told = outcome()
    told.completed.metrics["loss"].CopyFrom(trial_pb2.Value(value=number, **fields))
    return told


def reporting(*measurements: trial_pb2.Measurement) -> Callable[[World], Message]:
    """Report on the active trial."""
    return lambda w: pb.ReportMeasurementsRequest(
        trial=w.active.name,
        lease_token=w.active.lease.token,
        measurements=measurements,
        request_id=new_id(),
    )


def step(number: int | None, **metrics: float) -> trial_pb2.Measurement:
    """Measure something on the way."""
    built = measured(**(metrics or {"loss": 1.0}))
    if number is not None:
        built.step = number
    return built


def asking(**fields: Any) -> Callable[[World], Message]:  # noqa: ANN401 - fields of a request
    """Ask the first study."""
    return lambda w: pb.AskTrialsRequest(
        **{"parent": w.study, "request_id": new_id(), "count": 1, **fields}
    )


def domain(**fields: Any) -> Callable[[study_pb2.StudySpec], None]:  # noqa: ANN401
    """Replace the range of ``x``."""

    def spoil(spec: study_pb2.StudySpec) -> None:
        spec.parameters[0].double_domain.CopyFrom(
            study_pb2.DoubleDomain(**{"min": 0.0, "max": 1.0, **fields})
        )

    return spoil


def categories(*values: str) -> Callable[[study_pb2.StudySpec], object]:
    """Add a categorical parameter."""
    kinds = study_pb2.CategoricalDomain(values=values)
    return lambda spec: spec.parameters.add(id="kind", categorical_domain=kinds)


def of(part: str, **fields: Any) -> Callable[[study_pb2.StudySpec], None]:  # noqa: ANN401
    """Set fields of a part of a definition: ``"metrics.0"``, ``"lease"``."""

    def spoil(spec: study_pb2.StudySpec) -> None:
        node: Any = spec
        for name in part.split("."):
            node = node[int(name)] if name.isdigit() else getattr(node, name)
        node.MergeFrom(type(node)(**fields))

    return spoil


def circle(spec: study_pb2.StudySpec) -> None:
    """Let two parameters hang on each other."""
    for name, parent in (("a", "b"), ("b", "a")):
        parameter = spec.parameters.add()
        parameter.CopyFrom(double(name))
        parameter.active_if.between.MergeFrom(
            study_pb2.Condition.Between(parent=parent, low=0.0, high=1.0)
        )


def deep(levels: int) -> Callable[[study_pb2.StudySpec], None]:
    """Give a parameter a condition of many levels."""

    def spoil(spec: study_pb2.StudySpec) -> None:
        parameter = spec.parameters.add()
        parameter.CopyFrom(double("z"))
        node = parameter.active_if
        for _ in range(levels):
            node = node.all_of.conditions.add()
        node.between.MergeFrom(study_pb2.Condition.Between(parent="x", low=0.0, high=1.0))

    return spoil


def linear(
    lower: float | None = None, **coefficients: float
) -> Callable[[study_pb2.StudySpec], None]:
    """Add a constraint on ``y`` and whatever else."""

    def spoil(spec: study_pb2.StudySpec) -> None:
        spec.parameters.add().CopyFrom(double("y"))
        added = spec.parameter_constraints.add().linear
        added.coefficients.update({"y": 1.0, **coefficients})
        added.upper = 1.0
        if lower is not None:
            added.lower = lower

    return spoil


def both(
    *spoils: Callable[[study_pb2.StudySpec], object],
) -> Callable[[study_pb2.StudySpec], None]:
    """Spoil a definition in several ways."""

    def spoil(spec: study_pb2.StudySpec) -> None:
        for each in spoils:
            each(spec)

    return spoil


def spliced(
    request: Callable[[World], Message], old: bytes, new: bytes
) -> Callable[[World], bytes]:
    """Change bytes of a request on their way, keeping its length."""
    assert len(old) == len(new)

    def build(world: World) -> bytes:
        data = request(world).SerializeToString()
        assert old in data
        return data.replace(old, new)

    return build


def sending(request: Message) -> Callable[[World], Message]:
    """Send this."""
    return lambda _: request


def trial_called(text: str) -> Callable[[World], Message]:
    """Get a trial under a name."""
    return lambda w: pb.GetTrialRequest(name=f"{w.study}/trials/{text}")


def listing(study: str, *states: int, **fields: Any) -> pb.ListTrialsRequest:  # noqa: ANN401
    """List trials in states that may not be known."""
    request = pb.ListTrialsRequest(parent=study, **fields)
    request.states.extend(states)  # type: ignore[arg-type]  # The wire takes any number.
    return request


def renamed(field: str, text: str) -> Callable[[study_pb2.StudySpec], None]:
    """Give the first parameter or metric another name."""

    def spoil(spec: study_pb2.StudySpec) -> None:
        getattr(spec, field)[0].id = text

    return spoil


def nested_conditions(levels: int) -> bytes:
    """Write a condition of more levels than Python can build, innermost first."""
    inner = b""
    for _ in range(levels):
        for tag in (0x0A, 0x1A):  # AllOf.conditions, Condition.all_of.
            inner = bytes([tag]) + varint(len(inner)) + inner
    for tag in (0x62, 0x0A, 0x22, 0x1A):  # active_if, parameters, spec, study.
        inner = bytes([tag]) + varint(len(inner)) + inner
    return inner


def varint(number: int) -> bytes:
    """Write a length as protobuf does."""
    encoded = b""
    while number >= 0x80:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])
