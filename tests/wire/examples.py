"""One representative message of each kind, with every field that matters set."""

from dataclasses import replace

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from bbopt.errors import InvalidError, UnavailableError, Violation
from bbopt.problem import Budget, Fidelity, Goal, Metric, MetricKind, Noise, Problem
from bbopt.rpc import errors, log, study, trial
from bbopt.rpc.names import StudyName
from bbopt.rpc.v1 import insight_service_pb2 as insight_pb2
from bbopt.rpc.v1 import log_pb2, study_pb2, trial_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as service_pb2
from bbopt.space import (
    AllOf,
    Between,
    Bool,
    Categorical,
    Equals,
    Exclude,
    Fixed,
    Float,
    Int,
    Linear,
    Ordinal,
    Scale,
    Simplex,
    Space,
)
from bbopt.specs import (
    AshaSpec,
    AutoSpec,
    CmaEsSpec,
    GPSpec,
    LeasePolicy,
    Promotion,
    Quality,
    RandomSpec,
    SobolSpec,
    StudySpec,
)
from bbopt.trial import (
    Abandoned,
    Amended,
    Asked,
    Completed,
    Enqueued,
    Event,
    Failed,
    Infeasible,
    Leased,
    Measurement,
    NewTrial,
    Outcome,
    Predicted,
    Provenance,
    Reported,
    Requeued,
    Stage,
    Stopped,
    StopRequested,
    StrategyState,
    Told,
    Trial,
    TrialState,
    Value,
)

SPACE = Space(
    (
        Float("rate", 1e-4, 1.0, scale=Scale.LOG, default=0.1),
        Float("angle", 0.0, 360.0, periodic=True),
        Float("dropout", 0.0, 0.5, step=0.125),
        Float("share", 0.01, 0.99, scale=Scale.LOGIT),
        Float("momentum", 0.5, 0.999, scale=Scale.REVERSE_LOG),
        Int("layers", 1, 9, step=2),
        Ordinal("batch", (16.0, 32.0, 64.0)),
        Categorical("family", ("forest", "network")),
        Bool("scaled"),
        Int(
            "width",
            8,
            512,
            active_if=AllOf((Equals("family", ("network",)), Between("layers", 3.0, 9.0))),
        ),
        Float("a", 0.0, 1.0),
        Float("b", 0.0, 1.0),
        Fixed("folds", 5),
    ),
    (
        Linear({"rate": 1.0, "dropout": -2.0}, lower=-3.0, upper=3.0),
        Simplex(("a", "b"), 1.0),
        Exclude((Equals("scaled", (True,)), Equals("batch", (16.0,)))),
    ),
)
METRICS = (
    Metric("accuracy", goal=Goal.MAXIMIZE, noise=Noise.REPORTED),
    Metric("size", MetricKind.CONSTRAINT, lower=0.0, upper=1e6, noise=Noise.NONE),
    Metric("seconds", MetricKind.COST),
    Metric("epochs", MetricKind.TRACKED),
)
TINY = Problem(Space((Float("x", 0.0, 1.0),)), (Metric("y", goal=Goal.MINIMIZE),))
SPECS = {
    "full": StudySpec(
        Problem(SPACE, METRICS, Budget(trials=40, cost=3600.0)),
        GPSpec(n_initial=8, quality=Quality.THOROUGH),
        seed=2**64 - 1,
        lease=LeasePolicy(duration_s=90.5, max_attempts=2),
    ),
    "auto": StudySpec(TINY, AutoSpec(Quality.FAST)),
    "random": StudySpec(TINY, RandomSpec()),
    "sobol": StudySpec(TINY, SobolSpec()),
    "cma_es": StudySpec(TINY, CmaEsSpec(sigma0=0.1, population=20, quorum=0.8)),
    "cma_es_default": StudySpec(TINY, CmaEsSpec()),
    "asha": StudySpec(
        replace(TINY, fidelity=Fidelity("epochs", 1, 100, eta=4)), AshaSpec(Promotion.CONTINUE)
    ),
}

MEASUREMENT = Measurement(
    {"accuracy": Value(0.97, sd=0.01, replicates=5)}, step=12, elapsed_s=1.5
)
OUTCOMES: dict[str, Outcome] = {
    "completed": Completed(MEASUREMENT),
    "stopped": Stopped(MEASUREMENT),
    "infeasible": Infeasible("diverged", MEASUREMENT),
    "failed": Failed("out of memory", retryable=False, measurement=MEASUREMENT),
    "abandoned": Abandoned("not needed"),
}
PROVENANCE = Provenance(
    "gp",
    data_revision=17,
    degraded_from="auto",
    reason="deadline",
    acquisition_value=-1.25,
    predicted={"accuracy": Predicted(0.9, 0.05)},
)
NEW_TRIAL = NewTrial(
    3, {"rate": 0.25, "layers": 3, "family": "forest", "scaled": False}, PROVENANCE
)
STATE = StrategyState(
    "gp",
    2,
    {"n": 5, "noise": 1e-6, "name": "matern"},
    {"scales": np.array([[0.5, 2.0]]), "rows": np.array([1, -2], dtype=np.int64)},
)
EVENTS: dict[str, Event] = {
    "enqueued": Enqueued(NEW_TRIAL),
    "leased": Leased(3, "worker-1", 2),
    "requeued": Requeued(3, "lease expired", 2),
    "reported": Reported(3, MEASUREMENT),
    "stop_requested": StopRequested(3, "median rule"),
    "told": Told(3, OUTCOMES["completed"], late=True),
    "amended": Amended(3, OUTCOMES["infeasible"], "wrong unit"),
    "promoted": Enqueued(replace(NEW_TRIAL, stage=Stage(9, resume_from=2, configuration=1))),
}
ASKED = Asked((NEW_TRIAL,), STATE)
TRIAL = Trial(
    3, NEW_TRIAL.parameters, TrialState.COMPLETED, PROVENANCE, OUTCOMES["completed"], attempt=2
)


def converted() -> dict[str, Message]:
    """Messages that converters write."""
    messages: dict[str, Message] = {"asked": log.event_to_message(ASKED)}
    for name, spec in SPECS.items():
        messages[f"spec_{name}"] = study.study_spec_to_message(spec)
    for name, outcome in OUTCOMES.items():
        messages[f"outcome_{name}"] = trial.outcome_to_message(outcome)
    for name, event in EVENTS.items():
        messages[f"event_{name}"] = log.event_to_message(event)
    messages["trial"] = trial.trial_to_message(TRIAL, StudyName("default", "digits"))
    invalid = InvalidError([Violation("parameters[rate]", "is missing")])
    messages["status_invalid"] = errors.error_to_status(invalid)
    busy = UnavailableError("draining", retry_after_s=2.0)
    messages["status_unavailable"] = errors.error_to_status(busy)
    messages["item_status"] = errors.error_to_item_status(invalid)
    return messages


def written_by_hand() -> dict[str, Message]:
    """Messages that the two ends of the wire fill in themselves."""
    study_name = "projects/default/studies/digits"
    tell = service_pb2.TellTrialsRequest(
        parent=study_name,
        tells=[
            service_pb2.Tell(
                trial="3",
                lease_token="token",  # noqa: S106 - an example.
                outcome=trial.outcome_to_message(OUTCOMES["completed"]),
            )
        ],
        request_id="request-2",
        atomic=True,
    )
    ask = service_pb2.AskTrialsRequest(
        parent=study_name,
        count=2,
        worker_id="worker-1",
        request_id="request-1",
        max_wait=Duration(seconds=30),
        degrade=service_pb2.AskTrialsRequest.DEGRADE_NEVER,
        lease_duration=Duration(seconds=90),
    )
    held = service_pb2.HeartbeatTrialsRequest.Held(
        trial="3",
        lease_token="token",  # noqa: S106 - an example.
    )
    lease = trial_pb2.Lease(
        worker_id="worker-1",
        token="token",  # noqa: S106 - an example.
        expire_time=Timestamp(seconds=1_700_000_000, nanos=5),
        duration=Duration(seconds=90),
    )
    held_trial = trial_pb2.Trial(
        name=f"{study_name}/trials/3",
        number=3,
        state=trial_pb2.Trial.STATE_STOPPING,
        state_message="asked to stop",
        measurements=[trial.measurement_to_message(MEASUREMENT)],
        lease=lease,
        attempt=1,
        revision=9,
        amendments=1,
        create_time=Timestamp(seconds=1),
        start_time=Timestamp(seconds=2),
        end_time=Timestamp(seconds=3),
        labels={"host": "n1"},
        late=True,
        feasible=False,
    )
    whole_study = study_pb2.Study(
        name=study_name,
        uid="uid",
        display_name="Digits",
        spec=study.study_spec_to_message(SPECS["auto"]),
        state=study_pb2.Study.STATE_COMPLETED,
        state_reason=study_pb2.StateReason(
            code=study_pb2.StateReason.CODE_TRIAL_BUDGET, message="40 trials"
        ),
        etag="etag",
        revision=81,
        create_time=Timestamp(seconds=1),
        update_time=Timestamp(seconds=2),
        labels={"team": "vision"},
        stats=study_pb2.StudyStats(
            queued=1,
            active=2,
            completed=3,
            infeasible=4,
            failed=5,
            stopped=6,
            cost_spent=7.5,
            abandoned=8,
        ),
    )
    return {
        "create_study": service_pb2.CreateStudyRequest(
            parent="projects/default",
            study_id="digits",
            study=whole_study,
            request_id="request-0",
            validate_only=True,
            if_exists=service_pb2.CreateStudyRequest.IF_EXISTS_LOAD,
        ),
        "ask": ask,
        "ask_response": service_pb2.AskTrialsResponse(
            trials=[held_trial],
            reason=service_pb2.AskTrialsResponse.REASON_COUNT_MET,
            study_state=study_pb2.Study.STATE_ACTIVE,
            retry_after=Duration(seconds=1),
        ),
        "tell": tell,
        "tell_response": service_pb2.TellTrialsResponse(
            results=[
                service_pb2.TellResult(
                    trial=f"{study_name}/trials/3",
                    state=trial_pb2.Trial.STATE_COMPLETED,
                    was_duplicate=True,
                    was_late=True,
                )
            ],
            revision=10,
            study_state=study_pb2.Study.STATE_ACTIVE,
        ),
        "tell_and_ask": service_pb2.TellAndAskRequest(tell=tell, ask=ask, request_id="r"),
        "heartbeat": service_pb2.HeartbeatTrialsRequest(
            parent=study_name, worker_id="worker-1", held=[held]
        ),
        "heartbeat_response": service_pb2.HeartbeatTrialsResponse(
            directives=[
                service_pb2.HeartbeatTrialsResponse.Directive(
                    trial="3",
                    action=service_pb2.HeartbeatTrialsResponse.Directive.ACTION_LEASE_LOST,
                    reason="expired",
                    lease_expire_time=Timestamp(seconds=4),
                )
            ]
        ),
        "release": service_pb2.ReleaseTrialsRequest(
            parent=study_name, held=[held], reason="SIGTERM", request_id="request-3"
        ),
        "report": service_pb2.ReportMeasurementsRequest(
            trial="3",
            lease_token="token",  # noqa: S106 - an example.
            measurements=[trial.measurement_to_message(MEASUREMENT)],
            request_id="request-4",
        ),
        "study_event": service_pb2.StudyEvent(
            revision=4,
            time=Timestamp(seconds=5),
            kind="told",
            trial=held_trial,
            measurement=trial.measurement_to_message(MEASUREMENT),
        ),
        "study_changed": log_pb2.LogEvent(
            study_changed=log_pb2.LogEvent.StudyChanged(
                state=study_pb2.Study.STATE_PAUSED,
                reason=study_pb2.StateReason(code=study_pb2.StateReason.CODE_USER),
            )
        ),
        "prediction": insight_pb2.PredictResponse(
            rows=[
                insight_pb2.PredictResponse.Row(
                    metrics={"accuracy": trial.interval_to_message(Predicted(0.9, 0.05))},
                    probability_feasible=0.5,
                )
            ],
            data_revision=6,
        ),
        "best": insight_pb2.GetBestResponse(trial=held_trial, feasible=True, reason="measured"),
    }
