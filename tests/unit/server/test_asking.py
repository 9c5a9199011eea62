"""What an ask hands out, in what order, how much, and what happens without a model."""

import asyncio

import pytest

from bbopt.errors import (
    DeadlineError,
    ExhaustedError,
    InvalidError,
    LimitError,
    NotFoundError,
    RequestIdReusedError,
    UnavailableError,
)
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2
from bbopt_server.compute import (
    ComputeFailedError,
    ComputeUnavailableError,
    StudyLog,
    Suggestions,
)
from bbopt_server.compute.connection import NotInstalledError
from bbopt_server.studies.jobs import MAX_ROUNDS
from tests.unit.server.service import (
    STUDY,
    Service,
    asynchronous,
    completed,
    failed,
    new_id,
    quadratic,
    refused,
    seconds,
)

Reason = pb.AskTrialsResponse


@asynchronous
async def test_trials_are_numbered_from_one_without_gaps() -> None:
    service = Service()
    await service.create()
    answers = [await service.ask(2), await service.ask(1), await service.ask(3)]
    numbers = [trial.number for answer in answers for trial in answer.trials]
    assert numbers == [1, 2, 3, 4, 5, 6]
    assert all(answer.reason == Reason.REASON_COUNT_MET for answer in answers)


@asynchronous
async def test_a_repeated_ask_gets_the_same_trials_and_leases() -> None:
    service = Service()
    await service.create()
    first = await service.ask(2, request_id="the-same-one")
    again = await service.ask(2, request_id="the-same-one")
    assert again == first
    assert len(service.compute.jobs) == 1
    assert (await service.ask()).trials[0].number == 3


@asynchronous
async def test_a_request_id_that_comes_back_with_another_request_is_refused() -> None:
    service = Service()
    await service.create()
    await service.ask(2, request_id="the-same-one")
    with refused(RequestIdReusedError):
        await service.ask(3, request_id="the-same-one")


@pytest.mark.parametrize("request_id", ["", "short", "x" * 65, "with space", "slash/es-1"])
def test_a_malformed_request_id_is_refused(request_id: str) -> None:
    async def scenario() -> None:
        service = Service()
        await service.create()
        with refused(InvalidError, field="request_id"):
            await service.ask(request_id=request_id)

    asyncio.run(scenario())


@asynchronous
async def test_waiting_trials_go_out_first_lowest_number_first() -> None:
    service = Service()
    await service.create()
    await service.create_trial(0.25)
    await service.create_trial(0.75)
    answer = await service.ask(3)
    assert [trial.parameters["x"].double_value for trial in answer.trials[:2]] == [0.25, 0.75]
    assert [trial.number for trial in answer.trials] == [1, 2, 3]
    assert [trial.provenance.generator for trial in answer.trials] == [
        "enqueued",
        "enqueued",
        "fake",
    ]
    assert [count for _, count, _ in service.compute.jobs] == [1]


@asynchronous
async def test_the_queue_alone_needs_no_compute() -> None:
    service = Service()
    await service.create()
    await service.create_trial(0.25)
    service.compute.error = ComputeUnavailableError("down")
    assert (await service.ask()).trials[0].provenance.generator == "enqueued"
    assert service.compute.jobs == []


@asynchronous
async def test_no_more_is_handed_out_than_the_budget_has_open() -> None:
    service = Service()
    await service.create(quadratic(max_trials=3))
    first = await service.ask(2)
    rest = await service.ask(5)
    assert [len(first.trials), len(rest.trials)] == [2, 1]
    assert rest.reason == Reason.REASON_WAITING_FOR_RESULTS
    assert rest.retry_after.ToTimedelta().total_seconds() > 0
    none = await service.ask(max_wait=seconds(0))
    assert (len(none.trials), none.reason) == (0, Reason.REASON_WAITING_FOR_RESULTS)


@asynchronous
async def test_a_failed_trial_gives_its_part_of_the_budget_back() -> None:
    service = Service()
    await service.create(quadratic(max_trials=1))
    trial = (await service.ask()).trials[0]
    await service.tell(trial, failed(final=True))
    assert (await service.ask()).trials[0].number == 2


@asynchronous
async def test_a_spent_budget_completes_the_study_and_says_so() -> None:
    service = Service()
    await service.create(quadratic(max_trials=1))
    await service.tell((await service.ask()).trials[0], completed())
    answer = await service.ask()
    assert answer.reason == Reason.REASON_BUDGET_EXHAUSTED
    assert answer.study_state == study_pb2.Study.STATE_COMPLETED
    study = await service.study()
    assert study.state_reason.code == study_pb2.StateReason.CODE_TRIAL_BUDGET
    assert (await service.events())[-1] == "study_changed"


@asynchronous
async def test_a_spent_cost_budget_completes_the_study() -> None:
    service = Service()
    await service.create(quadratic(max_cost=5.0))
    trials = (await service.ask(2)).trials
    await service.tell(trials[0], completed(cost=3.0))
    assert (await service.study()).state == study_pb2.Study.STATE_ACTIVE
    await service.tell(trials[1], completed(cost=2.5))
    study = await service.study()
    assert study.state_reason.code == study_pb2.StateReason.CODE_COST_BUDGET
    assert study.stats.cost_spent == 5.5


@asynchronous
async def test_an_ask_waits_for_a_trial_that_comes_back() -> None:
    service = Service()
    await service.create(quadratic(max_trials=1))
    trial = (await service.ask()).trials[0]
    waiting = asyncio.create_task(service.ask(worker_id="other"))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await service.release(trial)
    got = (await waiting).trials[0]
    assert (got.number, got.parameters) == (trial.number, trial.parameters)
    assert got.lease.worker_id == "other"


@asynchronous
async def test_an_ask_that_waits_in_vain_times_out_and_leaves_no_trace() -> None:
    service = Service()
    await service.create(quadratic(max_trials=1))
    await service.ask()
    events = await service.events()
    answer = await service.ask(max_wait=seconds(0.02))
    assert (len(answer.trials), answer.reason) == (0, Reason.REASON_TIMED_OUT)
    assert await service.events() == events


@asynchronous
async def test_an_ask_that_waits_ends_when_the_budget_is_met() -> None:
    service = Service()
    await service.create(quadratic(max_trials=1))
    trial = (await service.ask()).trials[0]
    waiting = asyncio.create_task(service.ask())
    await asyncio.sleep(0.01)
    await service.tell(trial, completed())
    assert (await waiting).reason == Reason.REASON_BUDGET_EXHAUSTED


@asynchronous
async def test_asks_that_wait_for_compute_share_one_job() -> None:
    service = Service()
    await service.create()
    service.compute.gate = asyncio.Event()
    first = asyncio.create_task(service.ask())
    while not service.compute.jobs:
        await asyncio.sleep(0)
    others = [asyncio.create_task(service.ask(2, worker_id=f"w{i}")) for i in range(8)]
    await asyncio.sleep(0.01)
    service.compute.gate.set()
    answers = await asyncio.gather(first, *others)
    numbers = [trial.number for answer in answers for trial in answer.trials]
    assert sorted(numbers) == list(range(1, 18))
    assert service.compute.jobs[0][1] == 1
    assert service.compute.jobs[-1][1] == 16
    # The first job saw no other ask; the second one saw its trial.
    assert len(service.compute.jobs) == 2
    assert (await service.events()).count("asked") == 2


@asynchronous
async def test_the_next_job_knows_of_the_trials_that_the_one_before_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service()
    await service.create()
    suggest, known = service.compute.suggest, []

    async def note(study: StudyLog, count: int, *, time_left_s: float | None) -> Suggestions:
        known.append(study.revision)
        return await suggest(study, count, time_left_s=time_left_s)

    monkeypatch.setattr(service.compute, "suggest", note)
    service.compute.gate = asyncio.Event()
    first = asyncio.create_task(service.ask())
    while not service.compute.jobs:
        await asyncio.sleep(0)
    second = asyncio.create_task(service.ask())
    await asyncio.sleep(0.01)
    service.compute.gate.set()
    await asyncio.gather(first, second)
    # Compute is sent the events that a job knows of. Not to know of the first one's trial
    # would have been to compute the same point again, for nothing.
    assert known == [1, 2]


@asynchronous
async def test_points_are_computed_again_when_a_result_came_meanwhile() -> None:
    service = Service()
    await service.create()
    open_trial = (await service.ask()).trials[0]
    service.compute.gate = asyncio.Event()
    asking = asyncio.create_task(service.ask())
    while len(service.compute.jobs) < 2:
        await asyncio.sleep(0)
    await service.tell(open_trial, completed())
    told_at = (await service.study()).revision
    service.compute.gate.set()
    trial = (await asking).trials[0]
    assert trial.provenance.data_revision == told_at
    assert len(service.compute.jobs) == 3


@asynchronous
async def test_points_that_no_data_can_change_are_not_computed_again() -> None:
    service = Service()
    await service.create(quadratic(strategy="sobol"))
    open_trial = (await service.ask()).trials[0]
    service.compute.gate = asyncio.Event()
    asking = asyncio.create_task(service.ask())
    while len(service.compute.jobs) < 2:
        await asyncio.sleep(0)
    await service.tell(open_trial, completed())
    service.compute.gate.set()
    await asking
    assert len(service.compute.jobs) == 2


@asynchronous
async def test_computing_again_ends_though_results_keep_coming() -> None:
    service = Service()
    await service.create()
    trials = list((await service.ask(10)).trials)
    suggest = service.compute.suggest

    async def suggest_while_told(
        study: StudyLog,
        count: int,
        *,
        time_left_s: float | None,
        is_ahead: bool = False,
    ) -> Suggestions:
        found = await suggest(study, count, time_left_s=time_left_s, is_ahead=is_ahead)
        await service.tell(trials.pop(), completed())
        return found

    service.compute.suggest = suggest_while_told  # type: ignore[method-assign]
    trial = (await service.ask()).trials[0]
    assert len(service.compute.jobs) == 1 + MAX_ROUNDS
    assert trial.provenance.data_revision < trial.revision - 1


@asynchronous
async def test_points_of_a_caller_that_left_wait_in_the_queue() -> None:
    service = Service()
    await service.create()
    service.compute.gate = asyncio.Event()
    stays = asyncio.create_task(service.ask())
    leaves = asyncio.create_task(service.ask())
    while not service.compute.jobs:
        await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.gather(leaves, return_exceptions=True)
    service.compute.gate.set()
    assert (await stays).trials[0].number == 1
    assert [count for _, count, _ in service.compute.jobs] == [2]
    left = await service.trial(2)
    assert left.state == left.STATE_QUEUED
    assert (await service.ask()).trials[0].number == 2


@asynchronous
async def test_points_become_no_trials_when_the_budget_was_taken_meanwhile() -> None:
    service = Service()
    await service.create(quadratic(strategy="sobol", max_trials=1))
    service.compute.gate = asyncio.Event()
    asking = asyncio.create_task(service.ask())
    while not service.compute.jobs:
        await asyncio.sleep(0)
    await service.create_trial(0.5)
    service.compute.gate.set()
    assert [each.provenance.generator for each in (await asking).trials] == ["enqueued"]
    assert (await service.study()).stats.queued == 0


@asynchronous
async def test_nothing_becomes_a_trial_when_every_caller_left() -> None:
    service = Service()
    await service.create()
    service.compute.gate = asyncio.Event()
    leaves = asyncio.create_task(service.ask())
    while not service.compute.jobs:
        await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.gather(leaves, return_exceptions=True)
    service.compute.gate.set()
    await asyncio.sleep(0.01)
    assert await service.events() == ["study_changed"]


@asynchronous
async def test_near_the_deadline_a_cheaper_point_is_handed_out_and_marked() -> None:
    service = Service()
    await service.create()
    service.compute.gate = asyncio.Event()
    trial = (await service.ask(time_left_s=0.05)).trials[0]
    assert trial.provenance.generator == "fallback"
    assert trial.provenance.degraded_from == "gp"
    assert "deadline" in trial.provenance.reason
    assert set(trial.parameters) == {"x", "y"}


@asynchronous
async def test_a_fallback_is_a_function_of_the_seed_and_the_number() -> None:
    points = []
    for _ in range(2):
        service = Service()
        spec = quadratic()
        spec.seed = 7
        await service.create(spec)
        service.compute.error = ComputeUnavailableError("down")
        points.append([trial.parameters for trial in (await service.ask(2)).trials])
    assert points[0] == points[1]
    assert points[0][0] != points[0][1]


@pytest.mark.parametrize("error", [ComputeUnavailableError("down"), ComputeFailedError("hung")])
def test_without_a_working_model_asks_are_still_answered(error: UnavailableError) -> None:
    async def scenario() -> None:
        service = Service()
        await service.create()
        service.compute.error = error
        trial = (await service.ask()).trials[0]
        assert trial.provenance.generator == "fallback"
        assert str(error) in trial.provenance.reason
        service.compute.error = None
        assert (await service.ask()).trials[0].provenance.generator == "fake"

    asyncio.run(scenario())


@asynchronous
async def test_a_caller_that_allows_no_fallback_hears_that_there_was_no_time() -> None:
    service = Service()
    await service.create()
    service.compute.gate = asyncio.Event()
    with refused(DeadlineError):
        await service.ask(time_left_s=0.05, degrade=pb.AskTrialsRequest.DEGRADE_NEVER)
    assert await service.events() == ["study_changed"]


@asynchronous
async def test_a_server_without_an_engine_says_so_instead_of_degrading() -> None:
    service = Service()
    await service.create()
    service.compute.error = NotInstalledError("pip install 'bbopt[server]'")
    with refused(NotInstalledError):
        await service.ask()
    await service.create_trial(0.5)
    assert (await service.tell(1, completed())).status.code == 0


@asynchronous
async def test_an_exhausted_space_is_said_and_completes_the_study() -> None:
    service = Service()
    await service.create()
    service.compute.n_left = 2
    answer = await service.ask(3)
    assert (len(answer.trials), answer.reason) == (2, Reason.REASON_WAITING_FOR_RESULTS)
    assert (await service.ask()).reason == Reason.REASON_SPACE_EXHAUSTED
    for trial in answer.trials:
        await service.tell(trial, completed())
    last = await service.ask()
    assert last.reason == Reason.REASON_SPACE_EXHAUSTED
    assert last.study_state == study_pb2.Study.STATE_COMPLETED


@asynchronous
async def test_draining_ends_asks_that_wait_and_refuses_new_ones() -> None:
    service = Service()
    await service.create()
    service.compute.gate = asyncio.Event()
    waiting = asyncio.create_task(service.ask())
    while not service.compute.jobs:
        await asyncio.sleep(0)
    await service.studies.drain()
    with refused(UnavailableError):
        await waiting
    with refused(UnavailableError):
        await service.ask()
    with refused(NotFoundError):
        await service.tell(1, completed(), parent=f"{STUDY}-other")


@asynchronous
async def test_an_ask_of_a_study_that_is_not_there_is_refused() -> None:
    with refused(NotFoundError):
        await Service().ask()


@asynchronous
async def test_a_study_deleted_while_asked_is_not_found() -> None:
    service = Service()
    await service.create()
    service.compute.gate = asyncio.Event()
    waiting = asyncio.create_task(service.ask())
    while not service.compute.jobs:
        await asyncio.sleep(0)
    await service.call("DeleteStudy", pb.DeleteStudyRequest(name=STUDY, request_id=new_id()))
    service.compute.gate.set()
    with refused(NotFoundError):
        await waiting


@asynchronous
async def test_an_ask_need_not_wait_for_a_job_that_takes_long_where_a_trial_waits() -> None:
    service = Service()
    await service.create(quadratic(strategy="sobol"))
    service.compute.gate = asyncio.Event()
    slow = asyncio.create_task(service.ask())
    while not service.compute.jobs:
        await asyncio.sleep(0)
    await service.create_trial(0.5)
    assert [trial.number for trial in (await service.ask()).trials] == [1]
    service.compute.gate.set()
    assert [trial.number for trial in (await slow).trials] == [2]


@asynchronous
async def test_an_ask_hears_nothing_of_a_study_that_had_its_name_before() -> None:
    service = Service()
    await service.create(quadratic(strategy="sobol"))
    service.compute.gate = asyncio.Event()
    of_the_old = asyncio.create_task(service.ask())
    while not service.compute.jobs:
        await asyncio.sleep(0)
    await service.call("DeleteStudy", pb.DeleteStudyRequest(name=STUDY, request_id=new_id()))
    await service.create(quadratic(strategy="sobol"))
    of_the_new = asyncio.create_task(service.ask())
    await asyncio.sleep(0.01)
    service.compute.gate.set()
    with refused(NotFoundError):
        await of_the_old
    assert [trial.number for trial in (await of_the_new).trials] == [1]
    assert (await service.study()).stats.active == 1


@asynchronous
async def test_a_repetition_among_other_asks_gets_its_answer_and_takes_no_point() -> None:
    service = Service()
    await service.create(quadratic(strategy="sobol"))
    answer = await service.ask(request_id="the-same-one")
    service.compute.gate = asyncio.Event()
    other = asyncio.create_task(service.ask())
    while len(service.compute.jobs) < 2:
        await asyncio.sleep(0)
    again = asyncio.create_task(service.ask(request_id="the-same-one"))
    reused = asyncio.create_task(service.ask(2, request_id="the-same-one"))
    last = asyncio.create_task(service.ask())
    await asyncio.sleep(0.01)
    service.compute.gate.set()
    assert await again == answer
    with refused(RequestIdReusedError):
        await reused
    numbers = [each.trials[0].number for each in (await other, await last, await service.ask())]
    assert numbers == [2, 3, 4]
    assert (await service.study()).stats.active == 4


@asynchronous
async def test_a_repetition_that_overtakes_its_call_shares_the_answer() -> None:
    service = Service()
    await service.create()
    service.compute.gate = asyncio.Event()
    asks = [asyncio.create_task(service.ask(request_id="the-same-one")) for _ in range(3)]
    while not service.compute.jobs:
        await asyncio.sleep(0)
    service.compute.gate.set()
    answers = await asyncio.gather(*asks)
    assert answers[0] == answers[1] == answers[2]
    assert (await service.study()).stats.active == 1


@asynchronous
async def test_a_fallback_meanwhile_does_not_make_the_model_start_over_for_ever() -> None:
    service = Service()
    await service.create()
    service.compute.gate = asyncio.Event()
    slow = asyncio.create_task(service.ask(worker_id="slow"))
    while not service.compute.jobs:
        await asyncio.sleep(0)
    hurried = (await service.ask(time_left_s=0.02)).trials[0]
    assert hurried.provenance.generator == "fallback"
    service.compute.gate.set()
    trial = (await slow).trials[0]
    assert (trial.number, trial.provenance.generator) == (2, "fake")
    assert trial.provenance.data_revision == hurried.revision


@asynchronous
async def test_a_study_full_of_unfinished_trials_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bbopt_server.studies.room.MAX_OPEN", 3)
    service = Service()
    await service.create()
    assert len((await service.ask(5)).trials) == 3
    with pytest.raises(ExhaustedError) as caught:
        await service.ask()
    assert caught.value.retry_after_s == 60.0  # No client waits so long.
    await service.tell(1, completed())
    assert len((await service.ask(5)).trials) == 1


@asynchronous
async def test_a_study_at_its_last_trial_says_so_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bbopt_server.studies.room.MAX_TRIALS", 2)
    service = Service()
    await service.create()
    for trial in (await service.ask(5)).trials:
        await service.tell(trial, completed())
    with refused(LimitError):
        await service.ask()


@asynchronous
async def test_answers_are_forgotten_after_a_week_and_not_before() -> None:
    service = Service()
    await service.create()
    await service.ask(request_id="the-same-one")
    service.clock.now_s += 6 * 24 * 3600.0
    assert await service.studies.sweeper.drop_old_responses() == 0
    service.clock.now_s += 2 * 24 * 3600.0
    assert await service.studies.sweeper.drop_old_responses() == 2


@asynchronous
async def test_answers_of_a_clock_that_was_far_ahead_do_not_hold_up_forgetting() -> None:
    service = Service()
    await service.create()
    await service.ask(request_id="of-next-week")
    service.clock.now_s -= 6 * 24 * 3600.0
    assert await service.studies.sweeper.drop_old_responses() == 0
    service.clock.now_s -= 2 * 24 * 3600.0
    assert await service.studies.sweeper.drop_old_responses() == 2
    assert (await service.ask(request_id="the-same-one")).trials[0].number == 2
