"""The client against a real server in a process of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bbopt.errors import (
    InvalidError,
    NotFoundError,
    StudyDeletedError,
    StudyExistsError,
    TrialFinishedError,
)
from bbopt.trial import TrialState
from bbopt_client import (
    AskReason,
    Client,
    Directive,
    Float,
    Int,
    Space,
    Study,
    StudyState,
    Trial,
)
from tests.e2e.served import free_port
from tests.waiting import wait_until

SPACE = Space((Float("x", -1, 1), Int("n", 1, 4)))


@dataclass
class Server:
    """A server that can be killed and started again at the same address."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "bbopt_server", "--db", str(self.folder / "s.db")]
        command += ["--listen", self.address, "--device", "cpu"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(20) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), free_port())
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(server: Server, tmp_path: Path) -> Iterator[Client]:
    with Client(server.address, outbox=tmp_path / "outbox") as opened:
        yield opened


@pytest.fixture
def other(server: Server, tmp_path: Path) -> Iterator[Client]:
    with Client(server.address, outbox=tmp_path / "outbox") as opened:
        yield opened


@pytest.fixture
def study(client: Client, request: pytest.FixtureRequest) -> Study:
    name = "s-" + "".join(each if each.isalnum() else "-" for each in request.node.name)
    return client.create_study(name, space=SPACE, objective="-loss", strategy="random", seed=1)


def loss(trial: Trial) -> float:
    return (float(trial["x"]) - 0.3) ** 2 + 0.1 * int(trial["n"])


def test_a_study_is_optimized_from_beginning_to_end(client: Client) -> None:
    study = client.create_study(
        "whole",
        space=SPACE,
        objective="-loss",
        constraints=["heat <= 1.5"],
        trials=14,
        strategy="gp",
        seed=3,
    )

    best = study.optimize(lambda trial: {"loss": loss(trial), "heat": float(trial["x"]) + 1})

    assert best is not None
    assert best.feasible
    assert best.metrics["loss"] < 0.2
    assert study.refresh().state is StudyState.COMPLETED
    assert study.stats.completed == 14
    assert {trial.provenance.generator for trial in study.trials()} >= {"gp"}
    (prediction,) = study.predict([{"x": 0.3, "n": 1}])
    assert prediction.metrics["loss"].mean == pytest.approx(0.1, abs=0.1)
    assert prediction.probability_feasible > 0.5
    records = study.to_records()
    assert [record["number"] for record in records] == list(range(1, 15))
    assert all(isinstance(record["n"], int) for record in records)
    assert study.ask().reason is AskReason.BUDGET_EXHAUSTED


def test_threads_share_a_study_without_repeating_a_trial(study: Study) -> None:
    evaluated: list[int] = []

    def objective(trial: Trial) -> float:
        evaluated.append(trial.number)
        return loss(trial)

    study.optimize(objective, trials=24, workers=4)

    assert sorted(evaluated) == list(range(1, 25))
    assert len(study.trials(TrialState.COMPLETED)) == 24


def test_a_lease_is_kept_alive_for_as_long_as_its_trial_runs(client: Client) -> None:
    study = client.create_study(
        "alive", space=SPACE, objective="-loss", strategy="random", lease_s=1.0
    )
    (trial,) = study.ask()
    time.sleep(3.0)

    answer = trial.tell(0.5)

    assert trial.attempt == 1
    assert not answer.was_late


def test_a_trial_whose_worker_is_gone_runs_again_with_the_same_parameters(
    client: Client, other: Client
) -> None:
    study = client.create_study(
        "gone", space=SPACE, objective="-loss", strategy="random", lease_s=0.5
    )
    (lost,) = other.study("gone").ask()
    other.session.heartbeats.stop()

    again = study.ask(wait_s=20)
    while again and again[0].number != lost.number:
        again = study.ask(wait_s=20)

    assert dict(again[0].parameters) == dict(lost.parameters)
    assert again[0].attempt == 2
    assert lost.tell(0.25).was_late
    wait_until(lambda: again[0].directive is Directive.CANCEL)


def test_an_order_to_stop_reaches_the_worker_by_heartbeat_and_by_report(
    client: Client, other: Client
) -> None:
    study = client.create_study(
        "stops", space=SPACE, objective="-loss", strategy="random", lease_s=1.0
    )
    first, second = study.ask(2)
    for trial in (first, second):
        other.study("stops").stop(trial.number, "no hope")

    assert second.report(1, 0.75)
    wait_until(first.should_stop)

    assert first.directive is Directive.STOP
    assert first.tell_stopped(0.5).state is TrialState.STOPPED
    read = study.trial(second.number)
    assert [each.step for each in read.measurements] == [1]


def test_a_trial_that_is_given_back_is_the_next_one_handed_out(
    study: Study, other: Client
) -> None:
    (trial,) = study.ask()

    trial.release("preempted")
    (again,) = other.study(study.id).ask()

    assert again.number == trial.number
    assert dict(again.parameters) == dict(trial.parameters)


def test_a_failure_is_run_again_until_attempts_are_used_up(client: Client) -> None:
    study = client.create_study(
        "fails", space=SPACE, objective="-loss", strategy="random", max_attempts=2
    )
    (first,) = study.ask()
    first.fail("out of memory")
    (second,) = study.ask()
    assert (second.number, second.attempt) == (first.number, 2)

    answer = second.fail("out of memory again")

    assert answer.state is TrialState.FAILED
    assert "again" in study.trial(second.number).message


def test_an_enqueued_point_goes_first_and_recorded_ones_count(study: Study) -> None:
    study.enqueue({"x": 0.5, "n": 2}, labels={"why": "hunch"})
    recorded = study.add({"x": 0.25, "n": 1}, 0.125)
    (trial,) = study.ask()

    assert dict(trial.parameters) == {"x": 0.5, "n": 2}
    assert trial.provenance.generator == "enqueued"
    assert recorded.state is TrialState.COMPLETED
    best = study.best()
    assert best is not None
    assert best.number == recorded.number


def test_a_result_is_told_once_and_corrected_by_amending(study: Study) -> None:
    (trial,) = study.ask()
    assert not trial.tell(0.5).was_duplicate

    assert trial.tell(0.5).was_duplicate
    with pytest.raises(TrialFinishedError):
        trial.tell(0.75)

    assert study.amend(trial, 0.75, "unit mix-up").metrics == {"loss": 0.75}
    assert study.trial(trial.number).metrics == {"loss": 0.75}


def test_a_batch_of_results_is_answered_item_by_item(study: Study) -> None:
    first, second = study.ask(2)

    answers, asked = study.tell_and_ask([(first, 0.5), (second, 0.25)], n=2)
    refused = study.tell_many([(first, 0.75), (999, 0.5)])

    assert [answer.state for answer in answers] == [TrialState.COMPLETED] * 2
    assert [trial.number for trial in asked] == [3, 4]
    assert [type(answer.error) for answer in refused] == [TrialFinishedError, NotFoundError]


def test_loading_a_study_wants_the_same_definition(client: Client, study: Study) -> None:
    same = client.create_study(
        study.id,
        space=SPACE,
        objective="-loss",
        strategy="random",
        seed=1,
        if_exists="load_if_equal",
    )
    assert same.uid == study.uid

    with pytest.raises(StudyExistsError, match="strategy"):
        client.create_study(
            study.id,
            space=SPACE,
            objective="-loss",
            strategy="sobol",
            if_exists="load_if_equal",
        )
    loaded = client.create_study(study.id, space=SPACE, objective="other", if_exists="load")
    assert loaded.spec == study.spec


def test_a_study_without_a_seed_is_loaded_by_the_same_program_again(client: Client) -> None:
    first = client.create_study("drawn", space=SPACE, objective="-loss")

    again = client.create_study(
        "drawn", space=SPACE, objective="-loss", if_exists="load_if_equal"
    )

    assert again.uid == first.uid
    assert first.spec.seed is not None


def test_studies_of_one_seed_suggest_the_same_also_if_it_is_zero(client: Client) -> None:
    first, second = (
        client.create_study(name, space=SPACE, objective="-loss", strategy="random", seed=0)
        for name in ("zero", "nil")
    )

    assert first.spec.seed == second.spec.seed == 0
    assert [t.parameters for t in first.ask(3)] == [t.parameters for t in second.ask(3)]


def test_a_deleted_study_takes_no_results_and_frees_its_name(
    client: Client, study: Study, tmp_path: Path
) -> None:
    (trial,) = study.ask()
    client.delete_study(study.id)

    with pytest.raises(StudyDeletedError):
        trial.tell(0.5)
    (refused,) = (tmp_path / "outbox" / "refused.jsonl").read_text().splitlines()
    assert trial.name in refused
    assert client.flush(0.0)
    with pytest.raises(NotFoundError):
        client.study(study.id)
    again = client.create_study(study.id, space=SPACE, objective="-loss")
    assert again.uid != study.uid


def test_a_handle_of_a_deleted_study_never_means_the_next_one_of_its_name(
    client: Client, study: Study
) -> None:
    held = study.ask(3)
    client.delete_study(study.id)
    again = client.create_study(study.id, space=SPACE, objective="-loss", strategy="random")
    theirs = again.ask(3)
    before = again.refresh().revision

    for refused in (
        lambda: held[0].tell(0.5),
        lambda: held[1].fail("node lost"),
        lambda: study.tell(3, 0.5),
        lambda: study.tell_and_ask([(held[2], 0.5)]),
        lambda: study.ask(),
        lambda: study.enqueue({"x": 0.5, "n": 2}),
        lambda: study.stop(1),
        lambda: study.trial(1),
        lambda: study.predict([{"x": 0.5, "n": 2}]),
        lambda: next(study.watch()),
        study.trials,
        study.best,
        study.refresh,
        study.delete,
    ):
        with pytest.raises(NotFoundError, match="another study now"):
            refused()

    assert again.refresh().revision == before
    theirs[0].tell(0.25)
    with pytest.raises(NotFoundError, match="another study now"):
        study.amend(1, 0.5)
    assert again.trial(1).metrics == {"loss": 0.25}


def test_a_study_takes_no_trial_of_another_one(client: Client, study: Study) -> None:
    other = client.create_study("other", space=SPACE, objective="-loss")
    (trial,) = study.ask()
    other.ask()

    with pytest.raises(InvalidError, match="a trial of another study"):
        other.tell(trial, 0.5)

    assert other.trial(1).state is TrialState.ACTIVE


def test_what_is_wrong_is_said_with_the_field_as_the_caller_knows_it(study: Study) -> None:
    (trial,) = study.ask()

    with pytest.raises(InvalidError, match="accuracy"):
        trial.tell({"accuracy": 0.5})
    with pytest.raises(InvalidError, match=r"parameters\[n\]"):
        study.enqueue({"x": 0.5, "n": 2.5})
    with pytest.raises(NotFoundError):
        study.trial(99)


def test_a_watch_tells_the_story_of_a_study(study: Study) -> None:
    seen: list[str] = []

    def follow() -> None:
        with study.watch() as watch:
            for event in watch:
                seen.append(event.kind)
                if event.kind == "amended":
                    return

    thread = threading.Thread(target=follow)
    thread.start()
    (trial,) = study.ask()
    trial.report(1, 0.9)
    trial.tell(0.5)
    study.amend(trial, 0.25, "better clock")
    thread.join(20)

    kinds = [kind for kind in seen if kind not in ("study", "leased")]
    assert kinds == ["asked", "reported", "told", "amended"]


def test_the_same_seed_gives_the_same_trials(client: Client) -> None:
    walks = []
    for name in ("twin-1", "twin-2"):
        study = client.create_study(
            name, space=SPACE, objective="-loss", strategy="gp", seed=11, trials=9
        )
        study.optimize(loss)
        walks.append([dict(trial.parameters) for trial in study.trials()])

    assert walks[0] == walks[1]


def test_a_run_survives_a_server_that_is_killed_again_and_again(tmp_path: Path) -> None:
    server = Server(tmp_path, free_port())
    server.start()
    with Client(server.address, outbox=tmp_path / "outbox") as client:
        study = client.create_study("k", space=SPACE, objective="-loss", strategy="random")
        watched: list[tuple[int, str, int]] = []

        def follow() -> None:
            with study.watch() as watch:
                for event in watch:
                    number = event.trial.number if event.trial else 0
                    watched.append((event.revision, event.kind, number))
                    if len({each for each in watched if each[1] == "told"}) == 40:
                        return

        follower = threading.Thread(target=follow)
        follower.start()
        ended = threading.Event()

        def torment() -> None:
            for _ in range(2):
                if ended.wait(1.0):
                    return
                server.kill()
                server.start()

        tormentor = threading.Thread(target=torment)
        tormentor.start()

        def objective(trial: Trial) -> float:
            time.sleep(0.05)
            return loss(trial)

        study.optimize(objective, trials=40, workers=3)
        ended.set()
        tormentor.join(30)
        follower.join(30)

        trials = study.trials()
        assert [trial.number for trial in trials] == list(range(1, len(trials) + 1))
        assert len([t for t in trials if t.state is TrialState.COMPLETED]) == 40
        told = [each for each in watched if each[1] == "told"]
        assert len(told) == len({number for _, _, number in told}) == 40
        revisions = [revision for revision, _, _ in watched]
        assert sorted(set(revisions)) == list(range(1, max(revisions) + 1))
    server.stop()


_EVALUATE_AND_HANG = """
import sys, time
from bbopt_client import Client, ClientOptions
client = Client(sys.argv[1], outbox=sys.argv[2])
(trial,) = client.study("crash").ask()
print(trial.number, flush=True)
sys.stdin.readline()
trial.tell(0.5)
"""


def test_a_result_outlives_a_crash_of_both_sides(tmp_path: Path) -> None:
    server = Server(tmp_path, free_port())
    server.start()
    outbox = tmp_path / "outbox"
    with Client(server.address, outbox=False) as client:
        client.create_study("crash", space=SPACE, objective="-loss", strategy="random")
    worker = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _EVALUATE_AND_HANG, server.address, str(outbox)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    number = int(worker.stdout.readline())
    server.kill()
    worker.stdin.write(b"\n")
    worker.stdin.flush()
    wait_until(lambda: any(path.stat().st_size for path in outbox.glob("*.jsonl")))
    worker.kill()
    worker.communicate()

    server.start()
    with Client(server.address, outbox=outbox) as client:
        study = client.study("crash")
        assert client.flush(20)
        told = study.trial(number)

    assert told.metrics == {"loss": 0.5}
    assert list(outbox.glob("*.jsonl")) == []
    server.stop()


def test_every_file_of_the_outbox_is_private(tmp_path: Path, server: Server) -> None:
    with Client(server.address, outbox=tmp_path / "o") as client:
        study = client.create_study("private", space=SPACE, objective="-loss")
        study.add({"x": 0.5, "n": 1}, 0.5)
        with pytest.raises(TrialFinishedError):
            study.tell(1, 0.75)

    for path in (tmp_path / "o", *(tmp_path / "o").iterdir()):
        assert os.stat(path).st_mode & 0o077 == 0
