"""Recorded studies replay: the same log gives the same suggestions, however one gets there.

What is promised is equality to the last bit on the build that computed the suggestions, and
that is demanded where this build is the recording's. Elsewhere sums of floating-point numbers
come out differently in their last bits, and every step of a model's search carries that on; so
there a suggestion may be off by a tolerance, in the unit cube. With other instruction sets
forced upon torch, numpy and their linear algebra the largest differences were 5e-10 for models
and 1e-14 for CMA-ES; the others do no arithmetic to speak of. A change of the algorithm, of a
seed or of the log moves points by far more than any tolerance here.

After a *meant* change of a strategy: ``python -m tests.replay.record``.
"""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from bbopt.optimizer import Optimizer, Suggested
from bbopt.replay import Mismatch, replay
from bbopt.rpc.v1 import log_pb2
from bbopt.space import Codec, Float
from bbopt.specs import NAMES, StudySpec
from bbopt.trial import Asked, Event
from bbopt_server.compute.hot import HotStudies
from tests.replay.recordings import Recording, load, this_build

MODELS = ("gp", "gp_constrained", "auto")
TOLERANCES = {
    "sobol": 1e-12,
    "random": 1e-12,
    "asha": 1e-12,
    "cma_es": 1e-9,
    **dict.fromkeys(MODELS, 1e-6),
}
"""Of each coordinate in the unit cube, on another build than the recording's."""


def not_reproduced(recording: Recording, *, tolerance: float) -> list[Mismatch]:
    """Replay a recording; list the suggestions that are off by more than a tolerance."""
    spec = recording.spec
    codec = Codec(spec.problem.space)

    def is_off(mismatch: Mismatch) -> bool:
        replayed = mismatch.replayed
        if replayed is None or mismatch.replayed_stage != mismatch.recorded_stage:
            return True
        apart = np.abs(codec.encode(mismatch.recorded) - codec.encode(replayed))
        return float(np.nanmax(apart)) > tolerance

    found = replay(spec.problem, spec.strategy, spec.drawn_seed, recording.events)
    return [each for each in found if tolerance == 0.0 or is_off(each)]


def changed(recording: Recording, change: Callable[[log_pb2.LogEvent], None]) -> Recording:
    """Apply a change to every event of a copy."""
    log = [copy.deepcopy(each) for each in recording.log]
    for event in log:
        change(event)
    assert log != recording.log
    return Recording(recording.definition, log, recording.build)


def test_every_strategy_is_recorded() -> None:
    recorded = {type(load(name).spec.strategy) for name in TOLERANCES}
    assert recorded == set(NAMES.values())


@pytest.mark.parametrize("name", TOLERANCES)
def test_a_recording_has_what_happens_to_studies(name: str) -> None:
    recording = load(name)
    kinds = {each.WhichOneof("kind") for each in recording.log}
    expected = {"study_changed", "asked", "leased", "requeued", "told"}
    assert expected | ({"reported"} if name == "asha" else {"enqueued", "amended"}) <= kinds
    trials = [trial for each in recording.log for trial in each.asked.trials]
    by_model = [trial for trial in trials if trial.provenance.generator == "gp"]
    assert not any(trial.provenance.degraded_from for trial in trials)
    assert len(trials) >= 12
    assert len(by_model) >= 5 if name in MODELS else not by_model


@pytest.mark.parametrize("name", TOLERANCES)
def test_a_recorded_study_gets_the_suggestions_that_it_got(name: str) -> None:
    recording = load(name)
    is_same_build = recording.build == this_build()
    tolerance = 0.0 if is_same_build else TOLERANCES[name]
    assert not_reproduced(recording, tolerance=tolerance) == []


@pytest.mark.parametrize("name", TOLERANCES)
def test_another_recorded_suggestion_is_noticed(name: str) -> None:
    recording = load(name)
    float_name = next(
        each.name
        for each in recording.spec.problem.space.parameters
        if isinstance(each, Float) and each.active_if is None
    )

    def move(event: log_pb2.LogEvent) -> None:
        for trial in event.asked.trials:
            if trial.number == 8:
                value = trial.parameters[float_name]
                value.double_value = 0.999 * value.double_value + 0.0005

    other = changed(recording, move)
    off = not_reproduced(other, tolerance=TOLERANCES[name])
    assert 8 in [each.number for each in off]


@pytest.mark.parametrize("name", ["sobol", "random", "asha"])
def test_another_seed_is_noticed(name: str) -> None:
    recording = load(name)
    recording.definition.seed += 1
    assert not_reproduced(recording, tolerance=TOLERANCES[name]) != []


@pytest.mark.parametrize("name", [*MODELS, "cma_es"])
def test_another_result_is_noticed(name: str) -> None:
    def turn_round(event: log_pb2.LogEvent) -> None:
        # A bad value that only gets worse keeps its rank, which is all that matters of it.
        if event.told.number == 3:
            for value in event.told.outcome.completed.metrics.values():
                value.value = -100.0 - value.value

    other = changed(load(name), turn_round)
    assert not_reproduced(other, tolerance=TOLERANCES[name]) != []


def test_other_reports_are_noticed() -> None:
    def turn_round(event: log_pb2.LogEvent) -> None:
        for measurement in (event.reported.measurement, event.told.outcome.completed):
            for value in measurement.metrics.values():
                value.value *= -1.0

    other = changed(load("asha"), turn_round)
    assert not_reproduced(other, tolerance=TOLERANCES["asha"]) != []


def asks(events: Sequence[Event | None]) -> list[tuple[int, int]]:
    """Say what each recorded ask had seen and for how many points it asked."""
    return [
        (each.trials[0].provenance.data_revision, len(each.trials))
        for each in events
        if isinstance(each, Asked) and each.state is not None
    ]


@pytest.mark.parametrize("name", TOLERANCES)
def test_live_rebuilt_evicted_and_rested_studies_suggest_the_same(name: str) -> None:
    """To the last bit on any build: it is one computation, begun at different places."""
    recording, other = load(name), load("random")
    spec, events = recording.spec, recording.events
    seen = 0
    live = _optimizer(spec)
    rested = Optimizer(spec.problem, spec.strategy, spec.drawn_seed, keeps_history=False)
    hot = HotStudies(_optimizer, n_bytes=lambda _: 1, max_studies=1, max_bytes=1)

    def evicted(revision: int) -> Optimizer:
        hot.fold("other", other.definition, 0, other.log[:1])
        hot.trim()
        assert hot.revision(name) == 0
        optimizer = hot.fold(name, recording.definition, 0, recording.log[:revision])
        hot.trim()
        assert isinstance(optimizer, Optimizer)
        return optimizer

    def assert_equal(answer: Suggested, expected: Suggested) -> None:
        assert answer.suggestions == expected.suggestions
        assert answer.space_exhausted == expected.space_exhausted
        assert answer.state.equals(expected.state)

    for revision, n in [*asks(events), (len(events), 2)]:
        if revision < seen:
            continue  # It was computed before what the live study has seen by now.
        seen = revision
        live.fold(events[live.revision : revision])
        expected = live.suggest(n)
        rebuilt = _optimizer(spec)
        rebuilt.fold(events[:revision])
        assert_equal(rebuilt.suggest(n), expected)
        assert_equal(evicted(revision).suggest(n), expected)
        rested.fold(events[rested.revision : revision])
        rested.rest()
        assert_equal(rested.suggest(n), expected)
    assert live.revision == len(events)


def _optimizer(spec: StudySpec) -> Optimizer:
    return Optimizer(spec.problem, spec.strategy, spec.drawn_seed)
