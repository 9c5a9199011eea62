"""Asynchronous successive halving on learning curves: promotions, deaths, cost, replay."""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from bbopt.optimizer import Optimizer
from bbopt.replay import replay
from bbopt.rpc.log import event_from_message, event_to_message
from bbopt.rpc.v1 import log_pb2
from bbopt.specs import AshaSpec, Promotion, RandomSpec
from bbopt.stopping import Rungs
from bbopt.trial import Trial, TrialState
from tests.unit.stopping.learning_curves import FIDELITY, PROBLEM, Cluster, Listener, loss

RUNGS = [1, 3, 9, 27, 81]


@dataclass
class Reference:
    """The algorithm once more, by hand, from what the workers say and not from the log.

    Compares at every ask and every report with what the library decided.
    """

    runs_on: bool
    results: dict[int, dict[int, float]] = field(
        default_factory=lambda: {steps: {} for steps in RUNGS}
    )
    """Loss by configuration, of each rung."""
    paused: dict[int, int] = field(default_factory=dict)
    """Where each configuration that nobody runs waits."""
    configuration: dict[int, int] = field(default_factory=dict)
    """Of each trial."""
    n_begun: int = 0
    n_promoted: int = 0
    n_let_on: int = 0
    n_stopped: int = 0

    def leaders(self, steps: int) -> list[int]:
        ranked = sorted((value, number) for number, value in self.results[steps].items())
        return [number for _, number in ranked[: len(ranked) // 3]]

    def choose(self) -> tuple[int, int] | None:
        for steps in reversed(RUNGS[:-1]):
            for configuration in self.leaders(steps):
                if self.paused.get(configuration) == steps:
                    return configuration, steps
        return None

    def began(self, trial: Trial) -> None:
        assert trial.stage is not None
        if trial.attempt > 1:
            return
        chosen = self.choose()
        if chosen is None:
            self.n_begun += 1
            self.configuration[trial.number] = trial.number
            assert trial.stage.resume_from is None
            assert trial.stage.fidelity == (81 if self.runs_on else 1)
            return
        self.n_promoted += 1
        configuration, steps = chosen
        del self.paused[configuration]
        self.configuration[trial.number] = configuration
        assert trial.stage.configuration == configuration
        assert self.configuration[trial.stage.resume_from or 0] == configuration
        assert trial.stage.fidelity == (81 if self.runs_on else 3 * steps)

    def reported(self, trial: Trial, epoch: int, value: float, should_stop: bool) -> None:
        if epoch not in RUNGS:
            assert not should_stop
            return
        configuration = self.configuration[trial.number]
        self.results[epoch][configuration] = value
        is_last = epoch == RUNGS[-1]
        goes_on = not self.runs_on or is_last or configuration in self.leaders(epoch)
        assert should_stop == (not goes_on)
        self.n_let_on += self.runs_on and goes_on and not is_last
        self.n_stopped += should_stop

    def ended(self, trial: Trial, epoch: int, has_data: bool) -> None:
        if has_data:
            self.paused[self.configuration[trial.number]] = epoch


def run(promotion: Promotion, seed: int, n_epochs: int) -> tuple[Optimizer, Cluster, Reference]:
    reference = Reference(runs_on=promotion is Promotion.CONTINUE)
    listener = Listener(reference.began, reference.reported, reference.ended)
    optimizer = Optimizer(PROBLEM, AshaSpec(promotion), seed)
    cluster = Cluster(optimizer, seed, listener=listener)
    cluster.run(lambda c: c.n_epochs >= n_epochs)
    return optimizer, cluster, reference


@pytest.mark.parametrize("promotion", Promotion)
@pytest.mark.parametrize("seed", [1, 2])
def test_promotions_equal_those_of_a_reference_while_workers_die(
    promotion: Promotion, seed: int
) -> None:
    optimizer, cluster, reference = run(promotion, seed, 3000)
    # Every decision was compared on the way; here that there were some of each kind.
    assert cluster.n_deaths > 20
    assert reference.n_begun > 100
    assert reference.n_promoted > 20
    if promotion is Promotion.CONTINUE:
        assert reference.n_let_on > 20
        assert reference.n_stopped > 100
    lost = [t for t in optimizer.trials.values() if t.state is TrialState.FAILED]
    assert all(trial.attempt == 3 for trial in lost)


@pytest.mark.parametrize("promotion", Promotion)
def test_no_rung_is_a_dead_end(promotion: Promotion) -> None:
    # That a free worker always gets something to do is asserted at every ask.
    _, _, reference = run(promotion, 4, 3000)
    sizes = [len(reference.results[steps]) for steps in RUNGS]
    for below, above in itertools.pairwise(sizes):
        # A third goes on, but for those that are under way or were lost for good.
        assert above >= below // 3 - 16
        assert above > 0


@pytest.mark.parametrize("promotion", Promotion)
def test_a_log_with_promotions_replays(promotion: Promotion) -> None:
    optimizer, _, reference = run(promotion, 5, 600)
    assert reference.n_promoted > 5
    payloads = [event_to_message(e).SerializeToString() for e in optimizer.log.events()]
    events = [event_from_message(log_pb2.LogEvent.FromString(data)) for data in payloads]
    assert replay(PROBLEM, AshaSpec(promotion), 5, events) == []
    assert replay(PROBLEM, AshaSpec(promotion), 6, events) != []


def test_a_promotion_that_leaves_the_state_as_it_was_replays() -> None:
    optimizer = Optimizer(PROBLEM, AshaSpec(Promotion.RESUME), seed=5)
    for trial, value in zip(optimizer.ask(2), (0.2, 0.9), strict=True):
        optimizer.report(trial, 1, value)
        optimizer.tell(trial, value)
    third, _ = optimizer.ask(2)
    # Neither a report nor a promotion is counted, so that both asks leave the same state.
    optimizer.report(third, 1, 0.5)
    (promoted,) = optimizer.ask(1)
    assert promoted.stage is not None
    assert promoted.stage.resume_from == 1
    assert replay(PROBLEM, AshaSpec(Promotion.RESUME), 5, list(optimizer.log.events())) == []


def epochs_to(quality: float, strategy: object, seed: int) -> int:
    cluster = Cluster(Optimizer(PROBLEM, strategy, seed), seed)
    cluster.run(lambda c: c.best_full <= quality or c.n_epochs > 60_000)
    assert cluster.best_full <= quality
    return cluster.n_epochs


def fixed_quality() -> float:
    """What one in a hundred random configurations reaches when it is trained to the end."""
    rng = np.random.default_rng(0)
    points = (dict(zip("abcd", row, strict=True)) for row in rng.random((4000, 4)).tolist())
    return float(np.quantile([loss(point, FIDELITY.high) for point in points], 0.01))


@pytest.mark.slow
def test_a_fixed_quality_costs_at_most_half_of_what_random_search_pays() -> None:
    quality, seeds = fixed_quality(), range(10, 19)
    by_chance = np.median([epochs_to(quality, RandomSpec(), seed) for seed in seeds])
    for promotion in Promotion:
        halved = np.median([epochs_to(quality, AshaSpec(promotion), seed) for seed in seeds])
        assert halved <= 0.5 * by_chance, (promotion, halved, by_chance)


def test_a_program_that_ignores_its_budget_is_stopped_one_step_beyond_it() -> None:
    optimizer = Optimizer(PROBLEM, AshaSpec(), 7)
    cluster = Cluster(optimizer, 7, n_workers=4, death_rate=0.0, ignores_budget=True)
    cluster.run(lambda c: c.n_epochs >= 200)
    stopped = [t for t in optimizer.trials.values() if t.state is TrialState.STOPPED]
    assert len(stopped) > 20
    assert {t.stage.fidelity for t in stopped if t.stage is not None} >= {1, 3, 9}
    assert math.isinf(cluster.best_full)


def test_an_ask_for_many_sorts_each_rung_once(monkeypatch: pytest.MonkeyPatch) -> None:
    study = Optimizer(PROBLEM, "asha", seed=1)
    for trial in study.ask(30):
        study.tell(trial, float(trial.number))
    sorted_rungs: list[int] = []
    best = Rungs.best

    def counted(rungs: Rungs, rung: int, *, at_least: int = 0) -> list[int]:
        sorted_rungs.append(rung)
        return best(rungs, rung, at_least=at_least)

    monkeypatch.setattr(Rungs, "best", counted)
    promoted = [trial.stage.configuration for trial in study.ask(20) if trial.stage]

    assert [each for each in promoted if each] == list(range(1, 11))
    assert sorted(sorted_rungs) == [0, 1, 2, 3]
