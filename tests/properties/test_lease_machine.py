"""Leases agree with a plain model, whatever workers and the server do in whatever order.

Workers ask, fall silent, send heartbeats, report, give back, fail and tell, with every lease
that anybody ever had, in any state of its trial; the server is restarted in between.
"""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bbopt.errors import LeaseLostError
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import trial_pb2
from tests.unit.server.service import (
    STUDY,
    FakeCompute,
    Service,
    completed,
    failed,
    new_id,
    quadratic,
)

pytestmark = pytest.mark.timeout(600)  # A failure takes minutes to be made small.

Trial = trial_pb2.Trial
Action = pb.HeartbeatTrialsResponse.Directive
LEASE_S = 30.0
MAX_ATTEMPTS = 3
FAILURE = "oom"


@dataclass
class Kept:
    """What is to be true of a trial."""

    parameters: dict[str, float]
    attempt: int = 1
    token: str = ""
    """Of the lease that counts; empty if there is none."""
    deadline: float = 0.0
    outcome: float | str | None = None
    """The loss that was told, or why it failed."""
    is_lost: bool = False
    """Failed because nobody was heard of once too often."""
    is_late: bool = False

    @property
    def state(self) -> int:
        if self.is_lost or isinstance(self.outcome, str):
            return Trial.STATE_FAILED
        if self.outcome is not None:
            return Trial.STATE_COMPLETED
        return Trial.STATE_ACTIVE if self.token else Trial.STATE_QUEUED

    @property
    def is_open(self) -> bool:
        return self.state in (Trial.STATE_ACTIVE, Trial.STATE_QUEUED)

    def lose(self) -> None:
        self.token = ""
        if self.attempt < MAX_ATTEMPTS:
            self.attempt += 1
        else:
            self.is_lost = True


class LeaseMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.service = Service()
        self.trials: dict[int, Kept] = {}
        self.leases: list[Trial] = []
        self.n_told = 0
        self.runner.run(
            self.service.create(quadratic(lease_s=LEASE_S, max_attempts=MAX_ATTEMPTS))
        )

    def teardown(self) -> None:
        self.runner.run(self.service.studies.stop())
        self.runner.close()

    @property
    def now(self) -> float:
        return self.service.clock.now_s

    def pick(self, which: int) -> tuple[Trial, Kept, bool]:
        """Choose a lease that somebody had; say whether it is the one that counts."""
        lease = self.leases[which % len(self.leases)]
        kept = self.trials[lease.number]
        return lease, kept, kept.token == lease.lease.token

    @rule(count=st.integers(1, 3), worker=st.sampled_from("ab"))
    def ask(self, count: int, worker: str) -> None:
        waiting = [n for n, each in sorted(self.trials.items()) if not each.token]
        queued = [n for n in waiting if self.trials[n].is_open][:count]
        n_new = count - len(queued)
        numbers = queued + [len(self.trials) + 1 + i for i in range(n_new)]
        answer = self.runner.run(self.service.ask(count, worker_id=worker))
        assert [each.number for each in answer.trials] == numbers
        for trial in answer.trials:
            point = {name: each.double_value for name, each in trial.parameters.items()}
            kept = self.trials.setdefault(trial.number, Kept(point))
            assert (trial.attempt, point) == (kept.attempt, kept.parameters)
            assert trial.lease.token not in [each.lease.token for each in self.leases]
            kept.token, kept.deadline = trial.lease.token, self.now + LEASE_S
            self.leases.append(trial)

    @rule(duration_s=st.sampled_from([5.0, 15.0, 29.0, 31.0]))
    def pass_time(self, duration_s: float) -> None:
        self.runner.run(self.service.pass_time(duration_s))
        for kept in self.trials.values():
            if kept.token and kept.deadline <= self.now:
                kept.lose()
                self.n_told += kept.is_lost

    @rule(away_s=st.sampled_from([1.0, 600.0]))
    def restart(self, away_s: float) -> None:
        self.runner.run(self.service.studies.stop())
        old = self.service
        old.clock.now_s += away_s
        self.service = Service(old.store, FakeCompute(), old.clock, old.tokens)
        self.runner.run(self.service.start())
        for kept in self.trials.values():
            kept.deadline = self.now + LEASE_S

    @precondition(lambda self: self.leases)
    @rule(which=st.lists(st.integers(0, 99), min_size=1, max_size=4))
    def heartbeat(self, which: list[int]) -> None:
        picked = [self.pick(each) for each in which]
        orders = self.runner.run(self.service.heartbeat(*(each[0] for each in picked)))
        for (_, kept, counts), order in zip(picked, orders, strict=True):
            if not kept.is_open:
                assert order.action == Action.ACTION_CANCEL
            elif not counts:
                assert order.action == Action.ACTION_LEASE_LOST
            else:
                assert order.action == Action.ACTION_CONTINUE
                kept.deadline = self.now + LEASE_S

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 99), step=st.integers(1, 3))
    def report(self, which: int, step: int) -> None:
        lease, kept, counts = self.pick(which)
        try:
            self.runner.run(self.service.report(lease, {step: 1.0}))
        except LeaseLostError:
            assert not counts
        else:
            assert counts
            kept.deadline = self.now + LEASE_S

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 99))
    def give_back(self, which: int) -> None:
        lease, kept, counts = self.pick(which)
        (result,) = self.runner.run(self.service.release(lease))
        if not kept.is_open:
            assert result.status.reason == "TRIAL_ALREADY_FINISHED"
        elif not counts:
            assert result.status.reason == "LEASE_LOST"
        else:
            assert result.state == Trial.STATE_QUEUED
            kept.token = ""

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 99), loss=st.sampled_from([1.0, 2.0]), n_sent=st.integers(1, 2))
    def tell(self, which: int, loss: float, n_sent: int) -> None:
        """Tell a result, and perhaps send the same request twice."""
        lease, kept, counts = self.pick(which)
        request_id = new_id()
        results = [
            self.runner.run(self.service.tell(lease, completed(loss), request_id=request_id))
            for _ in range(n_sent)
        ]
        assert results == results[:1] * n_sent
        status = results[0].status
        if kept.outcome is None:
            assert (status.code, results[0].was_late) == (0, not counts)
            kept.outcome, kept.is_late, kept.is_lost, kept.token = loss, not counts, False, ""
            self.n_told += 1
        elif kept.outcome == loss:
            assert (status.code, results[0].was_duplicate) == (0, True)
        else:
            assert status.reason == "TRIAL_ALREADY_FINISHED"

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 99))
    def fail(self, which: int) -> None:
        lease, kept, counts = self.pick(which)
        result = self.runner.run(self.service.tell(lease, failed(FAILURE)))
        if kept.outcome == FAILURE:
            assert result.was_duplicate
        elif kept.outcome is not None:
            assert result.status.reason == "TRIAL_ALREADY_FINISHED"
        elif not counts:
            assert result.status.reason == "LEASE_LOST"
        elif kept.attempt < MAX_ATTEMPTS:
            assert result.state == Trial.STATE_QUEUED
            kept.attempt, kept.token = kept.attempt + 1, ""
        else:
            assert result.state == Trial.STATE_FAILED
            kept.outcome, kept.token = FAILURE, ""
            self.n_told += 1

    @invariant()
    def agree(self) -> None:
        request = pb.ListTrialsRequest(parent=STUDY, page_size=1000)
        found = list(self.runner.run(self.service.call("ListTrials", request)).trials)
        assert [each.number for each in found] == list(range(1, len(self.trials) + 1))
        for trial in found:
            kept = self.trials[trial.number]
            assert trial.state == kept.state
            assert (trial.attempt, trial.late) == (kept.attempt, kept.is_late)
            if kept.token:
                assert trial.lease.expire_time.seconds == kept.deadline
        events = self.runner.run(self.service.events())
        assert events.count("told") == self.n_told


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_leases_agree_with_the_model_over_many_long_histories() -> None:
    run_state_machine_as_test(
        LeaseMachine,
        settings=settings(
            max_examples=500,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
