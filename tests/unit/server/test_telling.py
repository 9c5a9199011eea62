"""What happens to a trial when its result comes: once, twice, late, wrong, corrected."""

import asyncio
import math

import pytest

from bbopt.errors import InvalidError, NotFoundError, PreconditionError
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2, trial_pb2
from tests.unit.server.service import (
    STUDY,
    Service,
    asynchronous,
    completed,
    failed,
    measured,
    new_id,
    quadratic,
    refused,
)

Trial = trial_pb2.Trial


def tell_of(
    *items: tuple[int, trial_pb2.Outcome], atomic: bool = False
) -> pb.TellTrialsRequest:
    tells = [pb.Tell(trial=str(number), outcome=outcome) for number, outcome in items]
    return pb.TellTrialsRequest(parent=STUDY, tells=tells, request_id=new_id(), atomic=atomic)


@asynchronous
async def test_a_result_is_kept_as_it_was_told() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    result = await service.tell(trial, completed(0.25))
    assert (result.status.code, result.state) == (0, Trial.STATE_COMPLETED)
    assert not result.was_late
    stored = await service.trial(trial.number)
    assert stored.final_measurement.metrics["loss"].value == 0.25
    assert stored.feasible
    assert not stored.HasField("lease")
    assert stored.parameters == trial.parameters


@asynchronous
async def test_a_repeated_tell_gets_the_same_answer_and_counts_once() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    first = await service.tell(trial, completed(), request_id="the-same-one")
    assert await service.tell(trial, completed(), request_id="the-same-one") == first
    assert (await service.events()).count("told") == 1


@asynchronous
async def test_the_same_result_under_another_request_is_a_duplicate_and_fine() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    await service.tell(trial, completed())
    again = await service.tell(trial, completed())
    assert (again.status.code, again.was_duplicate) == (0, True)
    assert (await service.events()).count("told") == 1


@asynchronous
async def test_the_same_result_after_another_time_is_a_duplicate_too() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    first = completed()
    first.completed.elapsed.seconds = 3
    await service.tell(trial, first)
    again = await service.tell(trial, completed())
    assert (again.status.code, again.was_duplicate) == (0, True)
    assert (await service.trial(1)).final_measurement.elapsed.seconds == 3


@asynchronous
async def test_another_result_for_a_finished_trial_is_refused_and_points_to_amend() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    await service.tell(trial, completed(1.0))
    again = await service.tell(trial, completed(2.0))
    assert again.status.reason == "TRIAL_ALREADY_FINISHED"
    assert "an amendment corrects a result" in again.status.message
    assert again.state == Trial.STATE_COMPLETED
    assert (await service.trial(1)).final_measurement.metrics["loss"].value == 1.0


@asynchronous
async def test_a_bad_item_does_not_hold_up_the_good_ones() -> None:
    service = Service()
    await service.create()
    await service.ask(2)
    answer = await service.call(
        "TellTrials", tell_of((1, completed(math.nan)), (2, completed()), (9, completed()))
    )
    assert [item.status.reason for item in answer.results] == ["INVALID", "", "NOT_FOUND"]
    assert answer.results[0].status.violations[0].field == (
        "outcome.completed.metrics[loss].value"
    )
    assert (await service.trial(1)).state == Trial.STATE_ACTIVE


@asynchronous
async def test_one_bad_item_of_an_atomic_batch_refuses_all_of_it() -> None:
    service = Service()
    await service.create()
    await service.ask(2)
    answer = await service.call(
        "TellTrials", tell_of((1, completed()), (9, completed()), atomic=True)
    )
    assert [item.status.code != 0 for item in answer.results] == [True, True]
    assert (await service.trial(1)).state == Trial.STATE_ACTIVE
    assert "told" not in await service.events()


@pytest.mark.parametrize(
    ("outcome", "field"),
    [
        (completed(math.inf), "outcome.completed.metrics[loss].value"),
        (trial_pb2.Outcome(), "outcome"),
        (
            trial_pb2.Outcome(completed=measured(other=1.0)),
            "outcome.completed.metrics[other]",
        ),
        (trial_pb2.Outcome(completed=measured()), "outcome.completed.metrics[loss]"),
        (
            trial_pb2.Outcome(
                completed=trial_pb2.Measurement(
                    metrics={"loss": trial_pb2.Value(value=1.0, sd=-1.0)}
                )
            ),
            "outcome.completed.metrics[loss].sd",
        ),
    ],
)
def test_a_wrong_measurement_is_refused_field_by_field(
    outcome: trial_pb2.Outcome, field: str
) -> None:
    @asynchronous
    async def scenario() -> None:
        service = Service()
        await service.create()
        trial = (await service.ask()).trials[0]
        result = await service.tell(trial, outcome)
        assert result.status.code == 3
        assert field in [each.field for each in result.status.violations]
        assert (await service.trial(1)).state == Trial.STATE_ACTIVE

    scenario()


@asynchronous
async def test_a_failure_runs_the_same_point_again_until_attempts_run_out() -> None:
    service = Service()
    await service.create(quadratic(max_attempts=2))
    first = (await service.ask()).trials[0]
    result = await service.tell(first, failed())
    assert result.state == Trial.STATE_QUEUED
    second = (await service.ask()).trials[0]
    assert (second.number, second.attempt) == (1, 2)
    assert second.parameters == first.parameters
    assert second.lease.token != first.lease.token
    result = await service.tell(second, failed())
    assert result.state == Trial.STATE_FAILED
    assert (await service.trial(1)).state_message == "oom"


@asynchronous
async def test_a_final_failure_is_not_run_again() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    assert (await service.tell(trial, failed(final=True))).state == Trial.STATE_FAILED


@asynchronous
async def test_a_failure_told_after_the_lease_was_lost_does_not_touch_the_new_holder() -> None:
    service = Service()
    await service.create(quadratic(lease_s=10.0))
    old = (await service.ask()).trials[0]
    await service.pass_time(11.0)
    new = (await service.ask()).trials[0]
    assert new.number == old.number
    result = await service.tell(old, failed())
    assert result.status.reason == "LEASE_LOST"
    assert (await service.trial(1)).state == Trial.STATE_ACTIVE


@asynchronous
async def test_a_late_result_is_taken_and_the_new_holder_told_to_cancel() -> None:
    service = Service()
    await service.create(quadratic(lease_s=10.0))
    old = (await service.ask()).trials[0]
    await service.pass_time(11.0)
    new = (await service.ask()).trials[0]
    result = await service.tell(old, completed(0.5))
    assert (result.status.code, result.was_late) == (0, True)
    assert (await service.trial(1)).late
    orders = await service.heartbeat(new)
    assert orders[0].action == pb.HeartbeatTrialsResponse.Directive.ACTION_CANCEL
    again = await service.tell(new, completed(0.7))
    assert again.status.reason == "TRIAL_ALREADY_FINISHED"


@asynchronous
async def test_a_late_result_of_a_queued_trial_is_taken() -> None:
    service = Service()
    await service.create(quadratic(lease_s=10.0))
    trial = (await service.ask()).trials[0]
    await service.pass_time(11.0)
    assert (await service.trial(1)).state == Trial.STATE_QUEUED
    result = await service.tell(1, completed())
    assert (result.state, result.was_late) == (Trial.STATE_COMPLETED, True)
    assert (await service.ask()).trials[0].number == trial.number + 1


@asynchronous
async def test_a_late_result_revives_a_trial_that_was_given_up_for_lost() -> None:
    service = Service()
    await service.create(quadratic(lease_s=10.0, max_attempts=1, max_trials=1))
    trial = (await service.ask()).trials[0]
    await service.pass_time(11.0)
    assert (await service.trial(1)).state == Trial.STATE_FAILED
    result = await service.tell(trial, completed())
    assert (result.state, result.was_late) == (Trial.STATE_COMPLETED, True)
    assert (await service.study()).state == study_pb2.Study.STATE_COMPLETED


@asynchronous
async def test_an_enqueued_trial_may_be_told_by_whoever_evaluated_it() -> None:
    service = Service()
    await service.create()
    await service.create_trial(0.5)
    result = await service.tell(1, completed())
    assert (result.state, result.was_late) == (Trial.STATE_COMPLETED, False)


@asynchronous
async def test_an_infeasible_point_is_final_and_counts_against_the_budget() -> None:
    service = Service()
    await service.create(quadratic(max_trials=1))
    trial = (await service.ask()).trials[0]
    outcome = trial_pb2.Outcome(infeasible=trial_pb2.Infeasible(message="diverged"))
    assert (await service.tell(trial, outcome)).state == Trial.STATE_INFEASIBLE
    stored = await service.trial(1)
    assert (stored.state_message, stored.feasible) == ("diverged", False)
    assert (await service.study()).state == study_pb2.Study.STATE_COMPLETED


@asynchronous
async def test_a_message_too_long_or_with_escapes_costs_only_its_own_text() -> None:
    service = Service()
    await service.create()
    trials = (await service.ask(2)).trials
    text = "bad mesh\n\x00\x1b[31m" + "x" * 1_000_000
    infeasible = trial_pb2.Outcome(infeasible=trial_pb2.Infeasible(message=text))
    assert (await service.tell(trials[0], infeasible)).state == Trial.STATE_INFEASIBLE
    assert (await service.tell(trials[0], infeasible)).was_duplicate
    await service.tell(trials[1], failed(text, final=True))
    for each in trials:
        message = (await service.trial(each.number)).state_message
        assert message.startswith("bad mesh\n  [31mxxx")
        assert len(message) == 4096


@asynchronous
async def test_whether_constraints_hold_is_stored_with_the_result() -> None:
    service = Service()
    await service.create(quadratic(constrained=True))
    trials = (await service.ask(2)).trials
    await service.tell(trials[0], completed(mass=0.9))
    await service.tell(trials[1], completed(mass=1.1))
    assert (await service.trial(1)).feasible is True
    assert (await service.trial(2)).feasible is False


@asynchronous
async def test_a_result_after_the_budget_is_spent_is_still_data() -> None:
    service = Service()
    await service.create(quadratic(max_trials=2))
    trials = (await service.ask(2)).trials
    await service.create_trial(0.5, completed(3.0))
    await service.tell(trials[0], completed())
    assert (await service.study()).state == study_pb2.Study.STATE_COMPLETED
    assert (await service.tell(trials[1], completed())).status.code == 0


@asynchronous
async def test_telling_never_waits_for_compute() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    service.compute.gate = asyncio.Event()
    asking = asyncio.create_task(service.ask())
    while len(service.compute.jobs) < 2:
        await asyncio.sleep(0)
    async with asyncio.timeout(1.0):
        await service.tell(trial, completed())
    service.compute.gate.set()
    await asking


@asynchronous
async def test_a_study_that_is_not_there_refuses_the_whole_tell() -> None:
    with refused(NotFoundError):
        await Service().tell(1, completed())


@asynchronous
async def test_a_trial_of_another_study_is_refused_by_name() -> None:
    service = Service()
    await service.create()
    request = tell_of((1, completed()))
    request.tells[0].trial = "projects/default/studies/other/trials/1"
    item = (await service.call("TellTrials", request)).results[0]
    assert item.status.violations[0].field == "trial"


@asynchronous
async def test_tell_and_ask_takes_one_round_trip_and_one_request_id() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    request = pb.TellAndAskRequest(
        tell=tell_of((1, completed())),
        ask=pb.AskTrialsRequest(parent=STUDY, worker_id="w"),
        request_id=new_id(),
    )
    first = await service.call("TellAndAsk", request)
    assert first.tell.results[0].status.code == 0
    assert first.ask.trials[0].number == trial.number + 1
    assert first.ask.trials[0].provenance.data_revision >= first.tell.revision
    assert await service.call("TellAndAsk", request) == first
    assert (await service.study()).stats.active == 1


@asynchronous
async def test_an_amended_result_replaces_the_first_one_which_stays_in_the_log() -> None:
    service = Service()
    await service.create(quadratic(constrained=True))
    trial = (await service.ask()).trials[0]
    await service.tell(trial, completed(1.0, mass=2.0))
    amended = await service.amend(1, completed(2.0, mass=0.5))
    assert amended.final_measurement.metrics["loss"].value == 2.0
    assert (amended.amendments, amended.feasible) == (1, True)
    assert [kind for kind in await service.events() if kind in ("told", "amended")] == [
        "told",
        "amended",
    ]


@asynchronous
async def test_amending_moves_the_cost_by_the_difference() -> None:
    service = Service()
    await service.create(quadratic(max_cost=100.0))
    trial = (await service.ask()).trials[0]
    await service.tell(trial, completed(cost=5.0))
    await service.amend(1, completed(cost=7.0))
    assert (await service.study()).stats.cost_spent == 7.0


@asynchronous
async def test_a_trial_without_a_result_cannot_be_amended() -> None:
    service = Service()
    await service.create()
    await service.ask()
    with refused(PreconditionError):
        await service.amend(1, completed())


@asynchronous
async def test_a_wrong_amendment_is_refused() -> None:
    service = Service()
    await service.create()
    await service.tell((await service.ask()).trials[0], completed())
    with refused(InvalidError, field="outcome.completed.metrics[other]"):
        await service.amend(1, completed(other=1.0))
