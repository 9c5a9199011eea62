"""Replay: every suggestion of a recorded log, computed again and compared bit for bit.

It is the test that a log holds all that its suggestions depended on, whatever was killed while
it was written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bbopt.optimizer import Optimizer
from bbopt.problem import Problem
from bbopt.space import ParamValue
from bbopt.trial import Asked, Event, NewTrial, Stage, StrategyState


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A suggestion that a replay did not reproduce."""

    number: int
    """The trial."""
    recorded: Mapping[str, ParamValue]
    replayed: Mapping[str, ParamValue] | None
    """``None``: the replay suggested fewer points."""
    recorded_stage: Stage | None = None
    replayed_stage: Stage | None = None


def replay(
    problem: Problem,
    strategy: object | None,
    seed: int,
    events: Sequence[Event | None],
    *,
    device: str | None = None,
) -> list[Mismatch]:
    """Compute every suggestion of a recorded log again and compare, bit for bit.

    Points that were enqueued, given by a fallback or shaped by a deadline are recorded, not
    computed again. A suggestion is recomputed from the events that it had seen
    (``Provenance.data_revision``), which need not be all before the ask that recorded it.

    Args:
        problem: The study's.
        strategy: The study's.
        seed: The study's.
        events: The whole log in order; ``None`` for an event that concerns only the service.
        device: On which to compute everything; ``None`` is the one that the log names for each
            ask, and other devices agree only up to rounding.

    Returns:
        Every trial whose parameters or stage came out different; empty for a faithful replay.
    """
    live: dict[str, Optimizer] = {}
    mismatches: list[Mismatch] = []
    for state, trials in _recorded_asks(events):
        revision = trials[0].provenance.data_revision
        on = device or str(state.scalars.get("device", "cpu"))
        optimizer = live.get(on)
        if optimizer is None or revision < optimizer.revision:
            optimizer = Optimizer(problem, strategy, seed, device=on)
            live.setdefault(on, optimizer)
        optimizer.fold(events[optimizer.revision : revision])
        answers = optimizer.suggest(len(trials)).suggestions
        for index, trial in enumerate(trials):
            if index >= len(answers):
                mismatches.append(Mismatch(trial.number, trial.parameters, None, trial.stage))
                continue
            found, stage = answers[index].parameters, answers[index].stage
            if dict(found) != dict(trial.parameters) or stage != trial.stage:
                mismatches.append(
                    Mismatch(trial.number, trial.parameters, found, trial.stage, stage)
                )
    return mismatches


def _recorded_asks(
    events: Sequence[Event | None],
) -> list[tuple[StrategyState, list[NewTrial]]]:
    """Group the trials that one computation suggested; leave out what is not recomputed.

    Several asks that were answered by one computation carry the same state and have seen the
    same events. The state alone does not tell them from others: a promotion moves no counter.
    """
    asks: list[tuple[StrategyState, list[NewTrial]]] = []
    for event in events:
        if not isinstance(event, Asked) or event.state is None or not event.trials:
            continue
        last, trials = asks[-1] if asks else (None, [])
        has_seen = event.trials[0].provenance.data_revision
        if (
            last is not None
            and event.state.equals(last)
            and trials[0].provenance.data_revision == has_seen
        ):
            trials.extend(event.trials)
        else:
            asks.append((event.state, list(event.trials)))
    return [each for each in asks if not any(t.provenance.degraded_from for t in each[1])]
