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
    for ask in _recorded_asks(events):
        on = device or str(ask.state.scalars.get("device", "cpu"))
        optimizer = live.get(on)
        if optimizer is None or ask.revision < optimizer.revision:
            optimizer = Optimizer(problem, strategy, seed, device=on)
            live.setdefault(on, optimizer)
        optimizer.fold(events[optimizer.revision : ask.revision])
        answers = optimizer.suggest(ask.n_before + len(ask.trials)).suggestions
        for index, trial in enumerate(ask.trials, start=ask.n_before):
            if index >= len(answers):
                mismatches.append(Mismatch(trial.number, trial.parameters, None, trial.stage))
                continue
            found, stage = answers[index].parameters, answers[index].stage
            if dict(found) != dict(trial.parameters) or stage != trial.stage:
                mismatches.append(
                    Mismatch(trial.number, trial.parameters, found, trial.stage, stage)
                )
    return mismatches


@dataclass(frozen=True, slots=True)
class _Ask:
    """Trials in a row that were suggested from the same events."""

    revision: int
    """Of the last event that they had seen."""
    n_before: int
    """Trials that were suggested between that event and these: the first points of what can be
    computed from it are theirs.
    """
    state: StrategyState
    trials: list[NewTrial]


def _recorded_asks(events: Sequence[Event | None]) -> list[_Ask]:
    """Return what was computed, in order; leave out what is not recomputed."""
    asks: list[_Ask] = []
    n_suggested = [0]  # Before each event.
    for event in events:
        n_suggested.append(n_suggested[-1])
        if not isinstance(event, Asked) or event.state is None or not event.trials:
            continue
        n_suggested[-1] += len(event.trials)
        revision = event.trials[0].provenance.data_revision
        if asks and asks[-1].revision == revision:
            asks[-1].trials.extend(event.trials)
        else:
            n_before = n_suggested[-2] - n_suggested[revision]
            asks.append(_Ask(revision, n_before, event.state, list(event.trials)))
    return [ask for ask in asks if not any(t.provenance.degraded_from for t in ask.trials)]
