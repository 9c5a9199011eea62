"""The checker of histories finds what is wrong with one, and nothing where nothing is."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeAlias

import pytest

from bbopt.errors import NotFoundError
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from tests.e2e.served import PARENT, Caller, new_id, serving
from tests.faults.history import Exchange, Kind, find_faults, find_other_answers, kinds
from tests.faults.storm import attempt, found
from tests.kept import Kept, read_file
from tests.unit.server.service import completed, failed, point

STUDY = f"{PARENT}/studies/random"

History: TypeAlias = list[Exchange]

CREATED, ADDED, ASKED, FAILED, ASKED_AGAIN, TOLD_AND_ASKED, TOLD = range(7)
"""Where the calls are in a history."""


def ask() -> pb.AskTrialsRequest:
    return pb.AskTrialsRequest(parent=STUDY, count=1, worker_id="w")


def tell(asked: pb.AskTrialsResponse, *, has_failed: bool = False) -> pb.TellTrialsRequest:
    (trial,) = asked.trials
    outcome = failed() if has_failed else completed(0.25)
    told = pb.Tell(trial=trial.name, lease_token=trial.lease.token, outcome=outcome)
    return pb.TellTrialsRequest(parent=STUDY, tells=[told])


def work(caller: Caller) -> History:
    """Make every kind of call: trial 1 is added, 2 fails and succeeds, 3 succeeds."""
    history: History = []

    def make(request: Any) -> Any:  # noqa: ANN401
        request.request_id = new_id()
        history.append(Exchange(request, attempt(caller, request)))
        return history[-1].answer

    make(found("random"))
    parameters = point(x=0.5, y=0.5)
    make(pb.CreateTrialRequest(parent=STUDY, parameters=parameters, outcome=completed(0.5)))
    make(tell(make(ask()), has_failed=True))
    both = make(pb.TellAndAskRequest(tell=tell(make(ask())), ask=ask()))
    make(tell(both.ask))
    return history


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[History, dict[str, Kept]]:
    """What happened where nothing went wrong, and what was kept of it."""
    db = str(tmp_path_factory.mktemp("calm") / "s.db")
    with serving(db) as caller:
        history = work(caller)
        assert find_other_answers(history, lambda request: attempt(caller, request)) == []
    kept = {"random": read_file(db, "random")}
    kept["random"].check()
    return history, kept


def without(position: int) -> Callable[[History], None]:
    def forget(history: History) -> None:
        del history[position]

    return forget


def lose_a_result(history: History) -> None:
    history[TOLD].request.tells[0].outcome.completed.metrics["loss"].value = 0.125


def lose_the_result_of_a_double_call(history: History) -> None:
    told = history[TOLD_AND_ASKED].request.tell.tells[0]
    told.outcome.completed.metrics["loss"].value = 0.125


def lose_an_observation(history: History) -> None:
    history[ADDED].request.outcome.completed.metrics["loss"].value = 0.125


def mistake_a_tell(history: History) -> None:
    history[TOLD].answer.results[0].was_duplicate = True


def refuse_a_tell(history: History) -> None:
    history[TOLD].answer.results[0].status.code = 6


def hand_out_twice(history: History) -> None:
    history.append(Exchange(ask(), history[TOLD_AND_ASKED].answer.ask))


def test_nothing_is_found_where_nothing_went_wrong(
    calm: tuple[History, dict[str, Kept]],
) -> None:
    assert find_faults(*calm) == []


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        pytest.param(lose_a_result, Kind.LOST, id="a lost result"),
        pytest.param(
            lose_the_result_of_a_double_call, Kind.LOST, id="a lost result of tell and ask"
        ),
        pytest.param(lose_an_observation, Kind.LOST, id="a lost observation"),
        pytest.param(mistake_a_tell, Kind.UNRECOGNISED, id="a tell taken for another"),
        pytest.param(refuse_a_tell, Kind.UNRECOGNISED, id="a tell refused"),
        pytest.param(hand_out_twice, Kind.HANDED_OUT_TWICE, id="a trial handed out twice"),
        pytest.param(without(ASKED), Kind.NOBODYS, id="a first attempt that nobody got"),
        pytest.param(without(ASKED_AGAIN), Kind.NOBODYS, id="a second one"),
        pytest.param(without(TOLD_AND_ASKED), Kind.NOBODYS, id="one of tell and ask"),
        pytest.param(without(ADDED), Kind.DOUBLED, id="an observation too many"),
        pytest.param(without(FAILED), Kind.DOUBLED, id="a failure too many"),
    ],
)
def test_what_is_wrong_is_found(
    spoil: Callable[[History], None], kind: Kind, calm: tuple[History, dict[str, Kept]]
) -> None:
    history, kept = deepcopy(calm[0]), calm[1]
    spoil(history)
    assert kinds(find_faults(history, kept)) == {kind}


def test_another_answer_to_a_repeated_call_is_found(
    calm: tuple[History, dict[str, Kept]],
) -> None:
    history = calm[0]
    by_id = {each.request.request_id: deepcopy(each.answer) for each in history}
    by_id[history[TOLD].request.request_id].revision += 1

    def answer(request: Any) -> Any:  # noqa: ANN401
        if request is history[CREATED].request:
            raise NotFoundError("it is gone")
        return by_id[request.request_id]

    faults = find_other_answers(history, answer)
    assert [fault.kind for fault in faults] == [Kind.ANSWERED_ANEW] * 2
    assert [fault.what.partition(":")[0] for fault in faults] == ["CreateStudy", "TellTrials"]
