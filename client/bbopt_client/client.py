"""The way in: a connection to one server, and the studies on it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from bbopt.errors import InvalidError
from bbopt.problem import Budget, Fidelity, Metric
from bbopt.rpc.names import ProjectName, StudyName, check_id
from bbopt.rpc.study import study_spec_to_message
from bbopt.rpc.v1 import study_pb2
from bbopt.rpc.v1.optimization_service_pb2 import (
    CreateStudyRequest,
    GetServerInfoRequest,
    GetStudyRequest,
    ListStudiesRequest,
)
from bbopt.space import Constraint
from bbopt.specs import StrategySpec, StudySpec
from bbopt_client.arguments import labels_of
from bbopt_client.connection import Connection, FixedTarget, Target
from bbopt_client.definition import SpaceLike, define_study
from bbopt_client.delivery import Delivery
from bbopt_client.heartbeat import Heartbeats
from bbopt_client.local import LocalServer
from bbopt_client.outbox import Outbox
from bbopt_client.session import Session, new_request_id
from bbopt_client.settings import (
    ClientOptions,
    address_from_environment,
    new_worker_id,
    outbox_folder,
)
from bbopt_client.study import Study

logger = logging.getLogger("bbopt.client")

IfExists = Literal["fail", "load_if_equal", "load"]

_IF_EXISTS = {
    "fail": CreateStudyRequest.IF_EXISTS_FAIL,
    "load_if_equal": CreateStudyRequest.IF_EXISTS_LOAD_IF_SPEC_EQUAL,
    "load": CreateStudyRequest.IF_EXISTS_LOAD,
}


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says about itself."""

    version: str
    api_versions: tuple[str, ...]
    strategies: tuple[str, ...]
    device: str
    """Where models live."""
    is_suggest_ready: bool
    """Whether models are loaded; tells are taken before that."""
    limits: Mapping[str, int]


class Client:
    """A connection to one server, opened at the first call; safe for several threads.

    Close it, or use it in a ``with`` block. A child after ``os.fork`` opens its own.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        worker: str | None = None,
        outbox: str | Path | Literal[False] | None = None,
        options: ClientOptions | None = None,
        target: Target | None = None,
    ) -> None:
        """Prepare a client; no call is made unless earlier results wait to be sent.

        Args:
            address: ``host:port``; left out, ``BBOPT_SERVER`` or ``127.0.0.1:50151``.
            worker: Name of this process as a holder of trials; made up if left out.
            outbox: Folder where results are spooled before they are sent; left out, one in
                the user's state directory; ``False`` for no spool.
            options: Patience.
            target: Finds the server's address in another way.
        """
        options = options or ClientOptions()
        target = target or FixedTarget(_checked_address(address or address_from_environment()))
        connection = Connection(target, options)
        worker = worker or new_worker_id()
        self.session = Session(
            connection=connection,
            heartbeats=Heartbeats(connection, worker),
            delivery=Delivery(connection, _open_outbox(outbox, target.identity)),
            options=options,
            worker=worker,
        )
        self.session.delivery.adopt()

    @classmethod
    def local(
        cls,
        path: str | Path,
        *,
        worker: str | None = None,
        outbox: str | Path | Literal[False] | None = None,
        options: ClientOptions | None = None,
        device: str | None = None,
    ) -> "Client":
        """Use a database file on this machine, starting a private server if none serves it.

        The server is shared with every other client of the file and leaves by itself half a
        minute after the last one.

        Args:
            path: The database; created if it does not exist.
            worker: As for ``Client``.
            outbox: As for ``Client``.
            options: As for ``Client``.
            device: ``cpu``, ``cuda`` or ``auto``, if the server is started.

        Raises:
            UnavailableError: The server could not be started; says why.
        """
        server = LocalServer(path, device=device)
        client = cls(worker=worker, outbox=outbox, options=options, target=server)
        server.keep_alive(client.session.connection)
        return client

    @property
    def address(self) -> str:
        """Where the server is."""
        return self.session.connection.target.address()

    @property
    def worker(self) -> str:
        """Name of this process as a holder of trials."""
        return self.session.worker

    def __repr__(self) -> str:
        return f"<Client {self.session.connection.target.identity}>"

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give results that are on their way a few seconds, then end every call and thread.

        Trials that are held stay leased until their leases end; ``Trial.release`` gives one
        back at once.
        """
        self.session.close()

    # Studies -------------------------------------------------------------------------------

    def create_study(
        self,
        name: str,
        *,
        space: SpaceLike,
        objective: str | Metric,
        constraints: Sequence[str | Metric] = (),
        metrics: Sequence[str | Metric] = (),
        parameter_constraints: Sequence[Constraint] = (),
        budget: Budget | None = None,
        fidelity: Fidelity | None = None,
        trials: int | None = None,
        strategy: str | StrategySpec = "auto",
        seed: int | None = None,
        lease_s: float | None = None,
        max_attempts: int | None = None,
        if_exists: IfExists = "fail",
        labels: Mapping[str, str] | None = None,
        project: str = "default",
        validate_only: bool = False,
    ) -> Study:
        """Create a study.

        Args:
            name: Its id: letters, digits, ``.``, ``_`` and ``-``.
            space: The parameters; a ``Space`` or a list.
            objective: ``"accuracy"`` is maximised, ``"-loss"`` minimised.
            constraints: Bounds on measured metrics, ``"latency_ms <= 20"``.
            metrics: More metrics; a name alone is recorded and not used.
            parameter_constraints: Known constraints between the parameters of a list.
            budget: When the study is complete.
            fidelity: How far a trial may be evaluated; ``asha`` needs it.
            trials: Short for ``Budget(trials=...)``.
            strategy: A name (``"auto"``, ``"gp"``, ``"cma_es"``, ``"sobol"``, ``"random"``,
                ``"asha"``) or settings.
            seed: In ``[0, 2**64)``; left out, the server draws one.
            lease_s: How long a worker may be silent; 0 for leases that never expire.
            max_attempts: Times a point is handed out before it counts as failed.
            if_exists: What to do when the name is taken: fail, load the study if its
                definition is the same, or load it whatever it is.
            labels: Free text to find the study by.
            project: Groups studies.
            validate_only: Check everything, create nothing.

        Raises:
            SpecError: The definition is wrong; everything that is wrong is listed.
            UnsupportedError: The strategy cannot handle the problem; says which can.
            StudyExistsError: The name is taken.
        """
        spec = define_study(
            space,
            objective,
            constraints=constraints,
            metrics=metrics,
            parameter_constraints=parameter_constraints,
            budget=budget,
            fidelity=fidelity,
            trials=trials,
            strategy=strategy,
            seed=seed,
            lease_s=lease_s,
            max_attempts=max_attempts,
        )
        return self.create_study_from(
            name,
            spec,
            if_exists=if_exists,
            labels=labels,
            project=project,
            validate_only=validate_only,
        )

    def create_study_from(
        self,
        name: str,
        spec: StudySpec,
        *,
        if_exists: IfExists = "fail",
        labels: Mapping[str, str] | None = None,
        project: str = "default",
        validate_only: bool = False,
    ) -> Study:
        """Create a study from its definition; see ``create_study``."""
        if if_exists not in _IF_EXISTS:
            raise InvalidError.of("if_exists", f"must be one of {', '.join(_IF_EXISTS)}")
        if not isinstance(name, str):
            raise TypeError(f"a name is text, not {name!r}")
        message = study_pb2.Study(spec=study_spec_to_message(spec), labels=labels_of(labels))
        request = CreateStudyRequest(
            parent=str(ProjectName(project)),
            study_id=check_id(name, "name"),
            study=message,
            request_id=new_request_id(),
            validate_only=validate_only,
            if_exists=_IF_EXISTS[if_exists],
        )
        answer = self.session.connection.call(
            lambda stubs: stubs.optimization.CreateStudy, request
        )
        return Study(self.session, answer)

    def study(self, name: str, *, project: str = "default") -> Study:
        """Open a study.

        Raises:
            NotFoundError: There is none of that name.
        """
        request = GetStudyRequest(name=str(StudyName(project, name)))
        answer = self.session.connection.call(
            lambda stubs: stubs.optimization.GetStudy, request
        )
        return Study(self.session, answer)

    def studies(self, *, project: str = "default", with_deleted: bool = False) -> list[Study]:
        """List the studies of a project."""
        request = ListStudiesRequest(
            parent=str(ProjectName(project)), page_size=100, show_deleted=with_deleted
        )
        found: list[Study] = []
        while True:
            page = self.session.connection.call(
                lambda stubs: stubs.optimization.ListStudies, request
            )
            found.extend(Study(self.session, message) for message in page.studies)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def delete_study(self, name: str, *, project: str = "default") -> None:
        """Delete a study; its name is free again.

        Raises:
            NotFoundError: There is none of that name.
        """
        self.study(name, project=project).delete()

    # The server ----------------------------------------------------------------------------

    def server_info(self) -> ServerInfo:
        """Ask the server what it is and what it can do."""
        answer = self.session.connection.call(
            lambda stubs: stubs.optimization.GetServerInfo, GetServerInfoRequest()
        )
        return ServerInfo(
            version=answer.version,
            api_versions=tuple(answer.api_versions),
            strategies=tuple(strategy.id for strategy in answer.strategies),
            device=answer.device,
            is_suggest_ready=answer.suggest_ready,
            limits=dict(answer.limits),
        )

    def flush(self, timeout_s: float = 60.0) -> bool:
        """Wait for spooled results to be sent; say whether none is left."""
        return self.session.delivery.flush(timeout_s)


def _checked_address(address: object) -> str:
    if isinstance(address, str):
        host, _, port = address.rpartition(":")
        if host and "/" not in host and port.isdecimal() and 0 < int(port) < 65536:
            return address
    raise InvalidError.of("address", f"must look like host:port, not {address!r}")


def _open_outbox(given: str | Path | Literal[False] | None, server: str) -> Outbox | None:
    if given is False:
        return None
    try:
        return Outbox(outbox_folder() if given is None else Path(given), server)
    except OSError as error:
        if given is not None:
            raise
        logger.warning("results are not spooled before they are sent: %s", error)
        return None
