"""A storm: clients at work while the server and its compute processes are killed.

Some clients are the library's own, with heartbeats, retries and outbox; others are bare stubs
that send a call again, under its id, until it is answered. What they sent and what they were
answered becomes a history.
"""

import contextlib
import random
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import psutil
from google.protobuf.message import Message

from bbopt.errors import ConflictError, DeadlineError, RetryableError, UnavailableError
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt_client import Client, ClientOptions
from bbopt_server.crash_points import EXIT_CRASHED, VARIABLE
from tests.e2e.served import PARENT, Caller, ServerProcess, free_port, new_id
from tests.faults.history import MUTATIONS, Exchange, method_of
from tests.unit.server.service import completed, failed, point, quadratic
from tests.waiting import wait_until

LIMIT_S = 120.0
"""For anything that must happen, on however busy a machine."""
PROGRESS = 16
"""Calls that are answered between two blows, at least."""
SERVER = ("-m", "bbopt_server")


class Blow(Enum):
    """Something that happens to the service."""

    FRONT = "the server is killed"
    COMPUTE = "a compute process is killed"
    COMMIT = "the server dies of a commit, before it answers"


class Place:
    """Where the server is, always at the same address."""

    def __init__(self, db: str, *, program: Sequence[str], n_compute: int) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._db = db
        self._program = program
        self._flags = ("--compute-processes", str(n_compute))
        self.log = ""
        """What the servers before this one had to say."""
        self.server = self._start()

    def _start(self, *environment: str) -> ServerProcess:
        server = ServerProcess(
            self._db,
            *self._flags,
            listen=self.address,
            environment=environment,
            program=self._program,
        )
        assert server.address == self.address, server.wait()
        return server

    def kill(self) -> None:
        self.log += self.server.end(signal.SIGKILL)[1]

    def restart(self) -> None:
        self.kill()
        self.server = self._start()

    def suffer(self, blow: Blow, rng: random.Random) -> None:
        match blow:
            case Blow.FRONT:
                self.restart()
            case Blow.COMPUTE:
                self.kill_compute(rng)
            case Blow.COMMIT:
                self.die_of_a_commit()

    def die_of_a_commit(self) -> None:
        self.kill()
        self.server = self._start(f"{VARIABLE}=store.after_commit")
        status, log = self.server.wait(timeout_s=LIMIT_S)
        assert status == EXIT_CRASHED
        self.log += log
        self.server = self._start()

    def kill_compute(self, rng: random.Random) -> None:
        """Kill one compute process, once there is one."""
        wait_until(lambda: bool(self.server.compute_processes))
        with contextlib.suppress(psutil.NoSuchProcess):
            rng.choice(self.server.compute_processes).kill()

    def is_ready_to_suggest(self) -> bool:
        with Caller(self.address) as caller:
            info = caller.call(caller.optimization.GetServerInfo, pb.GetServerInfoRequest())
            return info.suggest_ready


@dataclass
class Worker(ABC):
    """A client that asks and tells until it is stopped."""

    name: str
    study: str
    address: str
    history: list[Exchange]
    stop: threading.Event
    outbox: Path
    rng: random.Random = field(init=False)
    n_resent: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.name)  # noqa: S311 - losses, not secrets

    @abstractmethod
    def run(self) -> None:
        """Work; whatever was begun is finished before the end."""


class Stubs(Worker):
    """Bare stubs: sends a call again, under its id, until it is answered."""

    def run(self) -> None:
        held: list[trial_pb2.Trial] = []
        while held or not self.stop.is_set():
            time.sleep(self.rng.uniform(0.0, 0.02))
            if held:
                held.extend(self._tell(held.pop()))
            elif self.rng.random() < 0.1:
                self.send(self._observation())
            else:
                held.extend(self.send(self._ask(self.rng.choice((1, 1, 2)))).trials)

    def _tell(self, trial: trial_pb2.Trial) -> Sequence[trial_pb2.Trial]:
        """Tell how a trial ended, and ask for another one in the same call sometimes."""
        dice = self.rng.random()
        outcome = failed() if dice < 0.05 else completed(self.rng.random())
        tell = pb.Tell(trial=trial.name, lease_token=trial.lease.token, outcome=outcome)
        request = pb.TellTrialsRequest(parent=self.study, tells=[tell])
        if dice < 0.3 and not self.stop.is_set():
            both = pb.TellAndAskRequest(tell=request, ask=self._ask(1))
            return list(self.send(both).ask.trials)
        self.send(request)
        return []

    def _ask(self, count: int) -> pb.AskTrialsRequest:
        return pb.AskTrialsRequest(parent=self.study, count=count, worker_id=self.name)

    def _observation(self) -> pb.CreateTrialRequest:
        parameters = point(x=self.rng.random(), y=self.rng.random())
        outcome = completed(self.rng.random())
        return pb.CreateTrialRequest(parent=self.study, parameters=parameters, outcome=outcome)

    def send(self, request: Any) -> Any:  # noqa: ANN401
        """Make one logical call."""
        request.request_id = new_id()
        end_at = time.monotonic() + LIMIT_S
        while True:
            try:
                # Impatient ones are answered without a model while compute is away.
                timeout_s = self.rng.choice((0.5, 2.0, 10.0))
                with Caller(self.address) as caller:
                    answer = attempt(caller, request, timeout_s)
            except (RetryableError, DeadlineError):
                assert time.monotonic() < end_at
                self.n_resent += 1
                time.sleep(self.rng.uniform(0.0, 0.05))
            else:
                self.history.append(Exchange(request, answer))
                return answer


class Library(Worker):
    """The client that people use; its trials are kept by heartbeats."""

    options = ClientOptions(initial_backoff_s=0.05, max_backoff_s=0.5)
    evaluation_s = 0.02
    lease_s: float | None = None

    def run(self) -> None:
        with Client(
            self.address, worker=self.name, outbox=self.outbox, options=self.options
        ) as client:
            self._listen(client)
            study = client.study(self.study.rpartition("/")[2])
            while not self.stop.is_set():
                for trial in study.ask(lease_s=self.lease_s):
                    self.stop.wait(self.rng.uniform(0.0, self.evaluation_s))
                    # Not answered in time: it is in the outbox. A lease that ended: another
                    # worker may have told first.
                    with contextlib.suppress(UnavailableError, DeadlineError, ConflictError):
                        trial.tell(self.rng.random())
            assert client.flush(LIMIT_S)

    def _listen(self, client: Client) -> None:
        """Note every mutation that the client was answered, in whichever of its threads."""
        connection = client.session.connection
        call = connection.call

        def noted(method: Callable[..., Any], request: Any, **limits: float) -> Any:  # noqa: ANN401
            answer = call(method, request, **limits)
            if isinstance(request, MUTATIONS):
                self.history.append(Exchange(request, answer))
            return answer

        connection.call = noted  # type: ignore[method-assign, assignment]


class Slow(Library):
    """Evaluates for as long as a lease lasts."""

    evaluation_s = 3.0
    lease_s = 3.0


class Hasty(Library):
    """Does not wait for the server to come back: its outbox does."""

    options = ClientOptions(initial_backoff_s=0.05, max_backoff_s=0.5, tell_deadline_s=0.2)


@dataclass
class Storm:
    """What was left behind."""

    studies: Sequence[str]
    history: list[Exchange]
    n_resent: int
    log: str
    """Of all servers."""


def rage(
    db: str,
    crew: Sequence[tuple[type[Worker], str]],
    blows: Sequence[Blow],
    *,
    seed: int = 1,
    pause_s: float = 0.5,
    waits_for_compute: bool = False,
    is_over: Callable[[Sequence[Exchange]], bool] = lambda _: True,
    n_compute: int = 1,
    program: Sequence[str] = SERVER,
) -> Storm:
    """Let clients work under blows, and then finish what they began.

    Args:
        db: The file.
        crew: Kind and strategy of each client; those of one strategy share a study, which
            has its name.
        blows: What happens.
        seed: Of the moments and the victims.
        pause_s: A blow falls so long after some progress, at most.
        waits_for_compute: Whether a blow to compute falls once the model is loaded.
        is_over: What must have happened before the clients stop.
        n_compute: Compute processes.
        program: Of the server.
    """
    place = Place(db, program=program, n_compute=n_compute)
    history: list[Exchange] = []
    studies = sorted({strategy for _, strategy in crew})
    with Caller(place.address) as caller:
        for request in map(found, studies):
            history.append(Exchange(request, attempt(caller, request)))
    stop, outbox = threading.Event(), Path(f"{db}.outbox")
    workers = [
        kind(f"w{index}", f"{PARENT}/studies/{study}", place.address, history, stop, outbox)
        for index, (kind, study) in enumerate(crew)
    ]
    rng = random.Random(seed)  # noqa: S311
    with at_work(workers, stop) as make_progress:
        for blow in blows:
            make_progress(n_calls(history, PROGRESS))
            if waits_for_compute and blow is Blow.COMPUTE:
                make_progress(place.is_ready_to_suggest)
            time.sleep(rng.uniform(0.0, pause_s))
            place.suffer(blow, rng)
        make_progress(n_calls(history, PROGRESS))
        make_progress(lambda: is_over(history))
    place.kill()
    return Storm(studies, history, sum(each.n_resent for each in workers), place.log)


def found(strategy: str) -> pb.CreateStudyRequest:
    """Ask for a study that has the name of its strategy."""
    study = study_pb2.Study(spec=quadratic(strategy=strategy))
    return pb.CreateStudyRequest(
        parent=PARENT, study_id=strategy, study=study, request_id=new_id()
    )


@contextlib.contextmanager
def at_work(
    workers: Sequence[Worker], stop: threading.Event
) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Run workers while the block does; they finish what they began.

    The block gets a function that waits for something while they work.
    """
    with ThreadPoolExecutor(len(workers)) as pool:
        running = [pool.submit(worker.run) for worker in workers]

        def make_progress(is_there: Callable[[], bool]) -> None:
            wait_until(lambda: is_there() or any(each.done() for each in running))
            for each in running:
                if each.done():
                    each.result()
                    raise AssertionError("a worker stopped early")

        try:
            yield make_progress
        finally:
            stop.set()
        for each in running:
            each.result(LIMIT_S)


def n_calls(history: Sequence[Exchange], n_more: int) -> Callable[[], bool]:
    """Say when so many more calls were answered."""
    wanted = len(history) + n_more
    return lambda: len(history) >= wanted


def attempt(caller: Caller, request: Message, timeout_s: float = 60.0) -> Any:  # noqa: ANN401
    """Make one attempt at a call."""
    return caller.call(getattr(caller.optimization, method_of(request)), request, timeout_s)
