import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bbopt.errors import (
    InvalidError,
    LeaseLostError,
    NotFoundError,
    SpecError,
    TrialFinishedError,
    UnavailableError,
)
from bbopt.rpc.v1 import optimization_service_pb2 as pb2
from bbopt.rpc.v1 import study_pb2
from bbopt.specs import GPSpec, Quality
from bbopt.trial import Completed, Failed, Measurement, Stopped, TrialState, Value
from bbopt_client import (
    AskReason,
    Budget,
    Categorical,
    Client,
    Directive,
    Float,
    Int,
    Linear,
    Space,
    Study,
    StudyState,
    Trial,
)
from tests.unit.client.conftest import FAST
from tests.unit.client.fake_server import FakeServer, FakeService, Fault


@pytest.fixture
def rich(client: Client) -> Study:
    """A study with a constraint, a tracked metric and several kinds of parameters."""
    return client.create_study(
        "rich",
        space=[Float("x", 0, 1), Int("n", 1, 9), Categorical("kind", ("a", "b"))],
        objective="accuracy",
        constraints=["latency_ms <= 20"],
        metrics=["memory"],
    )


# Studies -------------------------------------------------------------------------------------


def test_a_study_reads_its_definition_back(rich: Study, client: Client) -> None:
    opened = client.study("rich")

    assert opened.id == "rich"
    assert opened.uid == rich.uid
    assert opened.spec == rich.spec
    assert [metric.name for metric in opened.problem.metrics] == [
        "accuracy",
        "latency_ms",
        "memory",
    ]


@pytest.mark.parametrize(
    ("if_exists", "number"),
    [
        ("fail", pb2.CreateStudyRequest.IF_EXISTS_FAIL),
        ("load_if_equal", pb2.CreateStudyRequest.IF_EXISTS_LOAD_IF_SPEC_EQUAL),
        ("load", pb2.CreateStudyRequest.IF_EXISTS_LOAD),
    ],
)
def test_what_to_do_with_a_taken_name_is_sent(
    client: Client, service: FakeService, if_exists: str, number: int
) -> None:
    client.create_study(
        "s",
        space=[Float("x", 0, 1)],
        objective="loss",
        if_exists=if_exists,  # type: ignore[arg-type]
    )

    assert service.requests("CreateStudy")[0].if_exists == number


def test_everything_about_a_study_is_sent(client: Client, service: FakeService) -> None:
    client.create_study(
        "s",
        space=[Float("x", 0, 1)],
        objective="-loss",
        strategy=GPSpec(n_initial=4, quality=Quality.FAST),
        seed=2**64 - 1,
        lease_s=0,
        max_attempts=7,
        trials=12,
        labels={"team": "a"},
        project="p",
        validate_only=True,
    )

    (request,) = service.requests("CreateStudy")
    spec = request.study.spec
    assert request.parent == "projects/p"
    assert request.validate_only
    assert dict(request.study.labels) == {"team": "a"}
    assert (spec.seed, spec.budget.max_trials, spec.lease.max_attempts) == (2**64 - 1, 12, 7)
    assert spec.lease.HasField("duration")
    assert spec.lease.duration.ToSeconds() == 0
    assert spec.strategy.gp.n_initial == 4
    assert spec.strategy.gp.quality == study_pb2.QUALITY_FAST


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"objective": "loss <= 3"}, "objective"),
        ({"constraints": ["latency"]}, "constraints"),
        ({"strategy": "magic"}, "auto, random, sobol, gp"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"trials": 3, "budget": Budget(trials=4)}, "trials"),
        ({"trials": 0}, "trials"),
        ({"name": "../etc"}, "name"),
        ({"project": "a/b"}, "project"),
        ({"if_exists": "maybe"}, "if_exists"),
        ({"space": [Float("x", 0, 1), Float("x", 0, 1)]}, "x"),
    ],
)
def test_a_wrong_definition_is_refused_before_it_is_sent(
    client: Client, service: FakeService, arguments: dict[str, object], match: str
) -> None:
    given = {"name": "s", "space": [Float("x", 0, 1)], "objective": "loss"} | arguments

    with pytest.raises(InvalidError, match=match):
        client.create_study(**given)  # type: ignore[arg-type]

    assert service.calls == []


def test_everything_that_is_wrong_with_a_definition_is_said_at_once(client: Client) -> None:
    with pytest.raises(SpecError) as caught:
        client.create_study(
            "s",
            space=[Float("x", 1, 0), Float("y", 0, 1)],
            objective="loss <= 3",
            constraints=["a ~ 1", "b <= 2", "c ~ 3"],
            metrics=["?"],
            trials=0,
            strategy="gpp",
            seed=-1,
            lease_s=1e11,
        )
    assert [each.field for each in caught.value.violations] == [
        "parameters[x].low",
        "objective",
        "constraints[0]",
        "constraints[2]",
        "strategy",
        "lease_s",
        "seed",
        "metrics[4].name",
        "budget.trials",
    ]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"space": None}, "space: must be a Space or a list of parameters, got NoneType"),
        ({"space": {"x": (0, 1)}}, "space: must be a Space or a list of parameters, got dict"),
        ({"objective": ["a", "-b"]}, "objective: must be text or a Metric, got list"),
        ({"objective": "a <= 3"}, "objective: 'a <= 3' is no objective, such as 'accuracy'"),
        ({"constraints": ["qps"]}, "'qps' is no constraint, such as 'qps >= 100'"),
        ({"constraints": "qps >= 1"}, "constraints: must be a list, such as ['qps >= 1']"),
        (
            {"parameter_constraints": "x <= 1"},
            "parameter_constraints: must be a list of constraints, not 'x <= 1'",
        ),
        ({"trials": 3.5}, "budget.trials: must be a whole number in [1, 2**63), got 3.5"),
        (
            {"strategy": GPSpec},
            "strategy: must be a name or settings such as GPSpec(), got <cl",
        ),
        ({"labels": {"owner": 7}}, "labels[owner]: must be text, got 7"),
    ],
)
def test_what_is_of_the_wrong_kind_is_named(
    client: Client, given: dict[str, Any], fault: str
) -> None:
    arguments = {"space": [Float("x", 0, 1)], "objective": "a", **given}
    with pytest.raises(InvalidError, match=re.escape(fault)):
        client.create_study("s", **arguments)


def test_points_states_and_counts_of_the_wrong_kind_are_refused(study: Study) -> None:
    with pytest.raises(InvalidError, match="points: must be a list"):
        study.predict({"x": 0.5})  # type: ignore[dict-item]
    with pytest.raises(InvalidError, match="states: must be of TrialState"):
        study.trials("completed")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="its number"):
        study.trial("3")  # type: ignore[arg-type]


MISUSES: list[tuple[Callable[[Any, Any], object], str]] = [
    (lambda study, _: study.ask("3"), "n: must be a whole number in [1, 256], not '3'"),
    (lambda study, _: study.ask(1.5), "n: must be a whole number in [1, 256], not 1.5"),
    (lambda study, _: study.ask(wait_s=-1), "wait_s: must be a number of seconds"),
    (lambda study, _: study.ask(wait_s=math.nan), "wait_s: must be a number of seconds"),
    (lambda study, _: study.ask(lease_s="1d"), "lease_s: must be a number of seconds"),
    (lambda study, _: study.trials(5), "states: must be of TrialState, not 5"),
    (lambda study, _: study.predict(None), "points: must be a list"),
    (lambda study, _: study.watch("a"), "since: must be a whole number"),
    (lambda study, _: study.enqueue({"x": 0.5}, labels="a"), "labels: must be text by name"),
    (lambda study, _: study.stop(1, 5), "reason: must be text, not 5"),
    (lambda study, _: study.amend(1, 1.0, reason=5), "reason: must be text, not 5"),
    (lambda _, trial: trial.release(5), "reason: must be text, not 5"),
    (lambda _, trial: trial.fail(3), "message: must be text, not 3"),
    (lambda _, trial: trial.tell_infeasible(None), "message: must be text, not None"),
    (lambda _, trial: trial.report("1", 0.5), "step: must be a whole number"),
    (lambda _, trial: trial.report(1.5, 0.5), "step: must be a whole number"),
    (lambda _, trial: trial.report(1, 0.5, elapsed_s="2"), "elapsed_s: must be a number"),
    (lambda study, _: study.optimize(len, trials=-1), "trials: must be at least 0, not -1"),
    (lambda study, _: study.optimize(len, trials=1.5), "trials: must be a whole number"),
    (lambda study, _: study.optimize(len, trials=1, workers=0), "workers: must be at least 1"),
]


@pytest.mark.parametrize(("misuse", "fault"), MISUSES)
def test_what_an_argument_must_be_is_said_with_its_name(
    study: Study, misuse: Callable[[Study, Trial], object], fault: str
) -> None:
    (trial,) = study.ask()

    with pytest.raises(InvalidError, match=re.escape(fault)):
        misuse(study, trial)

    assert trial.is_held


def test_an_exception_may_be_told_as_it_is(study: Study) -> None:
    first, second = study.ask(2)
    first.fail(RuntimeError("out of memory"), retry=False)
    second.tell_infeasible(ValueError("negative volume"))

    messages = [study.trial(trial.number).message for trial in (first, second)]
    assert messages == ["RuntimeError: out of memory", "ValueError: negative volume"]


def test_a_fractional_seed_is_a_type_error(client: Client) -> None:
    with pytest.raises(TypeError, match="integer"):
        client.create_study("s", space=[Float("x", 0, 1)], objective="a", seed=1.5)  # type: ignore[arg-type]


def test_parameter_constraints_belong_into_a_space_that_is_given(client: Client) -> None:
    with pytest.raises(SpecError, match="Space"):
        client.create_study(
            "s",
            space=Space((Float("x", 0, 1),)),
            objective="a",
            parameter_constraints=[Linear({"x": 1.0}, upper=0.5)],
        )


def test_all_studies_are_listed_over_pages(client: Client) -> None:
    for number in range(5):
        client.create_study(f"s{number}", space=[Float("x", 0, 1)], objective="a")

    assert [study.id for study in client.studies()] == [f"s{number}" for number in range(5)]


@pytest.mark.usefixtures("study")
def test_a_deleted_study_is_gone(client: Client) -> None:
    client.delete_study("s")

    with pytest.raises(NotFoundError):
        client.study("s")


def test_refresh_brings_the_state_up_to_date(study: Study, service: FakeService) -> None:
    on_server = service.studies[str(study.name)]
    on_server.state = study_pb2.Study.STATE_PAUSED
    on_server.stats.completed, on_server.stats.infeasible = 3, 2
    before = study.state

    study.refresh()

    assert (before, study.state) == (StudyState.ACTIVE, StudyState.PAUSED)
    assert study.stats.n_finished == 5


# Ask -----------------------------------------------------------------------------------------


def test_an_ask_brings_a_sequence_of_trials_with_a_reason(study: Study) -> None:
    asked = study.ask(3)

    assert asked.reason is AskReason.COUNT_MET
    assert len(asked) == 3
    assert [trial.number for trial in asked] == [1, 2, 3]
    assert asked[-1].number == 3
    assert asked[0].state is TrialState.ACTIVE
    assert asked[0].provenance.generator == "sobol"


def test_an_empty_ask_is_false_and_says_why(client: Client) -> None:
    study = client.create_study("b", space=[Float("x", 0, 1)], objective="-loss", trials=1)
    study.ask()[0].tell(0.5)

    asked = study.ask()

    assert not asked
    assert asked.reason is AskReason.BUDGET_EXHAUSTED
    assert asked.is_finished


@pytest.mark.parametrize("n", [0, -1, 257])
def test_a_number_of_trials_that_no_server_takes_is_refused(study: Study, n: int) -> None:
    with pytest.raises(InvalidError, match="256"):
        study.ask(n)


def test_arguments_of_the_wrong_kind_are_named(client: Client, study: Study) -> None:
    with pytest.raises(InvalidError, match="lease_s: must be a number of seconds, at least 0"):
        study.ask(lease_s=-1)
    with pytest.raises(TypeError, match=r"a Trial or its number, not \{'x'"):
        study.tell({"x": 0.5}, 1.0)  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="parameters: must be values by name"):
        study.enqueue([0.5])  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="of type NoneType"):
        client.study(None)  # type: ignore[arg-type]


def test_an_ask_says_how_long_it_waits_and_what_it_takes(
    study: Study, service: FakeService
) -> None:
    study.ask(wait_s=0.25, allow_fallback=False, lease_s=5)

    (request,) = service.requests("AskTrials")
    assert 0 < request.max_wait.ToMilliseconds() <= 250
    assert request.degrade == pb2.AskTrialsRequest.DEGRADE_NEVER
    assert request.lease_duration.ToSeconds() == 5
    assert request.worker_id == "w"


def test_an_ask_waits_in_turns_of_its_own_for_a_trial_to_come_back(
    study: Study, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = pb2.AskTrialsResponse(
        reason=pb2.AskTrialsResponse.REASON_WAITING_FOR_RESULTS,
        study_state=study_pb2.Study.STATE_ACTIVE,
    )
    waiting.retry_after.FromMilliseconds(10)
    answers = [waiting, waiting]
    ask = service._ask
    monkeypatch.setattr(
        service, "_ask", lambda request: answers.pop() if answers else ask(request)
    )

    asked = study.ask(wait_s=5)

    assert len(asked) == 1
    assert len({request.request_id for request in service.requests("AskTrials")}) == 3


def test_an_ask_that_does_not_wait_comes_back_with_nothing(
    study: Study, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = pb2.AskTrialsResponse(
        reason=pb2.AskTrialsResponse.REASON_WAITING_FOR_RESULTS,
        study_state=study_pb2.Study.STATE_ACTIVE,
    )
    monkeypatch.setattr(service, "_ask", lambda _: answer)

    asked = study.ask(wait_s=0)

    assert (asked.reason, asked.is_finished) == (AskReason.WAITING_FOR_RESULTS, False)
    assert len(service.requests("AskTrials")) == 1


# Trials --------------------------------------------------------------------------------------


def test_parameters_cannot_be_changed(study: Study) -> None:
    (trial,) = study.ask()

    assert trial["x"] == trial.parameters["x"]
    with pytest.raises(TypeError):
        trial.parameters["x"] = 3  # type: ignore[index]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (0.5, Value(0.5)),
        (1, Value(1.0)),
        (np.float32(0.5), Value(0.5)),
        ((0.5, 0.1), Value(0.5, 0.1)),
        ({"loss": 0.5}, Value(0.5)),
        ({"loss": (0.5, 0.1)}, Value(0.5, 0.1)),
        ({"loss": Value(0.5, 0.1, 3)}, Value(0.5, 0.1, 3)),
        (Measurement({"loss": Value(0.5)}), Value(0.5)),
        (Completed(Measurement({"loss": Value(0.5)})), Value(0.5)),
        (Stopped(Measurement({"loss": Value(0.5)})), Value(0.5)),
    ],
)
def test_a_result_may_be_written_in_many_ways(
    study: Study, service: FakeService, result: object, expected: Value
) -> None:
    (trial,) = study.ask()

    trial.tell(result)  # type: ignore[arg-type]

    outcome = service.requests("TellTrials")[0].tells[0].outcome
    sent = outcome.stopped if isinstance(result, Stopped) else outcome.completed
    value = sent.metrics["loss"]
    assert (value.value, value.sd, value.replicates) == (
        expected.value,
        expected.sd or 0.0,
        expected.replicates,
    )
    assert sent.HasField("elapsed")


@pytest.mark.parametrize(
    ("result", "match"),
    [
        (float("nan"), "finite"),
        ({"loss": float("inf")}, "finite"),
        ({"loss": 1.0, "losss": 2.0}, "losss"),
        ({}, "loss"),
        ({"loss": "0.5"}, "number"),
        ({"loss": True}, "number"),
        ({"loss": None}, "number"),
        ({"loss": 10**400}, "too large"),
        ({"loss": (1, 2, 3)}, "3 numbers"),
        ({"loss": [0.31, 0.29]}, r"the tuple \(mean, sd\), not \[0.31, 0.29\]"),
        ([0.31, 0.29], r"the tuple \(mean, sd\), not \[0.31, 0.29\]"),
        ({"loss": (1.0, -0.1)}, "sd"),
        ("0.5", "number"),
    ],
)
def test_a_result_that_does_not_fit_is_refused_before_it_is_sent(
    study: Study, service: FakeService, result: object, match: str
) -> None:
    (trial,) = study.ask()

    with pytest.raises(InvalidError, match=match):
        trial.tell(result)  # type: ignore[arg-type]

    assert service.requests("TellTrials") == []
    assert trial.is_held


def test_everything_that_is_wrong_with_a_result_is_said_at_once(rich: Study) -> None:
    (trial,) = rich.ask()

    with pytest.raises(InvalidError) as caught:
        trial.tell({"accuracy": "high", "latency_ms": None})  # type: ignore[dict-item]

    assert len(caught.value.violations) == 2


def test_a_lone_number_needs_a_problem_with_a_single_metric(rich: Study) -> None:
    (trial,) = rich.ask()

    with pytest.raises(InvalidError, match="accuracy, latency_ms"):
        trial.tell(0.5)


def test_a_told_trial_knows_what_became_of_it(study: Study) -> None:
    (trial,) = study.ask()

    answer = trial.tell(0.5)

    assert (answer.number, answer.state, answer.error) == (1, TrialState.COMPLETED, None)
    assert trial.state is TrialState.COMPLETED
    assert trial.metrics == {"loss": 0.5}


def test_the_other_endings_are_told_as_such(rich: Study, service: FakeService) -> None:
    first, second, third, fourth = rich.ask(4)

    first.tell_infeasible("diverged", {"latency_ms": 9})
    second.fail("gone", retry=False)
    third.fail("gone")
    fourth.tell_stopped({"accuracy": 0.5, "latency_ms": 9})

    kinds = [request.tells[0].outcome for request in service.requests("TellTrials")]
    assert [kind.WhichOneof("kind") for kind in kinds] == [
        "infeasible",
        "failed",
        "failed",
        "stopped",
    ]
    assert kinds[0].infeasible.partial.metrics["latency_ms"].value == 9
    assert (kinds[1].failed.final, kinds[2].failed.final) == (True, False)
    assert [trial.state for trial in (first, second, third, fourth)] == [
        TrialState.INFEASIBLE,
        TrialState.FAILED,
        TrialState.QUEUED,
        TrialState.STOPPED,
    ]


def test_a_number_alone_is_told_with_the_token_of_the_trial_that_is_held(
    study: Study, service: FakeService
) -> None:
    study.ask()

    study.tell(1, 0.5)

    (request,) = service.requests("TellTrials")
    assert request.tells[0].lease_token.endswith("-1")
    assert study.session.heartbeats.held(str(study.name)) == ()


def test_a_trial_of_another_process_is_told_without_a_token(
    study: Study, fake: FakeServer, service: FakeService, tmp_path: Path
) -> None:
    study.ask()
    with Client(fake.address, outbox=tmp_path / "b", options=FAST) as other:
        other.study("s").tell(1, 0.5)

    assert service.requests("TellTrials")[0].tells[0].lease_token == ""
    assert service.n_told == {1: 1}


def test_several_results_are_told_in_one_call(study: Study, service: FakeService) -> None:
    first, second = study.ask(2)
    first.tell(0.1)

    answers = study.tell_many([(first, 0.3), (second, 0.2), (9, 0.1)])

    assert [answer.state for answer in answers] == [None, TrialState.COMPLETED, None]
    assert isinstance(answers[0].error, TrialFinishedError)
    assert isinstance(answers[2].error, NotFoundError)
    assert len(service.requests("TellTrials")) == 2


def test_telling_nothing_makes_no_call(study: Study, service: FakeService) -> None:
    assert study.tell_many([]) == []
    assert service.requests("TellTrials") == []


def test_a_trial_in_a_with_block_fails_with_the_exception(study: Study) -> None:
    (trial,) = study.ask()

    with pytest.raises(RuntimeError), trial:
        raise RuntimeError("burnt")

    assert trial.state is TrialState.QUEUED
    assert study.trial(1).message == "RuntimeError: burnt"


def test_a_trial_in_a_with_block_is_given_back_if_nothing_was_told(
    study: Study, service: FakeService
) -> None:
    first, second = study.ask(2)

    with first:
        pass
    with pytest.raises(KeyboardInterrupt), second:
        raise KeyboardInterrupt

    released = [request.held[0].trial for request in service.requests("ReleaseTrials")]
    assert released == [first.name, second.name]
    assert not first.is_held


def test_a_trial_that_was_told_in_a_with_block_is_left_alone(
    study: Study, service: FakeService
) -> None:
    (trial,) = study.ask()

    with trial:
        trial.tell(0.5)

    assert service.requests("ReleaseTrials") == []


# Reports -------------------------------------------------------------------------------------


def test_a_report_says_whether_to_stop(study: Study, service: FakeService) -> None:
    (trial,) = study.ask()
    assert trial.report(1, {"loss": 0.9}) is False
    study.stop(trial, "enough")

    assert trial.report(2, 0.8, elapsed_s=3.0) is True

    assert trial.should_stop()
    first, second = study.trial(1).measurements
    assert (first.step, first.metrics["loss"].value) == (1, 0.9)
    assert first.elapsed_s is not None
    assert (second.step, second.elapsed_s) == (2, 3.0)
    assert service.requests("ReportMeasurements")[0].lease_token.endswith("-1")


def test_a_report_may_have_some_of_the_metrics(rich: Study) -> None:
    (trial,) = rich.ask()

    assert trial.report(0, {"memory": 3.0}) is False


def test_a_report_on_a_lost_lease_stops_the_trial(study: Study, service: FakeService) -> None:
    (trial,) = study.ask()
    service.fail("ReportMeasurements", Fault(error=LeaseLostError("expired")))

    assert trial.report(1, 0.5) is True

    assert trial.directive is Directive.LOST
    assert study.session.heartbeats.held(str(study.name)) == ()


def test_a_report_that_cannot_be_delivered_does_not_cost_the_evaluation(
    study: Study, service: FakeService
) -> None:
    (trial,) = study.ask()
    service.fail("ReportMeasurements", Fault(error=UnavailableError("x", retry_after_s=99)))

    assert trial.report(1, 0.5) is False


def test_a_report_that_does_not_fit_is_refused(study: Study, service: FakeService) -> None:
    (trial,) = study.ask()

    with pytest.raises(InvalidError, match="finite"):
        trial.report(1, float("nan"))

    assert service.requests("ReportMeasurements") == []


# The rest ------------------------------------------------------------------------------------


def test_an_enqueued_point_is_sent_in_the_types_of_its_space(
    rich: Study, service: FakeService
) -> None:
    trial = rich.enqueue({"x": 1, "n": 3, "kind": "a"}, labels={"why": "hunch"})

    sent = service.requests("CreateTrial")[0]
    assert sent.parameters["x"].WhichOneof("kind") == "double_value"
    assert sent.parameters["n"].int_value == 3
    assert not sent.HasField("outcome")
    assert trial.state is TrialState.QUEUED
    assert trial.labels == {"why": "hunch"}


def test_an_observation_made_elsewhere_is_recorded(rich: Study) -> None:
    trial = rich.add({"x": 0.5, "n": 3, "kind": "b"}, {"accuracy": 0.9, "latency_ms": 3})

    assert trial.state is TrialState.COMPLETED
    assert trial.metrics == {"accuracy": 0.9, "latency_ms": 3.0}


@pytest.mark.parametrize(
    ("point", "match"),
    [({"x": 2.0}, "x"), ({"x": 0.5, "y": 1}, "y"), ({}, "missing"), ({"x": "a"}, "x")],
)
def test_a_point_outside_the_space_is_refused_before_it_is_sent(
    study: Study, service: FakeService, point: dict[str, float], match: str
) -> None:
    with pytest.raises(InvalidError, match=match):
        study.enqueue(point)
    with pytest.raises(InvalidError, match=r"points\[0\].*" + match):
        study.predict([point])

    assert service.requests("CreateTrial") == []
    assert service.requests("Predict") == []


def test_an_amendment_replaces_the_result(study: Study, service: FakeService) -> None:
    (trial,) = study.ask()
    trial.tell(0.5)

    amended = study.amend(1, Failed("wrong data", retryable=False), "found a bug")

    assert amended.state is TrialState.FAILED
    assert service.requests("AmendTrial")[0].reason == "found a bug"


def test_the_best_trial_is_none_before_there_is_one(study: Study) -> None:
    assert study.best() is None


def test_a_best_trial_that_is_infeasible_must_be_asked_for(study: Study) -> None:
    for trial in study.ask(13):
        trial.tell(1.0 / trial.number)

    assert study.best() is None
    found = study.best(allow_infeasible=True)
    assert found is not None
    assert found.number == 13


def test_predictions_are_in_the_order_of_the_points(study: Study) -> None:
    predictions = study.predict([{"x": 0.1}, {"x": 0.2}])

    assert len(predictions) == 2
    assert predictions[0].metrics["loss"].sd == 0.25
    assert predictions[0].probability_feasible == 0.5


def test_all_trials_are_read_over_pages(study: Study) -> None:
    for trial in study.ask(7):
        if trial.number % 2:
            trial.tell(0.5)

    assert [trial.number for trial in study.trials()] == list(range(1, 8))
    assert [trial.number for trial in study.trials(TrialState.COMPLETED)] == [1, 3, 5, 7]
    states = [TrialState.COMPLETED, TrialState.ACTIVE]
    assert len(study.trials(states)) == 7


def test_pages_of_a_large_space_are_small(client: Client, service: FakeService) -> None:
    space = [Float(f"x{number}", 0, 1) for number in range(1999)]
    wide = client.create_study("wide", space=space, objective="loss", strategy="random")

    wide.trials()

    assert service.requests("ListTrials")[0].page_size == 50


def test_records_have_the_same_columns_in_every_row(rich: Study) -> None:
    first, _ = rich.ask(2)
    first.tell({"accuracy": 0.9, "latency_ms": 3})

    done, open_ = rich.to_records()

    assert list(done) == list(open_)
    assert list(done)[:8] == [
        "number",
        "state",
        "x",
        "n",
        "kind",
        "accuracy",
        "latency_ms",
        "memory",
    ]
    assert (done["number"], done["state"], done["accuracy"]) == (1, "completed", 0.9)
    assert (open_["accuracy"], open_["end_time"]) == (None, None)
    assert done["n"] is None  # The fake knows no parameter but x.
    assert done["worker"] == "w"


def test_deviations_have_columns_where_there_are_any(rich: Study) -> None:
    first, second = rich.ask(2)
    first.tell({"accuracy": (0.9, 0.02), "latency_ms": 3})
    second.tell({"accuracy": 0.8, "latency_ms": 3})

    noisy, exact = rich.to_records()

    assert list(noisy)[5:8] == ["accuracy", "accuracy.sd", "latency_ms"]
    assert (noisy["accuracy.sd"], exact["accuracy.sd"]) == (0.02, None)


def test_columns_with_clashing_names_are_told_apart(client: Client) -> None:
    study = client.create_study(
        "clash", space=[Float("x", 0, 1), Float("state", 0, 1)], objective="worker"
    )
    study.ask()

    (record,) = study.to_records()

    assert {"parameter.state", "metric.worker", "x"} <= set(record)
    assert record["state"] == "active"


def test_parameters_come_in_the_order_of_the_space(rich: Study) -> None:
    trial = rich.enqueue({"kind": "a", "n": 3, "x": 0.5})

    assert list(trial.parameters) == ["x", "n", "kind"]
