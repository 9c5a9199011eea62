"""The server dies at a named point of a call; repeated, the call gets one answer, once."""

import asyncio
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from google.protobuf.message import Message

from bbopt.errors import BboptError, InvalidError
from bbopt.replay import replay
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt_server.crash_points import EXIT_CRASHED, POINTS, VARIABLE
from bbopt_server.settings import parse
from bbopt_server.storage.sqlite import SqliteStore
from bbopt_server.storage.store import Transaction
from tests.e2e.served import PARENT, Caller, ServerProcess, new_id, serving
from tests.faults.kept import Kept, read_file
from tests.unit.server.service import completed, point, quadratic

STUDY = f"{PARENT}/studies/s"
ROOT = Path(__file__).resolve().parents[2]
LEASE_S = 2.0

Held: TypeAlias = list[trial_pb2.Trial]
"""Trials 1 to 3, held since before the server that dies was started; 4 waits."""


def tell(held: Held, *, loss: float = 0.25, count: int = 1) -> pb.TellTrialsRequest:
    tells = [
        pb.Tell(trial=each.name, lease_token=each.lease.token, outcome=completed(loss))
        for each in held[:count]
    ]
    return pb.TellTrialsRequest(parent=STUDY, tells=tells, request_id=new_id())


def ask(_: Held, *, count: int = 1) -> pb.AskTrialsRequest:
    return pb.AskTrialsRequest(parent=STUDY, count=count, worker_id="w", request_id=new_id())


def create(_: Held) -> pb.CreateStudyRequest:
    study = study_pb2.Study(spec=quadratic(strategy="sobol"))
    return pb.CreateStudyRequest(
        parent=PARENT, study_id="other", study=study, request_id=new_id()
    )


def tell_and_ask(held: Held) -> pb.TellAndAskRequest:
    return pb.TellAndAskRequest(tell=tell(held), ask=ask(held), request_id=new_id())


@dataclass(frozen=True)
class Call:
    """A call that the server dies of."""

    method: str
    build: Callable[[Held], Message]
    n_told: int = 0
    """Results that it records."""
    n_asked: int = 0
    """Trials that it hands out."""
    n_fresh: int = 0
    """Of them, those that nobody has enqueued."""
    max_trials: int | None = None
    """Budget of the study."""


CALLS = {
    "create": Call("CreateStudy", create),
    "tell": Call("TellTrials", tell, n_told=1),
    "tell all": Call("TellTrials", lambda held: tell(held, count=3), n_told=3, max_trials=3),
    "ask queued": Call("AskTrials", ask, n_asked=1),
    "ask fresh": Call("AskTrials", lambda held: ask(held, count=2), n_asked=2, n_fresh=1),
    "tell and ask": Call("TellAndAsk", tell_and_ask, n_told=1, n_asked=1),
}

NOTHING, EVERYTHING = "nothing is durable", "everything is durable"
FIRST_HALF = "the first half is durable"
EITHER = ("tell", "ask queued")

DEATHS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rpc.decoded": (NOTHING, EITHER),
    "rpc.before_reply": (EVERYTHING, (*EITHER, "create", "tell and ask")),
    "store.after_begin": (NOTHING, EITHER),
    "store.after_work": (NOTHING, (*EITHER, "create")),
    "store.before_commit": (NOTHING, (*EITHER, "tell all")),
    "store.after_commit": (EVERYTHING, (*EITHER, "tell all", "create")),
    "commit.before_effects": (EVERYTHING, (*EITHER, "tell all")),
    "commit.after_effects": (EVERYTHING, EITHER),
    "ledger.after_event": (NOTHING, EITHER),
    "ledger.before_save": (NOTHING, EITHER),
    "study.changed": (NOTHING, ("tell all",)),
    "answer.before_storing": (NOTHING, (*EITHER, "tell all", "create")),
    "answer.stored": (NOTHING, EITHER),
    "tell.before_row": (NOTHING, ("tell", "tell all")),
    "tell_and_ask.between": (FIRST_HALF, ("tell and ask",)),
    "ask.assessed": (NOTHING, ("ask queued", "ask fresh")),
    "ask.suggested": (NOTHING, ("ask fresh",)),
    "ask.before_row": (NOTHING, ("ask fresh",)),
    "ask.before_delivering": (EVERYTHING, ("ask fresh",)),
}
"""Of each point that a call passes: what is durable there, and the calls to try."""
SWEEPS = {"sweep.before_commit": False, "sweep.expired": False, "sweep.after_commit": True}
"""Whether the end of a lease is durable there."""
OPENINGS = ("open.before_migrating", "migration.before_commit", "migration.after_commit")
ENDINGS = ("store.before_checkpoint", "store.after_checkpoint")
COMPUTE = tuple(name for name in POINTS if name.startswith("compute."))

FAST = {
    ("store.after_work", "tell"),
    ("store.before_commit", "ask queued"),
    ("store.after_commit", "tell all"),
    ("rpc.before_reply", "ask queued"),
    ("tell_and_ask.between", "tell and ask"),
}


def deaths() -> Iterator[object]:
    for name, (durable, calls) in DEATHS.items():
        for call in calls:
            marks = () if (name, call) in FAST else (pytest.mark.slow,)
            yield pytest.param(name, durable, CALLS[call], id=f"{name}-{call}", marks=marks)


def test_every_point_is_in_the_code_once_and_tested_here() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "server").rglob("*.py"))
    assert sorted(re.findall(r'\breach\("([a-z_.]+)"\)', source)) == sorted(POINTS)
    assert {*DEATHS, *SWEEPS, *OPENINGS, *ENDINGS, *COMPUTE} == set(POINTS)


def test_a_point_that_does_not_exist_is_refused_with_the_list_of_those_that_do() -> None:
    with pytest.raises(InvalidError, match=r"store\.before_commit"):
        parse([], {VARIABLE: "store.nowhere"})


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "s.db")


@pytest.mark.parametrize(("name", "durable", "call"), list(deaths()))
def test_a_call_that_killed_the_server_has_one_answer_and_happens_once(
    name: str, durable: str, call: Call, db: str
) -> None:
    held = prepare(db, max_trials=call.max_trials)
    request = call.build(held)
    die_of(db, name, call.method, request)
    before = stored_answers(db, call, request)
    assert [answer is not None for answer in before] == {
        NOTHING: [False] * len(before),
        EVERYTHING: [True] * len(before),
        FIRST_HALF: [True, False],
    }[durable]
    with restarted(db, with_compute=call.n_fresh > 0) as caller:
        answer = repeat(caller, call.method, request)
        assert repeat(caller, call.method, request) == answer
    after = stored_answers(db, call, request)
    assert [
        type(part).FromString(data or b"")
        for part, data in zip(parts(answer), after, strict=True)
    ] == parts(answer)
    assert all(old in (None, new) for old, new in zip(before, after, strict=True))
    kept = kept_in(db)
    assert sum(map(len, kept.losses.values())) == call.n_told
    assert sum(row.state != "QUEUED" for row in kept.trials) == len(held) + call.n_asked
    assert len(kept.trials) == 4 + call.n_fresh
    assert kept.study.state == ("COMPLETED" if call.max_trials else "ACTIVE")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "is_durable"), SWEEPS.items())
def test_a_lease_whose_end_killed_the_server_ends_once(
    name: str, is_durable: bool, db: str
) -> None:
    (trial, *_) = prepare(db, lease_s=LEASE_S)
    assert armed(db, name).wait()[0] == EXIT_CRASHED
    assert {row.attempt for row in kept_in(db).trials[:3]} == ({2} if is_durable else {1})
    with serving(db) as caller:
        wait_until_queued(caller, trial.name)
        request = tell([trial])
        answer = repeat(caller, "TellTrials", request)
        assert [result.was_late for result in answer.results] == [True]
        assert repeat(caller, "TellTrials", request) == answer
    kept = kept_in(db)
    assert {row.attempt for row in kept.trials[:3]} == {2}
    assert kept.losses == {1: [0.25]}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPENINGS)
def test_a_server_that_died_while_it_opened_its_file_can_be_started_again(
    name: str, db: str
) -> None:
    assert armed(db, name).wait()[0] == EXIT_CRASHED
    held = prepare(db)
    with serving(db) as caller:
        repeat(caller, "TellTrials", tell(held))
    assert kept_in(db).losses == {1: [0.25]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDINGS)
def test_a_server_that_died_while_it_stopped_keeps_what_it_acknowledged(
    name: str, db: str
) -> None:
    held = prepare(db)
    request = tell(held)
    server = armed(db, name)
    with Caller(server.address) as caller:
        answer = repeat(caller, "TellTrials", request)
    assert server.end(signal.SIGTERM)[0] == EXIT_CRASHED
    with serving(db) as caller:
        assert repeat(caller, "TellTrials", request) == answer
    assert kept_in(db).losses == {1: [0.25]}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "compute.suggested" else pytest.mark.slow)
        for name in COMPUTE
    ],
)
def test_an_ask_that_kills_compute_is_answered_once_and_leaves_a_log_that_replays(
    name: str, db: str
) -> None:
    held = prepare(db)
    request = ask(held, count=2)
    server = armed(db, name)
    with Caller(server.address) as caller:
        answer = repeat(caller, "AskTrials", request)
    assert "a compute process ended" in server.end(signal.SIGKILL)[1]
    assert [trial.provenance.degraded_from for trial in answer.trials] == ["", "sobol"]
    with restarted(db, with_compute=True) as caller:
        assert repeat(caller, "AskTrials", request) == answer
        (fresh,) = repeat(caller, "AskTrials", ask(held)).trials
        assert (fresh.number, fresh.provenance.generator) == (6, "sobol")
    kept = kept_in(db)
    assert len(kept.trials) == 6
    spec = study_spec_from_message(study_pb2.StudySpec.FromString(kept.study.spec))
    assert replay(spec.problem, spec.strategy, spec.drawn_seed, kept.events) == []


def prepare(db: str, *, max_trials: int | None = None, lease_s: float = 600.0) -> Held:
    """Found a study with trials 1 to 3 held and 4 waiting; return those held."""
    with serving(db) as caller:
        caller.create("s", quadratic(strategy="sobol", max_trials=max_trials, lease_s=lease_s))
        for number in range(3):
            enqueue(caller, number)
        held = list(caller.ask(STUDY, 3).trials)
        enqueue(caller, 3)
    assert [trial.number for trial in held] == [1, 2, 3]
    return held


def enqueue(caller: Caller, number: int) -> None:
    parameters = point(x=number / 10, y=0.5)
    request = pb.CreateTrialRequest(parent=STUDY, parameters=parameters, request_id=new_id())
    caller.call(caller.optimization.CreateTrial, request)


def armed(db: str, name: str) -> ServerProcess:
    return ServerProcess(db, environment=[f"{VARIABLE}={name}"])


def die_of(db: str, name: str, method: str, request: Message) -> None:
    """Send a request to a server that dies at a point of it."""
    server = armed(db, name)
    with Caller(server.address) as caller, pytest.raises(BboptError):
        caller.call(getattr(caller.optimization, method), request, 60.0)
    assert server.wait()[0] == EXIT_CRASHED


@contextmanager
def restarted(db: str, *, with_compute: bool) -> Iterator[Caller]:
    """Serve without a crash point; in a process of its own only where points are computed."""
    if not with_compute:
        with serving(db) as caller:
            yield caller
        return
    server = ServerProcess(db)
    try:
        with Caller(server.address) as caller:
            yield caller
    finally:
        server.end(signal.SIGKILL)


def repeat(caller: Caller, method: str, request: Message) -> Any:  # noqa: ANN401
    return caller.call(getattr(caller.optimization, method), request, 60.0)


def parts(answer: Message) -> list[Message]:
    """List the answers that are stored for a call."""
    if isinstance(answer, pb.TellAndAskResponse):
        return [answer.tell, answer.ask]
    return [answer]


def stored_answers(db: str, call: Call, request: Any) -> list[bytes | None]:  # noqa: ANN401
    """Read the answers that are stored for a call in a file that nobody serves."""
    methods = [call.method]
    if call.method == "TellAndAsk":
        methods = ["TellAndAsk.tell", "TellAndAsk.ask"]

    def work(tx: Transaction) -> list[bytes | None]:
        rows = [tx.response("default", method, request.request_id) for method in methods]
        return [None if row is None else row.response for row in rows]

    async def read() -> list[bytes | None]:
        store = SqliteStore.open(db)
        try:
            return await store.read(work)
        finally:
            await store.close()

    return asyncio.run(read())


def kept_in(db: str) -> Kept:
    kept = asyncio.run(read_file(db))
    kept.check()
    return kept


def wait_until_queued(caller: Caller, name: str) -> None:
    deadline = time.monotonic() + 30.0
    request = pb.GetTrialRequest(name=name)
    while True:
        trial = caller.call(caller.optimization.GetTrial, request)
        if trial.state == trial_pb2.Trial.STATE_QUEUED:
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)
