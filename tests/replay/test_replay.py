"""A stored log, read back from bytes, reproduces what the strategy suggested."""

import pytest

from bbopt import Optimizer
from bbopt.problems import KnownProblem, constrained_gramacy, mixed_conditional
from bbopt.replay import replay
from bbopt.rpc.log import event_from_message, event_to_message
from bbopt.rpc.v1 import log_pb2
from bbopt.specs import GPSpec
from bbopt.trial import Asked, Event, Failed, Infeasible, NewTrial, Provenance

SPEC = GPSpec(n_initial=4)


def stored(events: tuple[Event, ...]) -> list[Event | None]:
    """Write a log as a store does and read it again."""
    payloads = [event_to_message(event).SerializeToString() for event in events]
    return [event_from_message(log_pb2.LogEvent.FromString(data)) for data in payloads]


def record(known: KnownProblem, n: int) -> Optimizer:
    """Run a study with everything that happens to studies."""
    study = Optimizer(known.problem, SPEC, seed=21)
    for step in range(n):
        trials = study.ask(3 if step % 4 == 1 else 1)
        for trial in reversed(trials):
            if step % 5 == 2:
                study.tell(trial, Failed("preempted"))
            elif step % 7 == 3:
                study.tell(trial, Infeasible("diverged"))
            else:
                study.tell(trial, known.evaluate(trial.parameters))
    return study


@pytest.mark.parametrize(("known", "n"), [(constrained_gramacy(), 9), (mixed_conditional(), 6)])
def test_a_log_that_went_through_bytes_replays(known: KnownProblem, n: int) -> None:
    study = record(known, n)
    assert replay(known.problem, SPEC, 21, stored(tuple(study.log.events()))) == []


def test_a_log_with_a_fallback_and_service_events_replays() -> None:
    known = constrained_gramacy()
    study = record(known, 6)
    events: list[Event | None] = stored(tuple(study.log.events()))
    study.fold([None])
    events.append(None)
    number = len(study.trials) + 1
    provenance = Provenance("fallback", study.revision, degraded_from="gp", reason="late")
    fallback = Asked((NewTrial(number, {"x1": 0.5, "x2": 0.5}, provenance),), None)
    study.fold([fallback])
    events.append(fallback)
    revision = len(study.log)
    study.ask(2)
    events += study.log.events(revision)
    assert replay(known.problem, SPEC, 21, events) == []


def test_a_changed_result_is_noticed() -> None:
    known = constrained_gramacy()
    study = record(known, 3)
    events = list(study.log.events())
    # The same log with another seed: after the middle of the space, which has none, the
    # quasi-random points already differ.
    mismatches = replay(known.problem, SPEC, 22, events)
    assert mismatches
    assert mismatches[0].number == 2
    assert mismatches[0].replayed != mismatches[0].recorded
