"""Reports that are answered with an order to stop, by the rungs of the log."""

from bbopt.errors import UnavailableError, UnsupportedError
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt_server.storage.store import Transaction
from tests.unit.server.service import (
    Service,
    asynchronous,
    completed,
    quadratic,
    refused,
)

CONTINUE = study_pb2.AshaStrategy.PROMOTION_CONTINUE


def halving(*, runs_on: bool = True) -> study_pb2.StudySpec:
    spec = quadratic(strategy="asha")
    spec.fidelity.CopyFrom(study_pb2.Fidelity(id="epochs", low=1, high=9))
    if runs_on:
        spec.strategy.asha.promotion = CONTINUE
    return spec


@asynchronous
async def test_a_report_at_a_rung_is_answered_with_who_goes_on() -> None:
    service = Service()
    await service.create(halving())
    trials = (await service.ask(4)).trials
    answers = [await service.report(trials[i], {1: loss}) for i, loss in enumerate((3, 2, 1))]
    assert [each.should_stop for each in answers] == [True, True, False]
    assert "where 2 have been measured" in answers[1].reason
    assert [(await service.trial(n)).state for n in (1, 3)] == [
        trial_pb2.Trial.STATE_STOPPING,
        trial_pb2.Trial.STATE_ACTIVE,
    ]
    directives = await service.heartbeat(trials[0], trials[2])
    actions = pb.HeartbeatTrialsResponse.Directive
    assert [each.action for each in directives] == [
        actions.ACTION_STOP_EARLY,
        actions.ACTION_CONTINUE,
    ]


@asynchronous
async def test_a_repeated_report_gets_the_same_answer_and_one_order() -> None:
    service = Service()
    await service.create(halving())
    (trial,) = (await service.ask()).trials
    first = await service.report(trial, {1: 3.0}, request_id="request-again")
    again = await service.report(trial, {1: 3.0}, request_id="request-again")
    assert (first.should_stop, again) == (True, first)
    assert (await service.events()).count("stop_requested") == 1
    later = await service.report(trial, {2: 2.5})
    assert later.should_stop
    assert (await service.events()).count("stop_requested") == 1


@asynchronous
async def test_a_trial_that_ends_at_its_rung_is_only_stopped_beyond_it() -> None:
    service = Service()
    await service.create(halving(runs_on=False))
    (trial,) = (await service.ask()).trials
    assert (trial.stage.fidelity, trial.stage.resume_from) == (1, 0)
    assert not (await service.report(trial, {1: 3.0})).should_stop
    assert (await service.report(trial, {2: 3.0})).should_stop


@asynchronous
async def test_a_report_that_was_not_committed_does_not_count() -> None:
    service = Service()
    await service.create(halving())
    trials = (await service.ask(4)).trials
    for trial, loss in zip(trials[:2], (3.0, 2.0), strict=True):
        await service.report(trial, {1: loss})

    transact = service.store.transact

    async def failing(work: object, **options: object) -> object:
        def undone(tx: Transaction) -> None:
            work(tx)  # type: ignore[operator]
            raise UnavailableError("the disk is full")

        return await transact(undone, **options)  # type: ignore[arg-type]

    service.store.transact = failing  # type: ignore[method-assign, assignment]
    with refused(UnavailableError):
        await service.report(trials[2], {1: 0.5})
    service.store.transact = transact  # type: ignore[method-assign]
    service.clock.now_s += 1.0
    # Its event has the position of the one that was undone.
    answer = await service.report(trials[3], {1: 2.5})
    assert answer.should_stop
    assert "where 3 have been measured" in answer.reason


@asynchronous
async def test_points_of_people_have_a_stage_too() -> None:
    service = Service()
    await service.create(halving(runs_on=False))
    assert (await service.create_trial(0.5)).stage.fidelity == 1
    assert (await service.create_trial(0.5, completed())).stage.fidelity == 9


@asynchronous
async def test_other_strategies_are_never_told_to_stop() -> None:
    service = Service()
    spec = halving()
    spec.strategy.sobol.SetInParent()
    await service.create(spec)
    (trial,) = (await service.ask()).trials
    assert trial.stage.fidelity == 9
    assert not (await service.report(trial, {1: 9.0})).should_stop


@asynchronous
async def test_asha_needs_a_fidelity() -> None:
    service = Service()
    with refused(UnsupportedError, field="study.spec.strategy"):
        await service.create(quadratic(strategy="asha"))
