import threading
from dataclasses import dataclass, field

import grpc
import pytest

from bbopt.errors import NotFoundError
from bbopt.rpc.v1.optimization_service_pb2 import HeartbeatTrialsResponse
from bbopt_client import Client, Directive, Float, Study
from bbopt_client.heartbeat import Heartbeats
from tests.unit.client.conftest import FAST
from tests.unit.client.fake_server import FakeServer, FakeService, Fault
from tests.waiting import Clock, wait_until

ACTION = HeartbeatTrialsResponse.Directive


@dataclass
class HeldTrial:
    """A held trial that notes its orders."""

    number: int
    lease_s: float = 60.0
    study: str = "s"
    orders: list[Directive] = field(default_factory=list)

    @property
    def study_name(self) -> str:
        return f"projects/default/studies/{self.study}"

    @property
    def name(self) -> str:
        return f"{self.study_name}/trials/{self.number}"

    @property
    def lease_token(self) -> str:
        return f"token-{self.number}"

    def receive(self, directive: Directive, reason: str) -> None:
        assert reason
        self.orders.append(directive)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heartbeats(client: Client, clock: Clock) -> Heartbeats:
    return Heartbeats(client.session.connection, "w", monotonic=clock, is_threaded=False)


def test_one_call_carries_every_trial_of_a_study(
    heartbeats: Heartbeats, clock: Clock, service: FakeService
) -> None:
    for number in (1, 2, 3):
        heartbeats.hold(HeldTrial(number))
    clock.now_s += 20

    heartbeats.beat()

    (request,) = service.requests("HeartbeatTrials")
    assert request.worker_id == "w"
    assert [held.lease_token for held in request.held] == ["token-1", "token-2", "token-3"]


def test_each_study_has_a_call_of_its_own(
    heartbeats: Heartbeats, clock: Clock, service: FakeService
) -> None:
    heartbeats.hold(HeldTrial(1, study="a"))
    heartbeats.hold(HeldTrial(1, study="b"))
    clock.now_s += 20

    heartbeats.beat()

    assert [request.parent[-1] for request in service.requests("HeartbeatTrials")] == ["a", "b"]


def test_heartbeats_are_sent_at_a_third_of_the_shortest_lease(
    heartbeats: Heartbeats, clock: Clock, service: FakeService
) -> None:
    heartbeats.hold(HeldTrial(1, lease_s=60))
    assert heartbeats.beat() == pytest.approx(20)
    heartbeats.hold(HeldTrial(2, lease_s=30))
    assert heartbeats.beat() == pytest.approx(10)
    assert service.requests("HeartbeatTrials") == []

    clock.now_s += 10

    assert heartbeats.beat() == pytest.approx(10)
    assert len(service.requests("HeartbeatTrials")) == 1


def test_a_new_trial_does_not_put_off_the_heartbeat_of_an_old_one(
    heartbeats: Heartbeats, clock: Clock
) -> None:
    heartbeats.hold(HeldTrial(1))
    clock.now_s += 15
    heartbeats.hold(HeldTrial(2))

    assert heartbeats.beat() == pytest.approx(5)


@pytest.mark.parametrize(
    ("action", "order"),
    [
        (ACTION.ACTION_STOP_EARLY, Directive.STOP),
        (ACTION.ACTION_CANCEL, Directive.CANCEL),
        (ACTION.ACTION_LEASE_LOST, Directive.LOST),
    ],
)
def test_an_order_reaches_its_trial_only(
    heartbeats: Heartbeats, clock: Clock, service: FakeService, action: int, order: Directive
) -> None:
    trials = [HeldTrial(1), HeldTrial(2)]
    for trial in trials:
        heartbeats.hold(trial)
    service.directives[2] = action
    clock.now_s += 20

    heartbeats.beat()

    assert [trial.orders for trial in trials] == [[], [order]]
    still_held = [held.lease_token for held in heartbeats.held(trials[0].study_name)]
    assert still_held == ["token-1"] + ["token-2"] * (order is Directive.STOP)


def test_an_order_that_is_not_known_yet_is_not_guessed_at(
    heartbeats: Heartbeats, clock: Clock, service: FakeService
) -> None:
    trial = HeldTrial(1)
    heartbeats.hold(trial)
    service.directives[1] = 99
    clock.now_s += 20

    heartbeats.beat()

    assert trial.orders == []
    assert heartbeats.find(trial.name) is trial


def test_a_failed_heartbeat_is_repeated_soon(
    heartbeats: Heartbeats, clock: Clock, service: FakeService
) -> None:
    heartbeats.hold(HeldTrial(1))
    service.fail("HeartbeatTrials", Fault(code=grpc.StatusCode.INTERNAL))
    clock.now_s += 20

    assert heartbeats.beat() == pytest.approx(2)


def test_a_study_that_is_gone_cancels_its_trials(
    heartbeats: Heartbeats, clock: Clock, service: FakeService
) -> None:
    trial = HeldTrial(1)
    heartbeats.hold(trial)
    service.fail("HeartbeatTrials", Fault(error=NotFoundError("deleted")))
    clock.now_s += 20

    assert heartbeats.beat() is None
    assert trial.orders == [Directive.CANCEL]


def test_a_dropped_trial_is_heard_of_no_more(
    heartbeats: Heartbeats, clock: Clock, service: FakeService
) -> None:
    first, second = HeldTrial(1), HeldTrial(2)
    heartbeats.hold(first)
    heartbeats.hold(second)

    heartbeats.drop(first)
    clock.now_s += 20
    heartbeats.beat()
    heartbeats.drop(second)

    (request,) = service.requests("HeartbeatTrials")
    assert [held.lease_token for held in request.held] == ["token-2"]
    assert heartbeats.beat() is None


def test_a_trial_that_was_asked_again_is_not_dropped_with_its_old_hold(
    heartbeats: Heartbeats,
) -> None:
    old, new = HeldTrial(1), HeldTrial(1)
    heartbeats.hold(old)
    heartbeats.hold(new)

    heartbeats.drop(old)

    assert heartbeats.find(new.name) is new


def test_a_lease_that_never_expires_still_brings_orders(
    heartbeats: Heartbeats, clock: Clock, service: FakeService
) -> None:
    trial = HeldTrial(1, lease_s=0)
    heartbeats.hold(trial)
    service.directives[1] = ACTION.ACTION_STOP_EARLY
    clock.now_s += 30

    heartbeats.beat()

    assert trial.orders == [Directive.STOP]


# Through the client, with its thread ---------------------------------------------------------


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_the_thread_starts_with_the_first_trial_and_ends_with_the_client(
    fake: FakeServer,
) -> None:
    with Client(fake.address, outbox=False, options=FAST) as client:
        study = client.create_study("s", space=[Float("x", 0, 1)], objective="-loss")
        assert "bbopt-heartbeats" not in names()
        study.ask()
        study.ask()
        assert names().count("bbopt-heartbeats") == 1

    assert "bbopt-heartbeats" not in names()


def test_the_sleeping_thread_is_woken_only_for_what_is_due_before_it_wakes(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeats = Heartbeats(client.session.connection, "w")
    woken: list[None] = []
    try:
        heartbeats.hold(HeldTrial(1, lease_s=3000.0))
        wait_until(lambda: heartbeats._wakes_at > 0.0)
        monkeypatch.setattr(heartbeats._changed, "notify", lambda: woken.append(None))
        heartbeats.hold(HeldTrial(2, lease_s=3000.0))
        assert not woken
        heartbeats.hold(HeldTrial(3, lease_s=300.0, study="t"))
        assert len(woken) == 1
        monkeypatch.undo()
    finally:
        heartbeats.stop()
        heartbeats.join(10.0)


def test_an_asked_trial_hears_of_an_order_without_a_call(
    study: Study, service: FakeService
) -> None:
    service.lease_s = 1
    (trial,) = study.ask()
    assert not trial.should_stop()
    service.directives[trial.number] = ACTION.ACTION_STOP_EARLY

    wait_until(trial.should_stop)

    assert trial.directive is Directive.STOP
    assert trial.directive_reason == "because"
    assert trial.is_held


def test_a_told_trial_sends_no_more_heartbeats(study: Study) -> None:
    (trial,) = study.ask()

    trial.tell(0.5)

    assert study.session.heartbeats.held(str(study.name)) == ()
    assert not trial.is_held


def test_a_cancelled_trial_stays_cancelled(study: Study) -> None:
    (trial,) = study.ask()

    trial.receive(Directive.CANCEL, "told by another")
    trial.receive(Directive.STOP, "late order")

    assert trial.directive is Directive.CANCEL
    assert not trial.is_held


def test_an_order_that_crossed_the_tell_changes_nothing(study: Study) -> None:
    (trial,) = study.ask()
    trial.tell(0.5)

    trial.receive(Directive.CANCEL, "the trial is finished")

    assert trial.directive is Directive.NONE
