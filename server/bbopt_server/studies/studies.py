"""The one door to studies: each method is one call of the service, whatever the wire.

A method runs a rule of this package in a transaction, waits until it is durable, and only
then does in memory what follows from it (leases, waking those who wait). A mutation returns
the bytes of its answer, because those are what is stored for when the call is repeated.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import NoReturn

from bbopt.errors import InvalidError, NotFoundError, UnavailableError, Violation
from bbopt.problem import Problem
from bbopt.rpc.names import StudyName
from bbopt.rpc.v1 import insight_service_pb2
from bbopt_server.compute import Compute
from bbopt_server.storage.store import FEW, Store, StudyRow, Transaction, TrialRow
from bbopt_server.studies import (
    creating,
    leasing,
    telling,
    trials,
    watching,
)
from bbopt_server.studies.answering import Answerer
from bbopt_server.studies.answers import (
    Action,
    AskAnswer,
    Best,
    Change,
    Directive,
    ItemResult,
    ReportAnswer,
    StudyPage,
    StudyView,
    TellAnswer,
    TrialPage,
    TrialView,
)
from bbopt_server.studies.commands import (
    AmendTrial,
    Ask,
    Call,
    CreateStudy,
    CreateTrial,
    DeleteStudy,
    Heartbeat,
    ListTrials,
    Misread,
    Release,
    Report,
    StopTrial,
    Tell,
)
from bbopt_server.studies.committing import Committer
from bbopt_server.studies.idempotency import once
from bbopt_server.studies.insight import Insight
from bbopt_server.studies.ledger import Effects, Ledger, find_study
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.ready import ReadyQueue
from bbopt_server.studies.sweeping import Sweeper


class Studies:
    """Everything that a caller can do with studies."""

    def __init__(
        self,
        store: Store,
        compute: Compute,
        outside: Outside | None = None,
        *,
        has_ready_queue: bool = True,
    ) -> None:
        self._store = store
        self._compute = compute
        self._outside = outside or Outside()
        self._leases = leasing.LeaseTable(self._outside.monotonic)
        self._bells = watching.Bells()
        self.ready = ReadyQueue(store, compute, self._outside, is_on=has_ready_queue)
        self._committer = Committer(
            store,
            compute,
            self._outside,
            leases=self._leases,
            bells=self._bells,
            ready=self.ready,
        )
        self._answerer = Answerer(
            store,
            compute,
            self._outside,
            committer=self._committer,
            bells=self._bells,
            ready=self.ready,
        )
        self._insight = Insight(store, compute, self._outside.specs)
        self.sweeper = Sweeper(store, self._committer, self._leases, self._outside)
        self._sweeping: asyncio.Task[None] | None = None

    # Life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Give every live lease a full new term and begin to look for expired ones."""
        for lease in await self._store.read(leasing.live_leases, is_long=True):
            self._leases.hold(lease)
        self._sweeping = asyncio.create_task(self.sweeper.run())

    async def drain(self) -> None:
        """Answer no more asks and end streams; tells go on."""
        await self._answerer.drain()
        await self.ready.stop()

    async def stop(self) -> None:
        """End what runs in the background, after what is being committed is done."""
        await self.drain()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)

    @property
    def is_ready_to_suggest(self) -> bool:
        """Whether the model can answer asks now."""
        return not self._answerer.is_draining and self._compute.is_ready

    # Studies -------------------------------------------------------------------------------

    async def create_study(self, command: CreateStudy, call: Call[StudyView]) -> bytes:
        """Found a study."""
        creating.check_capabilities(command.spec)
        await asyncio.to_thread(creating.check_feasible_set, command.spec.problem.space)
        project = command.name.project
        outside = self._outside

        def work(tx: Transaction, effects: Effects) -> bytes:
            def create() -> StudyView:
                row = creating.create(tx, command, outside, effects)
                return StudyView(row, tx.count_trials(row.key) if row.key else {})

            if command.is_trial_run:
                return call.encode(create())
            return once(tx, project, call, work=create, at=outside.wall())

        return await self._committer.commit(work)

    async def get_study(self, name: StudyName) -> StudyView:
        """Look at a study."""

        def work(tx: Transaction) -> StudyView:
            row = find_study(tx, name)
            return StudyView(row, tx.count_trials(row.key))

        return self._with_health(await self._store.read(work))

    def _with_health(self, view: StudyView) -> StudyView:
        left_s = self._compute.set_aside_s(view.row.uid)
        if left_s <= 0.0:
            return view
        return replace(view, set_aside_until=self._outside.wall() + left_s)

    async def list_studies(
        self, project: str, *, page_size: int, page_token: str, with_deleted: bool
    ) -> StudyPage:
        """Page through the studies of a project in the order of their creation."""
        listing = ("studies", project, with_deleted)
        after = trials.read_page_token(page_token, listing)

        def work(tx: Transaction) -> StudyPage:
            rows = tx.studies(
                project, after_key=after, limit=page_size + 1, deleted=with_deleted
            )
            shown = rows[:page_size]
            token = ""
            if len(rows) > len(shown):
                token = trials.write_page_token(shown[-1].key, listing)
            views = tuple(StudyView(row, tx.count_trials(row.key)) for row in shown)
            return StudyPage(views, token)

        page = await self._store.read(work, is_long=True)
        return replace(page, studies=tuple(map(self._with_health, page.studies)))

    async def delete_study(self, command: DeleteStudy, call: Call[None]) -> bytes:
        """Hide a study and free its name."""
        outside = self._outside

        def work(tx: Transaction, effects: Effects) -> bytes:
            def delete() -> None:
                creating.delete(tx, command, outside, effects)

            return once(tx, command.name.project, call, work=delete, at=outside.wall())

        return await self._committer.commit(work)

    # Ask -----------------------------------------------------------------------------------

    async def ask(
        self, command: Ask, call: Call[AskAnswer], *, time_left_s: float | None
    ) -> bytes:
        """Hand out trials, waiting for some if that makes sense.

        ``max_wait_s`` bounds the waiting for results and for trials that come back; the
        model may use all the time there is, because a cheaper point is the worse answer.

        Args:
            command: What is asked for.
            call: Its identity.
            time_left_s: Until the caller stops listening; ``None``: unknown.

        Raises:
            DeadlineError: The model did not answer in time and the caller allows no
                fallback.
            UnavailableError: The server is stopping, or has no model at all.
        """
        return await self._answerer.answer(command, call, time_left_s=time_left_s)

    # Tell ----------------------------------------------------------------------------------

    async def tell(self, command: Tell, call: Call[TellAnswer]) -> bytes:
        """Record final outcomes; never waits for a model."""
        try:
            return await self._committer.on_study(
                command.study,
                call,
                lambda ledger: telling.tell(ledger, command),
                is_long=len(command.items) > FEW,
            )
        except telling.BatchRefusedError as refused:
            view = await self.get_study(command.study)
            answer = TellAnswer(refused.results, view.row.revision, view.row.state)
            return call.encode(answer)

    async def amend(self, command: AmendTrial, call: Call[TrialView]) -> bytes:
        """Correct a final outcome."""
        outcome = command.outcome
        if isinstance(outcome, Misread):
            await self._refuse(
                command.study, outcome.faults, lambda p: telling.check_outcome(p, outcome)
            )
        return await self._committer.on_trial(
            command.study, call, lambda ledger: telling.amend(ledger, command)
        )

    # Leases --------------------------------------------------------------------------------

    async def report(self, command: Report, call: Call[ReportAnswer]) -> bytes:
        """Record intermediate measurements; the lease gets a new term."""
        if known := command.faults:
            await self._refuse(
                command.study, known, lambda p: leasing.checked_reports(p, command)
            )

        def work(ledger: Ledger) -> ReportAnswer:
            answer, row = leasing.report(ledger, command)
            ledger.hold(row)
            has_term = row.lease_duration_s > 0
            expires_at = ledger.at + row.lease_duration_s if has_term else None
            return replace(answer, lease_expires_at=expires_at)

        is_long = len(command.measurements) > FEW
        return await self._committer.on_study(command.study, call, work, is_long=is_long)

    async def heartbeat(self, command: Heartbeat) -> list[Directive]:
        """Give new terms to the leases of a worker, and orders to the worker."""
        is_long = len(command.held) > FEW
        orders = await self._store.read(lambda tx: leasing.direct(tx, command), is_long=is_long)
        now = self._outside.wall()
        return [self._extended(order, row, now) for order, row in orders]

    def _extended(self, order: Directive, row: TrialRow | None, now: float) -> Directive:
        if row is None or row.lease_duration_s <= 0:
            return order
        if not self._leases.extend(row.study_key, row.number, row.lease_token):
            # It ran out; the sweeper is about to put the trial back.
            return Directive(order.trial, Action.LEASE_LOST, "the lease ran out")
        return replace(order, lease_expires_at=now + row.lease_duration_s)

    async def release(self, command: Release, call: Call[tuple[ItemResult, ...]]) -> bytes:
        """Put trials back into the queue."""
        return await self._committer.on_study(
            command.study,
            call,
            lambda ledger: leasing.release(ledger, command),
            is_long=len(command.held) > FEW,
        )

    # Trials --------------------------------------------------------------------------------

    async def create_trial(self, command: CreateTrial, call: Call[TrialView]) -> bytes:
        """Enqueue a point, or record a finished observation."""
        if known := command.all_faults:
            await self._refuse(
                command.study, known, lambda p: trials.checked_outcome(p, command)
            )
        return await self._committer.on_trial(
            command.study, call, lambda ledger: trials.create_trial(ledger, command)
        )

    async def _refuse(
        self,
        name: StudyName,
        known: Sequence[Violation],
        check: Callable[[Problem], object],
    ) -> NoReturn:
        """Refuse what is wrong whatever the study, with all that the study finds wrong too.

        Args:
            name: The study, which may not be there.
            known: What is wrong in any case.
            check: Raises all of it, given the study's problem.
        """
        try:
            study = (await self.get_study(name)).row
        except NotFoundError:
            raise InvalidError(known) from None
        check(self._outside.specs.spec_of(study).problem)
        raise InvalidError(known)

    async def stop_trial(self, command: StopTrial, call: Call[TrialView]) -> bytes:
        """Ask for an early end of a trial."""
        return await self._committer.on_trial(
            command.study, call, lambda ledger: trials.stop(ledger, command)
        )

    async def get_trial(self, study: StudyName, number: int) -> TrialView:
        """Look at a trial, intermediate measurements included."""
        read = await self._store.read(lambda tx: trials.read_trial(tx, study, number))
        return self._with_lease(read)

    async def list_trials(self, command: ListTrials) -> TrialPage:
        """Page through trials in order of number."""
        page = await self._store.read(
            lambda tx: trials.list_trials(tx, command), is_long=command.page_size > FEW
        )
        return replace(page, trials=tuple(map(self._with_lease, page.trials)))

    def _with_lease(self, view: TrialView) -> TrialView:
        left_s = self._leases.time_left(view.row.study_key, view.row.number)
        if left_s is None:
            return view
        return replace(view, lease_expires_at=self._outside.wall() + left_s)

    # Watching and insight ------------------------------------------------------------------

    async def watch(self, name: StudyName, since: int) -> AsyncIterator[Change]:
        """Follow a study's log from a revision on, without gaps, until it is deleted.

        Events are read when the caller is ready for more, so a slow one costs no memory.
        A completed study is followed further: results may still come.
        """
        study = (await self.get_study(name)).row
        if since > study.revision:
            raise InvalidError.of(
                "since_revision", f"must be at most {study.revision}, the study's revision"
            )
        with self._bells.listen(study.key) as bell:
            while not self._answerer.is_draining:
                await bell.wait()
                while True:
                    study, changes = await self._changes(study, since)
                    for change in changes:
                        yield change
                    if not changes:
                        break
                    since = changes[-1].event.revision
                if study.state == "DELETED":
                    return
        raise UnavailableError("the server is stopping; resume later", retry_after_s=2.0)

    async def _changes(self, study: StudyRow, since: int) -> tuple[StudyRow, Sequence[Change]]:
        return await self._store.read(
            lambda tx: watching.read_changes(tx, study.key, since),
            is_long=study.revision - since > FEW,
        )

    async def best(self, name: StudyName, *, uses_model: bool) -> Best:
        """Find the trial to deploy: as measured, or by the model's mean."""
        study = (await self.get_study(name)).row
        best = await self._insight.best(name, study, uses_model=uses_model)
        return best if best.trial is None else replace(best, trial=self._with_lease(best.trial))

    async def predict(
        self, name: StudyName, points: Sequence[insight_service_pb2.Point]
    ) -> insight_service_pb2.PredictResponse:
        """Predict every metric at points that the space allows."""
        return await self._insight.predict((await self.get_study(name)).row, points)
