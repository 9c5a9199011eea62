"""What happened: trials, outcomes, the append-only log and its columns."""

from bbopt.trial.columns import Columns, OutcomeCode
from bbopt.trial.events import (
    Amended,
    Asked,
    Enqueued,
    Event,
    Leased,
    NewTrial,
    Reported,
    Requeued,
    StopRequested,
    Told,
)
from bbopt.trial.log import Log, state_of
from bbopt.trial.state import StrategyState
from bbopt.trial.trial import (
    Abandoned,
    Completed,
    Failed,
    Infeasible,
    Measurement,
    Outcome,
    Predicted,
    Provenance,
    Stopped,
    Suggestion,
    Trial,
    TrialState,
    Value,
)

__all__ = [
    "Abandoned",
    "Amended",
    "Asked",
    "Columns",
    "Completed",
    "Enqueued",
    "Event",
    "Failed",
    "Infeasible",
    "Leased",
    "Log",
    "Measurement",
    "NewTrial",
    "Outcome",
    "OutcomeCode",
    "Predicted",
    "Provenance",
    "Reported",
    "Requeued",
    "StopRequested",
    "Stopped",
    "StrategyState",
    "Suggestion",
    "Told",
    "Trial",
    "TrialState",
    "Value",
    "state_of",
]
