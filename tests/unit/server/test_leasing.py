"""Who holds a trial: heartbeats, expiry, release, reports, restart."""

import asyncio

from bbopt.errors import InvalidError, LeaseLostError, LimitError
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import trial_pb2
from tests.unit.server.service import (
    STUDY,
    FakeCompute,
    Service,
    asynchronous,
    completed,
    measured,
    new_id,
    quadratic,
    refused,
    seconds,
)

Trial = trial_pb2.Trial
Directive = pb.HeartbeatTrialsResponse.Directive


@asynchronous
async def test_a_lease_says_when_it_ends_and_only_its_holder_sees_the_token() -> None:
    service = Service()
    await service.create(quadratic(lease_s=30.0))
    trial = (await service.ask()).trials[0]
    assert trial.lease.duration.seconds == 30
    assert trial.lease.expire_time.seconds == 1030
    seen = await service.trial(1)
    assert (seen.lease.worker_id, seen.lease.token) == ("w", "")
    assert seen.lease.expire_time.seconds == 1030


@asynchronous
async def test_a_worker_that_falls_silent_loses_its_trial_to_the_next_one() -> None:
    service = Service()
    await service.create(quadratic(lease_s=30.0))
    lost = (await service.ask()).trials[0]
    await service.pass_time(29.0)
    assert (await service.trial(1)).state == Trial.STATE_ACTIVE
    await service.pass_time(2.0)
    assert (await service.trial(1)).state == Trial.STATE_QUEUED
    again = (await service.ask(worker_id="other")).trials[0]
    assert (again.number, again.attempt) == (lost.number, 2)
    assert again.parameters == lost.parameters
    assert (await service.heartbeat(lost))[0].action == Directive.ACTION_LEASE_LOST


@asynchronous
async def test_heartbeats_keep_a_lease() -> None:
    service = Service()
    await service.create(quadratic(lease_s=30.0))
    trial = (await service.ask()).trials[0]
    for _ in range(5):
        await service.pass_time(20.0)
        orders = await service.heartbeat(trial)
        assert orders[0].action == Directive.ACTION_CONTINUE
    assert orders[0].lease_expire_time.seconds == service.clock.now_s + 30
    assert (await service.trial(1)).attempt == 1


@asynchronous
async def test_a_trial_that_is_lost_too_often_fails() -> None:
    service = Service()
    await service.create(quadratic(lease_s=10.0, max_attempts=3))
    for attempt in (1, 2, 3):
        assert (await service.ask()).trials[0].attempt == attempt
        await service.pass_time(11.0)
    lost = await service.trial(1)
    assert lost.state == Trial.STATE_FAILED
    assert lost.state_message.startswith("LEASE_EXPIRED")
    assert (await service.ask()).trials[0].number == 2


@asynchronous
async def test_a_lease_without_a_term_never_expires() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask(lease_duration=seconds(0))).trials[0]
    assert not trial.lease.HasField("expire_time")
    await service.pass_time(1e9)
    assert (await service.trial(1)).state == Trial.STATE_ACTIVE
    assert (await service.heartbeat(trial))[0].action == Directive.ACTION_CONTINUE


@asynchronous
async def test_orders_come_in_the_order_of_the_request() -> None:
    service = Service()
    await service.create()
    trials = list((await service.ask(4)).trials)
    await service.stop_trial(2)
    await service.tell(trials[2], completed())
    trials[3].lease.token += "-forged"
    unknown = Trial(name=f"{STUDY}/trials/99", lease=trials[0].lease)
    orders = await service.heartbeat(*trials, unknown)
    assert [order.action for order in orders] == [
        Directive.ACTION_CONTINUE,
        Directive.ACTION_STOP_EARLY,
        Directive.ACTION_CANCEL,
        Directive.ACTION_LEASE_LOST,
        Directive.ACTION_LEASE_LOST,
    ]
    assert [order.trial for order in orders[:2]] == [trials[0].name, trials[1].name]


@asynchronous
async def test_a_released_trial_goes_to_another_worker_without_using_up_an_attempt() -> None:
    service = Service()
    await service.create(quadratic(max_attempts=1))
    first = (await service.ask()).trials[0]
    for _ in range(3):
        result = (await service.release(first))[0]
        assert result.state == Trial.STATE_QUEUED
        again = (await service.ask(worker_id="other")).trials[0]
        assert (again.number, again.attempt) == (1, 1)
        assert again.parameters == first.parameters
        first = again


@asynchronous
async def test_a_trial_that_is_no_longer_held_cannot_be_released() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    await service.release(trial)
    assert (await service.release(trial))[0].status.reason == "LEASE_LOST"
    await service.tell(1, completed())
    assert (await service.release(trial))[0].status.reason == "TRIAL_ALREADY_FINISHED"


@asynchronous
async def test_reports_are_kept_by_step_and_give_the_lease_a_new_term() -> None:
    service = Service()
    await service.create(quadratic(lease_s=30.0))
    trial = (await service.ask()).trials[0]
    await service.pass_time(20.0)
    answer = await service.report(trial, {1: 2.0, 2: 3.0})
    assert not answer.should_stop
    assert answer.lease_expire_time.seconds == 1050
    await service.report(trial, {2: 7.0})
    await service.pass_time(20.0)
    stored = await service.trial(1)
    assert stored.state == Trial.STATE_ACTIVE
    losses = {each.step: each.metrics["loss"].value for each in stored.measurements}
    assert losses == {1: 2.0, 2: 7.0}


@asynchronous
async def test_a_trial_has_at_most_ten_thousand_steps() -> None:
    service = Service()
    await service.create(quadratic())
    trial = (await service.ask()).trials[0]
    for start in range(0, 10_000, 1000):
        await service.report(trial, {step: step + 1.0 for step in range(start, start + 1000)})
    await service.report(trial, {7: 5.0})  # Again: no step more.
    before = (await service.study()).revision
    with refused(LimitError):
        await service.report(trial, {3: 9.0, 10_000: 9.0})
    stored = await service.trial(1)
    assert len(stored.measurements) == 10_000
    assert stored.measurements[3].metrics["loss"].value == 4.0
    assert (await service.study()).revision == before


@asynchronous
async def test_a_report_learns_that_the_trial_is_to_stop() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    assert (await service.stop_trial(1)).state == Trial.STATE_STOPPING
    answer = await service.report(trial)
    assert (answer.should_stop, answer.reason) == (True, "enough")
    outcome = trial_pb2.Outcome(stopped=measured(loss=3.0))
    assert (await service.tell(trial, outcome)).state == Trial.STATE_STOPPED


@asynchronous
async def test_a_report_under_a_lost_lease_is_refused() -> None:
    service = Service()
    await service.create(quadratic(lease_s=10.0))
    trial = (await service.ask()).trials[0]
    await service.pass_time(11.0)
    with refused(LeaseLostError):
        await service.report(trial)


@asynchronous
async def test_a_report_needs_a_step() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    request = pb.ReportMeasurementsRequest(
        trial=trial.name,
        lease_token=trial.lease.token,
        measurements=[measured(loss=1.0)],
        request_id=new_id(),
    )
    with refused(InvalidError, field="measurements[0].step"):
        await service.call("ReportMeasurements", request)


@asynchronous
async def test_a_report_of_an_unknown_metric_is_refused() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    measurement = measured(accuracy=1.0)
    measurement.step = 1
    request = pb.ReportMeasurementsRequest(
        trial=trial.name,
        lease_token=trial.lease.token,
        measurements=[measurement],
        request_id=new_id(),
    )
    with refused(InvalidError, field="measurements[0].metrics[accuracy]"):
        await service.call("ReportMeasurements", request)
    assert len((await service.trial(1)).measurements) == 0


@asynchronous
async def test_stopping_a_waiting_trial_abandons_it() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    await service.release(trial)
    assert (await service.stop_trial(1)).state == Trial.STATE_ABANDONED
    assert (await service.ask()).trials[0].number == 2


@asynchronous
async def test_a_restart_gives_every_live_lease_one_full_new_term() -> None:
    before = Service()
    await before.create(quadratic(lease_s=30.0))
    trial = (await before.ask()).trials[0]
    await before.pass_time(25.0)
    after = Service(before.store, FakeCompute())
    after.clock.now_s = 9e6
    await after.start()
    await after.pass_time(29.0)
    assert (await after.heartbeat(trial))[0].action == Directive.ACTION_CONTINUE
    await after.pass_time(31.0)
    assert (await after.trial(1)).state == Trial.STATE_QUEUED
    await after.studies.stop()


@asynchronous
async def test_a_caller_that_leaves_after_the_commit_still_holds_a_lease_that_ends() -> None:
    service = Service()
    await service.create(quadratic(lease_s=10.0))
    asking = asyncio.create_task(service.ask())
    while not service.compute.jobs:
        await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)
        if asking.done():
            break
        if (await service.study()).stats.active:
            asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await service.pass_time(11.0)
    assert (await service.trial(1)).state == Trial.STATE_QUEUED
