"""Messages -> commands. Whatever is wrong with a request is said here, all at once."""

from collections.abc import Sequence
from dataclasses import replace

from bbopt.errors import InvalidError
from bbopt.rpc.enums import known
from bbopt.rpc.names import ProjectName, StudyName, TrialName, check_id
from bbopt.rpc.points import param_value_from_message
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.times import duration_from_message
from bbopt.rpc.trial import measurement_from_message
from bbopt.rpc.v1 import insight_service_pb2, trial_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as service_pb2
from bbopt.rpc.violations import Violations, within
from bbopt.specs import lease_fault
from bbopt.trial import Measurement, Outcome
from bbopt_server.rpc.outcomes import misread, misread_outcome, outcome_or_misread, read_outcome
from bbopt_server.rpc.texts import checked_labels, checked_line, checked_text
from bbopt_server.studies.asking import MAX_COUNT
from bbopt_server.studies.commands import (
    AmendTrial,
    Ask,
    CreateStudy,
    CreateTrial,
    DeleteStudy,
    Heartbeat,
    Held,
    IfExists,
    ListTrials,
    Misread,
    Release,
    Report,
    StopTrial,
    Tell,
    TellItem,
)
from bbopt_server.studies.idempotency import check_request_id

MAX_BATCH = 1000
"""Items of one tell, report, release or prediction."""
MAX_HELD = 10_000
"""Trials in one heartbeat."""
DEFAULT_PAGE, MAX_PAGE = 100, 1000

_IF_EXISTS = {
    service_pb2.CreateStudyRequest.IF_EXISTS_UNSPECIFIED: IfExists.FAIL,
    service_pb2.CreateStudyRequest.IF_EXISTS_FAIL: IfExists.FAIL,
    service_pb2.CreateStudyRequest.IF_EXISTS_LOAD_IF_SPEC_EQUAL: IfExists.LOAD_IF_SPEC_EQUAL,
    service_pb2.CreateStudyRequest.IF_EXISTS_LOAD: IfExists.LOAD,
}
_ALLOWS_FALLBACK = {
    service_pb2.AskTrialsRequest.DEGRADE_UNSPECIFIED: True,
    service_pb2.AskTrialsRequest.DEGRADE_ALLOW_FALLBACK: True,
    service_pb2.AskTrialsRequest.DEGRADE_NEVER: False,
}


def study_name(text: str, field: str, uid: str = "") -> StudyName:
    """Read the name of a study."""
    with within(field):
        return StudyName.parse(text, uid)


def trial_name(text: str, field: str) -> TrialName:
    """Read the full name of a trial."""
    with within(field):
        return TrialName.parse(text)


def _page_size(given: int) -> int:
    """Read the size of a page; 0 means the default."""
    if not 0 <= given <= MAX_PAGE:
        raise InvalidError.of("", f"must be in [0, {MAX_PAGE}], not {given}")
    return given or DEFAULT_PAGE


def list_studies(request: service_pb2.ListStudiesRequest) -> tuple[str, int]:
    """Read whose studies to list, and how many of them."""
    violations = Violations()
    with violations.within("parent"):
        project = ProjectName.parse(request.parent).project
    with violations.within("page_size"):
        size = _page_size(request.page_size)
    violations.check()
    return project, size


def create_study(request: service_pb2.CreateStudyRequest) -> CreateStudy:
    """Read the definition of a new study."""
    violations = Violations()
    with violations.within("parent"):
        parent = ProjectName.parse(request.parent).project
    with violations.within("study_id"):
        study_id = check_id(request.study_id)
    with violations.within("study.display_name"):
        display_name = checked_text(request.study.display_name)
    with violations.within("study.labels"):
        labels = checked_labels(request.study.labels)
    with violations.within("if_exists"):
        if_exists = known(request.if_exists, _IF_EXISTS)
    if request.study.HasField("spec"):
        with violations.within("study.spec"):
            spec = study_spec_from_message(request.study.spec, is_new=True)
    else:
        violations.add("study.spec", "must be set")
    violations.check()
    return CreateStudy(
        name=StudyName(parent, study_id),
        spec=spec,
        display_name=display_name,
        labels=labels,
        if_exists=if_exists,
        is_trial_run=request.validate_only,
    )


def delete_study(request: service_pb2.DeleteStudyRequest) -> DeleteStudy:
    """Read which study to delete."""
    name = study_name(request.name, "name", request.study_uid)
    return DeleteStudy(name, request.etag)


def ask(request: service_pb2.AskTrialsRequest) -> Ask:
    """Read what is asked for."""
    violations = Violations()
    with violations.within("parent"):
        study = StudyName.parse(request.parent, request.study_uid)
    if not 0 <= request.count <= MAX_COUNT:
        violations.add("count", f"must be in [0, {MAX_COUNT}], not {request.count}")
    with violations.within("worker_id"):
        worker = checked_line(request.worker_id)
    max_wait_s = lease_s = None
    if request.HasField("max_wait"):
        with violations.within("max_wait"):
            max_wait_s = duration_from_message(request.max_wait)
    if request.HasField("lease_duration"):
        with violations.within("lease_duration"):
            lease_s = duration_from_message(request.lease_duration)
            fault = lease_fault(lease_s)
            if fault is not None:
                raise InvalidError.of("", fault)
    with violations.within("degrade"):
        allows_fallback = known(request.degrade, _ALLOWS_FALLBACK)
    violations.check()
    return Ask(
        study=study,
        count=request.count or 1,
        worker=worker,
        lease_duration_s=lease_s,
        max_wait_s=max_wait_s,
        allows_fallback=allows_fallback,
    )


def tell(request: service_pb2.TellTrialsRequest) -> Tell:
    """Read a batch of outcomes; what is wrong with one item stays with the item."""
    violations = Violations()
    with violations.within("parent"):
        study = StudyName.parse(request.parent, request.study_uid)
    _check_size(violations, "tells", len(request.tells))
    violations.check()
    items = tuple(_tell_item(item, study) for item in request.tells)
    return Tell(study, items, request.atomic)


def _tell_item(item: service_pb2.Tell, study: StudyName) -> TellItem:
    try:
        number = TrialName.number_within(item.trial, study)
        outcome = read_outcome(item.outcome)
    except InvalidError:
        return _misread_item(item, study)
    return TellItem(item.trial, number, item.lease_token, outcome)


def _misread_item(item: service_pb2.Tell, study: StudyName) -> TellItem:
    """Find all faults of an item; their paths begin at the item, like those found later."""
    violations = Violations()
    number = 0
    with violations.within("trial"):
        number = TrialName.number_within(item.trial, study)
    with violations.within("outcome"):
        read_outcome(item.outcome)
    outcome = misread_outcome(violations, item.outcome)
    return TellItem(item.trial, number, item.lease_token, outcome)


def tell_and_ask(request: service_pb2.TellAndAskRequest) -> tuple[Tell, Ask]:
    """Read a batch of outcomes and what is asked for next, both of the same study."""
    violations = Violations()
    with violations.within(""):
        check_request_id(request.request_id)
    with violations.within("tell"):
        told = tell(request.tell)
    with violations.within("ask"):
        asked = ask(request.ask)
    violations.check()
    if told.study != asked.study:
        raise InvalidError.of("ask.parent", f"must be {told.study}, as in tell")
    return told, asked


def heartbeat(request: service_pb2.HeartbeatTrialsRequest) -> Heartbeat:
    """Read which trials a worker believes to hold."""
    violations = Violations()
    with violations.within(""):
        study, held = _held(request.parent, request.held, MAX_HELD)
    with violations.within("worker_id"):
        checked_line(request.worker_id)
    violations.check()
    return Heartbeat(study, held)


def release(request: service_pb2.ReleaseTrialsRequest) -> Release:
    """Read which trials a worker hands back."""
    violations = Violations()
    with violations.within(""):
        study, held = _held(request.parent, request.held, MAX_BATCH)
    with violations.within("reason"):
        reason = checked_text(request.reason)
    violations.check()
    return Release(study, held, reason)


def _held(
    parent: str, items: Sequence[service_pb2.HeartbeatTrialsRequest.Held], limit: int
) -> tuple[StudyName, tuple[Held, ...]]:
    with within("parent"):
        study = StudyName.parse(parent)
    violations = Violations()
    if len(items) > limit:
        violations.add("held", f"must have at most {limit} items, not {len(items)}")
    held = []
    for position, item in enumerate(items[:limit]):
        with violations.within(f"held[{position}].trial"):
            number = TrialName.number_within(item.trial, study)
            held.append(Held(item.trial, number, item.lease_token))
    violations.check()
    return study, tuple(held)


def report(request: service_pb2.ReportMeasurementsRequest) -> Report:
    """Read intermediate measurements of a trial."""
    violations = Violations()
    with violations.within("trial"):
        name = TrialName.parse(request.trial)
    _check_size(violations, "measurements", len(request.measurements))
    violations.check()
    measurements = tuple(
        _reported(f"measurements[{position}]", each)
        for position, each in enumerate(request.measurements)
    )
    return Report(name.parent, name.number, request.lease_token, measurements)


def _reported(path: str, message: trial_pb2.Measurement) -> Measurement | Misread:
    violations = Violations()
    with violations.within(path):
        measurement = measurement_from_message(message)
    if not message.HasField("step"):
        violations.add(f"{path}.step", "must be set: it is the key")
    return misread(violations, path, message) if violations else measurement


def create_trial(request: service_pb2.CreateTrialRequest) -> CreateTrial:
    """Read a point, and its outcome if it has one already.

    What is wrong with these is kept, for the study to say together with what it finds itself.
    """
    study = study_name(request.parent, "parent", request.study_uid)
    violations = Violations()
    parameters = {}
    for name in sorted(request.parameters):
        with violations.within(f"parameters[{name}]"):
            parameters[name] = param_value_from_message(request.parameters[name])
    outcome: Outcome | Misread | None = None
    if request.HasField("outcome"):
        outcome = outcome_or_misread(request.outcome)
    labels: dict[str, str] = {}
    with violations.within("labels"):
        labels = checked_labels(request.labels)
    return CreateTrial(study, parameters, outcome, labels, violations.as_tuple())


def list_trials(request: service_pb2.ListTrialsRequest) -> ListTrials:
    """Read which trials to list."""
    violations = Violations()
    with violations.within("parent"):
        study = StudyName.parse(request.parent, request.study_uid)
    with violations.within("page_size"):
        size = _page_size(request.page_size)
    if request.since_revision < 0:
        violations.add("since_revision", "must not be negative")
    states = violations.each("states", _trial_state, request.states)
    violations.check()
    return ListTrials(study, size, request.page_token, states, request.since_revision)


def _trial_state(number: int) -> str:
    name = trial_pb2.Trial.State.DESCRIPTOR.values_by_number.get(number)
    if name is None or number == 0:
        raise InvalidError.of("", f"must be a state of a trial, not {number}")
    return str(name.name.removeprefix("STATE_"))


def amend_trial(request: service_pb2.AmendTrialRequest) -> AmendTrial:
    """Read a corrected outcome."""
    violations = Violations()
    with violations.within("name"):
        name = TrialName.parse(request.name)
    with violations.within("reason"):
        reason = checked_text(request.reason)
    outcome = outcome_or_misread(request.outcome)
    if violations and isinstance(outcome, Misread):
        violations.extend(outcome.faults)
    violations.check()
    study = replace(name.parent, uid=request.study_uid)
    return AmendTrial(study, name.number, outcome, reason)


def stop_trial(request: service_pb2.StopTrialRequest) -> StopTrial:
    """Read which trial to stop."""
    violations = Violations()
    with violations.within("name"):
        name = TrialName.parse(request.name)
    with violations.within("reason"):
        reason = checked_text(request.reason)
    violations.check()
    study = replace(name.parent, uid=request.study_uid)
    return StopTrial(study, name.number, reason)


def predict(
    request: insight_service_pb2.PredictRequest,
) -> tuple[StudyName, tuple[insight_service_pb2.Point, ...]]:
    """Read where to predict."""
    violations = Violations()
    with violations.within("name"):
        study = StudyName.parse(request.name, request.study_uid)
    _check_size(violations, "points", len(request.points))
    violations.check()
    return study, tuple(request.points)


def watch(request: service_pb2.WatchStudyRequest) -> tuple[StudyName, int]:
    """Read which study to watch, and from where on."""
    violations = Violations()
    with violations.within("name"):
        study = StudyName.parse(request.name, request.study_uid)
    if request.since_revision < 0:
        violations.add("since_revision", "must not be negative")
    violations.check()
    return study, request.since_revision


def _check_size(violations: Violations, field: str, n_items: int) -> None:
    if not 1 <= n_items <= MAX_BATCH:
        violations.add(field, f"must have 1 to {MAX_BATCH} items, not {n_items}")
