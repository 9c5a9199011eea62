"""Rows and answers -> messages."""

from collections.abc import Mapping, Sequence

from google.protobuf.empty_pb2 import Empty

import bbopt
from bbopt.rpc.errors import error_to_item_status
from bbopt.rpc.splice import bytes_field
from bbopt.rpc.times import write_duration, write_timestamp
from bbopt.rpc.v1 import insight_service_pb2, log_pb2, study_pb2, trial_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as service_pb2
from bbopt.specs import CAPABILITIES, NAMES
from bbopt_server.storage.store import TrialRow
from bbopt_server.studies.answers import (
    Action,
    AskAnswer,
    AskReason,
    Best,
    Change,
    Directive,
    ItemResult,
    ReportAnswer,
    StudyPage,
    StudyView,
    TellAnswer,
    TrialPage,
    TrialView,
)
from bbopt_server.studies.ledger import HELD

_TRIAL_STATES: Mapping[str, "trial_pb2.Trial.State.ValueType"] = {
    name.removeprefix("STATE_"): number for name, number in trial_pb2.Trial.State.items()
}
_STUDY_STATES: Mapping[str, "study_pb2.Study.State.ValueType"] = {
    name.removeprefix("STATE_"): number for name, number in study_pb2.Study.State.items()
}
_REASONS = {
    reason: service_pb2.AskTrialsResponse.Reason.Value(f"REASON_{reason.name}")
    for reason in AskReason
}
_TRIALS = service_pb2.AskTrialsResponse.TRIALS_FIELD_NUMBER
_BOTH = service_pb2.TellAndAskResponse
_ACTIONS = {
    action: service_pb2.HeartbeatTrialsResponse.Directive.Action.Value(f"ACTION_{action.name}")
    for action in Action
}


def study(view: StudyView) -> study_pb2.Study:
    """Write a study."""
    row, counts = view.row, view.counts
    message = study_pb2.Study.FromString(row.labels)
    message.name = f"projects/{row.project}/studies/{row.study_id}"
    message.uid = row.uid
    message.display_name = row.display_name
    message.spec.ParseFromString(row.spec)
    message.state = _STUDY_STATES[row.state]
    if row.state_reason:
        message.state_reason.ParseFromString(row.state_reason)
    message.etag = row.etag
    message.revision = row.revision
    write_timestamp(message.create_time, row.created_at)
    write_timestamp(message.update_time, row.updated_at)
    if view.set_aside_until is not None:
        write_timestamp(message.set_aside_until, view.set_aside_until)
    stats = message.stats
    stats.queued = counts.get("QUEUED", 0)
    stats.active = sum(counts.get(state, 0) for state in HELD)
    stats.completed = counts.get("COMPLETED", 0)
    stats.infeasible = counts.get("INFEASIBLE", 0)
    stats.failed = counts.get("FAILED", 0)
    stats.stopped = counts.get("STOPPED", 0)
    stats.abandoned = counts.get("ABANDONED", 0)
    stats.cost_spent = row.cost_spent
    return message


def trial(view: TrialView) -> trial_pb2.Trial:
    """Write a trial."""
    message = _without_point(view)
    point = log_pb2.NewTrial.FromString(view.row.point)
    message.parameters.MergeFrom(point.parameters)
    message.provenance.CopyFrom(point.provenance)
    if point.HasField("stage"):
        message.stage.CopyFrom(point.stage)
    return message


def _trial_bytes(view: TrialView) -> bytes:
    """Serialise a trial, in a third of the time: its point is copied without being read."""
    point = log_pb2.NewTrialParts.FromString(view.row.point)
    parts = log_pb2.TrialParts(parameters=point.parameters, provenance=point.provenance)
    if point.HasField("stage"):
        parts.stage = point.stage
    return _without_point(view).SerializeToString() + parts.SerializeToString()


def _without_point(view: TrialView) -> trial_pb2.Trial:
    row = view.row
    message = trial_pb2.Trial.FromString(row.labels)
    message.name = f"{view.study}/trials/{row.number}"
    message.number = row.number
    message.state = _TRIAL_STATES[row.state]
    message.state_message = row.state_message
    if row.outcome is not None:
        _write_final_measurement(message, trial_pb2.Outcome.FromString(row.outcome))
    if row.state in HELD:
        _write_lease(message.lease, view)
    message.worker_id = row.worker
    message.attempt = row.attempt
    message.revision = row.revision
    message.amendments = row.amendments
    message.late = row.late
    if row.feasible is not None:
        message.feasible = row.feasible
    _write_times(message, row)
    for payload in view.measurements:
        message.measurements.add().ParseFromString(payload)
    return message


def _write_times(message: trial_pb2.Trial, row: TrialRow) -> None:
    write_timestamp(message.create_time, row.created_at)
    if row.started_at is not None:
        write_timestamp(message.start_time, row.started_at)
    if row.ended_at is not None:
        write_timestamp(message.end_time, row.ended_at)


def _write_final_measurement(message: trial_pb2.Trial, outcome: trial_pb2.Outcome) -> None:
    match outcome.WhichOneof("kind"):
        case "completed":
            message.final_measurement.CopyFrom(outcome.completed)
        case "stopped":
            message.final_measurement.CopyFrom(outcome.stopped)
        case "infeasible" if outcome.infeasible.HasField("partial"):
            message.final_measurement.CopyFrom(outcome.infeasible.partial)
        case "failed" if outcome.failed.HasField("partial"):
            message.final_measurement.CopyFrom(outcome.failed.partial)
        case _:
            pass


def _write_lease(message: trial_pb2.Lease, view: TrialView) -> None:
    message.worker_id = view.row.worker
    write_duration(message.duration, view.row.lease_duration_s)
    if view.is_for_holder:
        message.token = view.row.lease_token
    if view.lease_expires_at is not None:
        write_timestamp(message.expire_time, view.lease_expires_at)


def nothing(_: None) -> Empty:
    """Write that there is nothing to say."""
    return Empty()


def studies(page: StudyPage) -> service_pb2.ListStudiesResponse:
    """Write a page of studies."""
    return service_pb2.ListStudiesResponse(
        studies=map(study, page.studies), next_page_token=page.next_page_token
    )


def trials(page: TrialPage) -> service_pb2.ListTrialsResponse:
    """Write a page of trials."""
    return service_pb2.ListTrialsResponse(
        trials=map(trial, page.trials),
        next_page_token=page.next_page_token,
        revision=page.revision,
    )


def asked(answer: AskAnswer) -> bytes:
    """Serialise the answer to an ask."""
    message = service_pb2.AskTrialsResponse(
        reason=_REASONS[answer.reason],
        study_state=_STUDY_STATES[answer.study_state],
    )
    if answer.retry_after_s is not None:
        write_duration(message.retry_after, answer.retry_after_s)
    trials = [bytes_field(_TRIALS, _trial_bytes(each)) for each in answer.trials]
    return b"".join((*trials, message.SerializeToString()))


def told(answer: TellAnswer) -> service_pb2.TellTrialsResponse:
    """Write what became of a batch of outcomes."""
    message = service_pb2.TellTrialsResponse(
        revision=answer.revision, study_state=_STUDY_STATES[answer.study_state]
    )
    for each in answer.results:
        _write_item(message.results.add(), each)
    return message


def told_and_asked(told: bytes, asked: bytes) -> bytes:
    """Put the serialised answers to a tell and to the ask after it together."""
    tell, ask = _BOTH.TELL_FIELD_NUMBER, _BOTH.ASK_FIELD_NUMBER
    return bytes_field(tell, told) + bytes_field(ask, asked)


def released(results: tuple[ItemResult, ...]) -> service_pb2.ReleaseTrialsResponse:
    """Write what became of trials that were handed back."""
    message = service_pb2.ReleaseTrialsResponse()
    for each in results:
        _write_item(message.results.add(), each)
    return message


def _write_item(message: service_pb2.TellResult, result: ItemResult) -> None:
    message.trial = result.trial
    message.state = _TRIAL_STATES[result.state or "UNSPECIFIED"]
    message.was_duplicate = result.was_duplicate
    message.was_late = result.was_late
    message.status.SetInParent()
    if result.error is not None:
        message.status.CopyFrom(error_to_item_status(result.error))


def directives(orders: Sequence[Directive]) -> service_pb2.HeartbeatTrialsResponse:
    """Write the orders for a worker."""
    message = service_pb2.HeartbeatTrialsResponse()
    for order in orders:
        item = message.directives.add(
            trial=order.trial, action=_ACTIONS[order.action], reason=order.reason
        )
        if order.lease_expires_at is not None:
            write_timestamp(item.lease_expire_time, order.lease_expires_at)
    return message


def reported(answer: ReportAnswer) -> service_pb2.ReportMeasurementsResponse:
    """Write what a worker learns from reporting."""
    message = service_pb2.ReportMeasurementsResponse(
        should_stop=answer.should_stop, reason=answer.reason
    )
    if answer.lease_expires_at is not None:
        write_timestamp(message.lease_expire_time, answer.lease_expires_at)
    return message


def change(changed: Change) -> service_pb2.StudyEvent:
    """Write one event of a log with what it changed."""
    kind = "study" if changed.event.kind == "study_changed" else changed.event.kind
    message = service_pb2.StudyEvent(revision=changed.event.revision, kind=kind)
    write_timestamp(message.time, changed.event.at)
    if changed.trial is not None:
        message.trial.CopyFrom(trial(changed.trial))
    if changed.study is not None:
        message.study.CopyFrom(study(changed.study))
    if changed.measurement is not None:
        message.measurement.ParseFromString(changed.measurement)
    return message


def best(found: Best) -> insight_service_pb2.GetBestResponse:
    """Write the trial to deploy."""
    message = insight_service_pb2.GetBestResponse(
        feasible=found.is_feasible, reason=found.reason
    )
    if found.trial is not None:
        message.trial.CopyFrom(trial(found.trial))
    return message


def server_info(
    *, device: str, limits: Mapping[str, int], suggest_ready: bool
) -> service_pb2.ServerInfo:
    """Write what this server is and can do."""
    strategies = []
    for name, kind in NAMES.items():
        capabilities = CAPABILITIES[kind]
        supports = [
            feature
            for feature in (
                "metric_constraints",
                "parameter_constraints",
                "conditions",
                "noise",
            )
            if getattr(capabilities, f"supports_{feature}")
        ]
        if capabilities.max_choices is None:
            supports.append("categories")
        strategies.append(
            service_pb2.ServerInfo.StrategyInfo(
                id=name, supports=supports, max_dimensions=capabilities.max_dimensions
            )
        )
    return service_pb2.ServerInfo(
        version=bbopt.__version__,
        api_versions=["bbopt.rpc.v1"],
        strategies=strategies,
        device=device,
        limits=dict(limits),
        suggest_ready=suggest_ready,
    )
