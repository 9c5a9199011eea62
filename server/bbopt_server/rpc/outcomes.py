"""Outcomes as they are told, and what can be kept of those that are wrong.

A request with a wrong outcome is refused, but the study is asked first: it says what else is
wrong with the numbers that could be read.
"""

from dataclasses import replace
from typing import assert_never

from bbopt.rpc.trial import outcome_from_message
from bbopt.rpc.v1 import trial_pb2
from bbopt.rpc.violations import Violations
from bbopt.trial import Abandoned, Completed, Failed, Infeasible, Outcome, Stopped, Value
from bbopt_server.rpc.texts import tidied
from bbopt_server.studies.commands import Misread


def read_outcome(message: trial_pb2.Outcome) -> Outcome:
    """Read an outcome, its text tidied."""
    outcome = outcome_from_message(message)
    match outcome:
        case Completed() | Stopped():
            return outcome
        case Infeasible(text) | Failed(text) | Abandoned(text):
            return replace(outcome, message=tidied(text))
        case _:
            assert_never(outcome)


def outcome_or_misread(message: trial_pb2.Outcome) -> Outcome | Misread:
    """Read an outcome; keep what is wrong with it rather than raise it."""
    violations = Violations()
    outcome: Outcome | Misread
    with violations.within("outcome"):
        outcome = read_outcome(message)
    return misread_outcome(violations, message) if violations else outcome


def misread_outcome(violations: Violations, message: trial_pb2.Outcome) -> Misread:
    """Keep what is wrong with an outcome, and whatever numbers came with it."""
    match message.WhichOneof("kind"):
        case "completed":
            path = "outcome.completed"
            return misread(violations, path, message.completed, is_partial=False)
        case "stopped":
            return misread(violations, "outcome.stopped", message.stopped)
        case "infeasible":
            path = "outcome.infeasible.partial"
            return misread(violations, path, message.infeasible.partial)
        case "failed":
            path = "outcome.failed.partial"
            return misread(violations, path, message.failed.partial)
        case _:
            return Misread(violations.as_tuple())


def misread(
    violations: Violations,
    path: str,
    message: trial_pb2.Measurement,
    *,
    is_partial: bool = True,
) -> Misread:
    """Keep the numbers too, so that the study can say what else is wrong with them."""
    metrics = {
        name: Value(value.value, value.sd if value.HasField("sd") else None)
        for name, value in message.metrics.items()
    }
    return Misread(violations.as_tuple(), path, metrics, is_partial)
