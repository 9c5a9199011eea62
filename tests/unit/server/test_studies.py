"""Founding, finding, listing and deleting studies; creating and listing trials; the best."""

import pytest

from bbopt.errors import (
    EmptyFeasibleSetError,
    EtagMismatchError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    SpecError,
    StudyDeletedError,
    StudyExistsError,
    StudyNotActiveError,
    UnsupportedError,
)
from bbopt.rpc.v1 import insight_service_pb2 as insight_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt_server.compute import ComputeUnavailableError, Recommendation
from bbopt_server.storage.store import Transaction
from tests.unit.server.service import (
    PARENT,
    STUDY,
    Service,
    asynchronous,
    completed,
    double,
    new_id,
    point,
    quadratic,
    refused,
)

Request = pb.CreateStudyRequest


async def best(service: Service, *, use_model: bool = False) -> insight_pb2.GetBestResponse:
    request = insight_pb2.GetBestRequest(name=STUDY, use_model=use_model)
    answer = await service.call("GetBest", request)
    assert isinstance(answer, insight_pb2.GetBestResponse)
    return answer


# Studies -----------------------------------------------------------------------------------


@asynchronous
async def test_a_study_without_a_seed_gets_one_that_stays() -> None:
    service = Service()
    created = await service.create()
    assert created.spec.seed > 0
    assert created.name == STUDY
    assert (await service.study()).spec.seed == created.spec.seed


@asynchronous
async def test_a_study_older_than_the_limit_of_leases_goes_on() -> None:
    service = Service()
    await service.create()
    spec = quadratic(lease_s=400 * 86400.0)

    def age(tx: Transaction) -> None:
        row = tx.study("default", "s")
        assert row is not None
        tx.update_study(row._replace(spec=spec.SerializeToString()))

    await service.store.transact(age)
    again = Service(service.store)
    assert (await again.study()).spec.lease.duration.seconds == 400 * 86400
    (trial,) = (await again.ask()).trials
    assert trial.lease.duration.seconds == 400 * 86400
    with refused(SpecError, field="study.spec.lease.duration"):
        await again.create(spec, study_id="new")


@asynchronous
async def test_a_repeated_creation_gets_the_same_study() -> None:
    service = Service()
    first = await service.create(request_id="the-same-one")
    assert await service.create(request_id="the-same-one") == first


@asynchronous
async def test_a_taken_name_is_refused_with_the_difference() -> None:
    service = Service()
    await service.create()
    other = quadratic(max_trials=5)
    other.parameters[0].double_domain.max = 2.0
    with pytest.raises(StudyExistsError) as caught:
        await service.create(other)
    assert "spec.problem.space.parameters[x].high: 1.0, not 2.0" in str(caught.value)
    assert "budget.trials" in str(caught.value)


@asynchronous
async def test_a_study_with_an_equal_definition_is_loaded_if_asked_for() -> None:
    service = Service()
    first = await service.create()
    loaded = await service.create(if_exists=Request.IF_EXISTS_LOAD_IF_SPEC_EQUAL)
    assert loaded.uid == first.uid
    with refused(StudyExistsError):
        await service.create(
            quadratic(max_trials=5), if_exists=Request.IF_EXISTS_LOAD_IF_SPEC_EQUAL
        )
    other = await service.create(quadratic(max_trials=5), if_exists=Request.IF_EXISTS_LOAD)
    assert other.uid == first.uid
    with refused(StudyExistsError):
        await service.create()


@asynchronous
async def test_a_trial_run_checks_everything_and_creates_nothing() -> None:
    service = Service()
    study = await service.create(validate_only=True)
    assert (study.uid, study.spec.parameters[0].id) == ("", "x")
    with refused(NotFoundError):
        await service.study()
    bad = quadratic()
    bad.parameters[0].double_domain.max = -1.0
    with refused(SpecError):
        await service.create(bad, validate_only=True)


@asynchronous
async def test_every_fault_of_a_definition_is_said_at_once() -> None:
    spec = quadratic()
    spec.parameters[0].double_domain.max = -1.0
    spec.parameters.append(double("y"))
    with pytest.raises(SpecError) as caught:
        await Service().create(spec)
    assert len(caught.value.violations) >= 2


@asynchronous
async def test_a_feature_that_the_strategy_lacks_is_named_with_those_that_have_it() -> None:
    spec = quadratic(strategy="gp")
    del spec.parameters[:]
    spec.parameters.extend(double(f"x{i}") for i in range(400))
    with pytest.raises(UnsupportedError) as caught:
        await Service().create(spec)
    assert "study.spec.strategy: gp cannot handle 400 searched parameters" in str(caught.value)
    assert "sobol" in str(caught.value)


@asynchronous
async def test_a_space_without_a_feasible_point_is_refused() -> None:
    spec = quadratic()
    total = {"x": 1.0, "y": 1.0}
    Linear = study_pb2.ParameterConstraint.Linear
    spec.parameter_constraints.add(linear=Linear(coefficients=total, lower=1.5))
    spec.parameter_constraints.add(linear=Linear(coefficients=total, upper=0.5))
    with pytest.raises(EmptyFeasibleSetError, match=r"constraints\[0\], constraints\[1\]"):
        await Service().create(spec)


async def check_that_it_is_gone(service: Service, uid: str) -> None:
    """Demand that a deleted study is told apart from one that never was here."""
    with refused(StudyDeletedError):
        await service.call("GetStudy", pb.GetStudyRequest(name=STUDY, study_uid=uid))
    with pytest.raises(NotFoundError) as caught:
        await service.call("GetStudy", pb.GetStudyRequest(name=STUDY, study_uid="elsewhere"))
    assert type(caught.value) is NotFoundError


@asynchronous
async def test_a_deleted_study_is_gone_and_its_name_free() -> None:
    service = Service()
    first = await service.create()
    request = pb.DeleteStudyRequest(name=STUDY, etag=first.etag, request_id=new_id())
    await service.call("DeleteStudy", request)
    await service.call("DeleteStudy", request)  # Repeated: the same answer.
    with refused(NotFoundError):
        await service.study()
    with refused(NotFoundError):
        await service.tell(1, completed())
    assert service.compute.forgotten == [first.uid]
    await check_that_it_is_gone(service, first.uid)
    second = await service.create()
    await check_that_it_is_gone(service, first.uid)
    assert second.uid != first.uid
    listing = pb.ListStudiesRequest(parent=PARENT, show_deleted=True)
    states = [each.state for each in (await service.call("ListStudies", listing)).studies]
    assert states == [study_pb2.Study.STATE_DELETED, study_pb2.Study.STATE_ACTIVE]


@asynchronous
async def test_a_study_that_changed_meanwhile_is_not_deleted() -> None:
    service = Service()
    etag = (await service.create(quadratic(max_trials=1))).etag
    await service.tell((await service.ask()).trials[0], completed())
    with refused(EtagMismatchError):
        await service.call(
            "DeleteStudy", pb.DeleteStudyRequest(name=STUDY, etag=etag, request_id=new_id())
        )


@asynchronous
async def test_studies_are_listed_in_pages() -> None:
    service = Service()
    for index in range(5):
        await service.create(study_id=f"s{index}")
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListStudiesRequest(parent=PARENT, page_size=2, page_token=token)
        page = await service.call("ListStudies", request)
        found.extend(each.name for each in page.studies)
        token = page.next_page_token
        if not token:
            break
    assert found == [f"{PARENT}/studies/s{index}" for index in range(5)]
    with refused(InvalidError, field="page_token"):
        await service.call(
            "ListStudies",
            pb.ListStudiesRequest(parent="projects/other", page_token=_first_token(found)),
        )


def _first_token(_: list[str]) -> str:
    return "MS5mZmZmZmZmZmZmZmZmZmZm"


@asynchronous
async def test_labels_and_names_come_back_as_given() -> None:
    service = Service()
    study = study_pb2.Study(display_name="Überlauf ✓", labels={"team": "vision"})
    created = await service.create(study=study)
    assert created.display_name == "Überlauf ✓"
    assert dict(created.labels) == {"team": "vision"}
    assert dict((await service.study()).labels) == {"team": "vision"}


# Trials ------------------------------------------------------------------------------------


@asynchronous
async def test_an_observation_is_recorded_without_a_worker() -> None:
    service = Service()
    await service.create()
    trial = await service.create_trial(0.25, completed(4.0))
    assert trial.state == trial_pb2.Trial.STATE_COMPLETED
    assert trial.final_measurement.metrics["loss"].value == 4.0
    assert await service.events() == ["study_changed", "enqueued", "told"]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        (point(x=0.5), "parameters[y]"),
        (point(x=0.5, y=0.5, z=1.0), "parameters[z]"),
        (point(x=0.5, y=1.0000001), "parameters[y]"),
        ({"x": study_pb2.ParamValue(string_value="a"), **point(y=0.5)}, "parameters[x]"),
        ({"x": study_pb2.ParamValue(bool_value=True), **point(y=0.5)}, "parameters[x]"),
        ({"x": study_pb2.ParamValue(), **point(y=0.5)}, "parameters[x]"),
        (point(x=float("nan"), y=0.5), "parameters[x]"),
    ],
)
def test_a_point_outside_the_space_is_refused_by_field(
    parameters: dict[str, study_pb2.ParamValue], field: str
) -> None:
    @asynchronous
    async def scenario() -> None:
        service = Service()
        await service.create()
        request = pb.CreateTrialRequest(
            parent=STUDY, parameters=parameters, request_id=new_id()
        )
        with refused(InvalidError, field=field):
            await service.call("CreateTrial", request)
        assert (await service.study()).stats.queued == 0

    scenario()


@asynchronous
async def test_a_whole_number_is_a_fine_value_of_a_real_parameter() -> None:
    service = Service()
    await service.create()
    request = pb.CreateTrialRequest(parent=STUDY, request_id=new_id())
    request.parameters["x"].int_value = 1
    request.parameters["y"].double_value = 0.5
    trial = await service.call("CreateTrial", request)
    assert trial.parameters["x"].double_value == 1.0


@asynchronous
async def test_nothing_is_enqueued_in_a_completed_study() -> None:
    service = Service()
    await service.create(quadratic(max_trials=1))
    await service.tell((await service.ask()).trials[0], completed())
    with refused(StudyNotActiveError):
        await service.create_trial(0.5)


@asynchronous
async def test_trials_are_listed_in_pages_by_state_and_since_a_revision() -> None:
    service = Service()
    await service.create()
    trials = list((await service.ask(5)).trials)
    for trial in trials[:3]:
        await service.tell(trial, completed())
    request = pb.ListTrialsRequest(
        parent=STUDY, page_size=2, states=[trial_pb2.Trial.STATE_COMPLETED]
    )
    first = await service.call("ListTrials", request)
    request.page_token = first.next_page_token
    second = await service.call("ListTrials", request)
    assert [each.number for each in (*first.trials, *second.trials)] == [1, 2, 3]
    assert second.next_page_token == ""
    since = pb.ListTrialsRequest(parent=STUDY, since_revision=first.revision - 1)
    assert [each.number for each in (await service.call("ListTrials", since)).trials] == [3]
    request.states.append(trial_pb2.Trial.STATE_ACTIVE)
    with refused(InvalidError, field="page_token"):
        await service.call("ListTrials", request)


@pytest.mark.parametrize("token", ["garbage", "x" * 4000, "MQ==", "é", "LTEuYWI="])
def test_a_forged_page_token_is_refused(token: str) -> None:
    @asynchronous
    async def scenario() -> None:
        service = Service()
        await service.create()
        with refused(InvalidError, field="page_token"):
            await service.call(
                "ListTrials", pb.ListTrialsRequest(parent=STUDY, page_token=token)
            )

    scenario()


@asynchronous
async def test_a_trial_that_is_not_there_is_not_found() -> None:
    service = Service()
    await service.create()
    with refused(NotFoundError):
        await service.trial(1)


# The best ----------------------------------------------------------------------------------


@asynchronous
async def test_the_best_is_the_smallest_of_what_is_minimised() -> None:
    service = Service()
    await service.create()
    assert not (await best(service)).HasField("trial")
    for loss in (3.0, 1.0, 2.0):
        await service.create_trial(0.5, completed(loss))
    answer = await best(service)
    assert (answer.trial.number, answer.feasible) == (2, True)


@asynchronous
async def test_the_best_is_the_largest_of_what_is_maximised() -> None:
    service = Service()
    spec = quadratic()
    spec.metrics[0].goal = study_pb2.Metric.GOAL_MAXIMIZE
    await service.create(spec)
    for loss in (3.0, 1.0, 2.0):
        await service.create_trial(0.5, completed(loss))
    assert (await best(service)).trial.number == 1


@asynchronous
async def test_a_feasible_trial_beats_a_better_one_that_is_not() -> None:
    service = Service()
    await service.create(quadratic(constrained=True))
    trials = (await service.ask(4)).trials
    await service.tell(trials[0], completed(1.0, mass=5.0))
    await service.tell(trials[1], completed(2.0, mass=3.0))
    answer = await best(service)
    assert (answer.trial.number, answer.feasible) == (2, False)
    await service.tell(trials[2], completed(9.0, mass=0.5))
    answer = await best(service)
    assert (answer.trial.number, answer.feasible) == (3, True)


@asynchronous
async def test_the_model_may_name_the_best_and_the_measured_one_stands_in_for_it() -> None:
    service = Service()
    await service.create()
    for loss in (3.0, 1.0):
        await service.create_trial(0.5, completed(loss))
    service.compute.recommendation = Recommendation(1, "smallest posterior mean")
    answer = await best(service, use_model=True)
    assert (answer.trial.number, answer.reason) == (1, "smallest posterior mean")
    service.compute.error = ComputeUnavailableError("down")
    answer = await best(service, use_model=True)
    assert answer.trial.number == 2
    assert "down" in answer.reason


@asynchronous
async def test_predictions_are_asked_of_the_model_at_valid_points_only() -> None:
    service = Service()
    await service.create()
    good = insight_pb2.Point(parameters=point(x=0.5, y=0.5))
    bad = insight_pb2.Point(parameters=point(x=5.0, y=0.5))
    answer = await service.call(
        "Predict", insight_pb2.PredictRequest(name=STUDY, points=[good])
    )
    assert len(answer.rows) == 1
    with refused(InvalidError, field="points[1].parameters[x]"):
        await service.call(
            "Predict", insight_pb2.PredictRequest(name=STUDY, points=[good, bad])
        )


@asynchronous
async def test_a_finished_trial_cannot_be_stopped() -> None:
    service = Service()
    await service.create()
    await service.create_trial(0.5, completed())
    with refused(PreconditionError):
        await service.stop_trial(1)
