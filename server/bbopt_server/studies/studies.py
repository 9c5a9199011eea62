"""The one door to studies: each method is one call of the service, whatever the wire.

A method runs a rule of this package in a transaction, waits until it is durable, and only
then does in memory what follows from it (leases, waking those who wait). A mutation returns
the bytes of its answer, because those are what is stored for when the call is repeated.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from bbopt.errors import (
    DeadlineError,
    InternalError,
    InvalidError,
    NumericalError,
    PreconditionError,
    RetryableError,
    UnavailableError,
    UnsupportedError,
)
from bbopt.rpc.names import StudyName
from bbopt.rpc.space import point_from_message
from bbopt.rpc.v1 import insight_service_pb2
from bbopt.rpc.violations import Violations
from bbopt_server.compute import Compute, ComputeFailedError, ComputeUnavailableError
from bbopt_server.compute.connection import NotInstalledError
from bbopt_server.storage.store import Store, StudyRow, Transaction, TrialRow
from bbopt_server.studies import (
    asking,
    creating,
    fallback,
    insight,
    leasing,
    telling,
    trials,
    watching,
)
from bbopt_server.studies.answers import (
    Action,
    AskAnswer,
    AskReason,
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
from bbopt_server.studies.asking import Answered, CallerAsk, MustWait, NeedsPoints, Points
from bbopt_server.studies.commands import (
    AmendTrial,
    Ask,
    Call,
    CreateStudy,
    CreateTrial,
    DeleteStudy,
    Heartbeat,
    ListTrials,
    Release,
    Report,
    StopTrial,
    Tell,
)
from bbopt_server.studies.idempotency import once, stored_answer
from bbopt_server.studies.ledger import Effects, HeldLease, Ledger, find_study, find_trial
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.scheduling import Scheduler, SpaceExhausted, study_log

A = TypeVar("A")
T = TypeVar("T")

DEFAULT_DEADLINE_S = 60.0
"""Of an ask that comes without one."""
SWEEP_S = 1.0
"""Between two looks for leases that ran out: how late an expiry may be."""
RESPONSES_KEPT_S = 7 * 24 * 3600.0
"""How long the answers to requests are kept for repetitions."""
_FALLBACK_TRIES = 5

_log = logging.getLogger(__name__)


class Studies:
    """Everything that a caller can do with studies."""

    def __init__(self, store: Store, compute: Compute, outside: Outside | None = None) -> None:
        self._store = store
        self._compute = compute
        self._outside = outside or Outside()
        self._leases = leasing.LeaseTable(self._outside.monotonic)
        self._bells = watching.Bells()
        self._scheduler = Scheduler(store, compute, self._outside, self._commit)
        self._tasks: set[asyncio.Task[object]] = set()
        self._is_draining = False

    # Life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Give every live lease a full new term and begin to look for expired ones."""
        for lease in await self._store.read(leasing.live_leases):
            self._leases.hold(lease)
        self._keep(asyncio.create_task(self._sweep_for_ever()))

    async def drain(self) -> None:
        """Answer no more asks; tells go on."""
        self._is_draining = True
        await self._scheduler.stop()
        self._bells.ring_all()

    async def stop(self) -> None:
        """End what runs in the background, after what is being committed is done."""
        await self.drain()
        for task in self._tasks:
            if task.get_name() == _SWEEPER:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def is_ready_to_suggest(self) -> bool:
        """Whether the model can answer asks now."""
        return not self._is_draining and self._compute.is_ready

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

        return await self._commit(work)

    async def get_study(self, name: StudyName) -> StudyView:
        """Look at a study."""

        def work(tx: Transaction) -> StudyView:
            row = find_study(tx, name)
            return StudyView(row, tx.count_trials(row.key))

        return await self._store.read(work)

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

        return await self._store.read(work)

    async def delete_study(self, command: DeleteStudy, call: Call[None]) -> bytes:
        """Hide a study and free its name."""
        outside = self._outside

        def work(tx: Transaction, effects: Effects) -> bytes:
            def delete() -> None:
                creating.delete(tx, command, outside, effects)

            return once(tx, command.name.project, call, work=delete, at=outside.wall())

        return await self._commit(work)

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
        now = self._outside.monotonic()
        available_s = DEFAULT_DEADLINE_S if time_left_s is None else time_left_s
        give_up_at = now + available_s - _margin_s(available_s)
        wait_until = give_up_at
        if command.max_wait_s is not None:
            wait_until = min(give_up_at, now + command.max_wait_s)
        caller = CallerAsk(command, call)
        outlook: asking.Outlook | SpaceExhausted = await self._assess(caller)
        if isinstance(outlook, Answered):
            return outlook.response
        with self._bells.listen(outlook.study.key) as bell:
            while True:
                if isinstance(outlook, NeedsPoints):
                    outlook = await self._provide(caller, outlook, give_up_at)
                match outlook:
                    case Answered(response):
                        return response
                    case SpaceExhausted():
                        return await self._give_up(caller, AskReason.SPACE_EXHAUSTED)
                    case MustWait():
                        left_s = wait_until - self._outside.monotonic()
                        if not await bell.wait(max(0.0, left_s)):
                            has_waited = command.max_wait_s != 0
                            reason = AskReason.WAITING_FOR_RESULTS
                            if has_waited:
                                reason = AskReason.TIMED_OUT
                            return await self._give_up(caller, reason)
                        outlook = await self._assess(caller)

    async def _assess(self, caller: CallerAsk) -> asking.Outlook:
        if self._is_draining:
            raise UnavailableError("the server is stopping", retry_after_s=2.0)
        return await self._store.read(lambda tx: asking.assess(tx, caller, self._outside))

    async def _provide(
        self, caller: CallerAsk, needs: NeedsPoints, give_up_at: float
    ) -> Answered | MustWait | SpaceExhausted:
        """Answer an ask from the queue if that suffices, else with the help of compute."""
        if needs.n_new == 0:
            outside = self._outside
            return await self._commit(
                lambda tx, effects: asking.hand_out_queued(tx, caller, outside, effects)
            )
        try:
            async with asyncio.timeout(give_up_at - self._outside.monotonic()):
                return await self._scheduler.points_for(caller, needs, give_up_at=give_up_at)
        except TimeoutError:
            reason = "the model had no answer before the deadline"
        except NotInstalledError:
            raise  # A server without an engine is set up wrongly: say so, never hide it.
        except (ComputeUnavailableError, ComputeFailedError, NumericalError) as error:
            reason = f"the model cannot answer: {error}"
        if not caller.ask.allows_fallback:
            raise DeadlineError(f"{reason}, and the caller allows no fallback")
        return await self._fall_back(caller, reason)

    async def _fall_back(self, caller: CallerAsk, reason: str) -> Answered | MustWait:
        """Answer with uniform points, marked as such."""
        outside = self._outside
        for attempt in range(_FALLBACK_TRIES):
            outlook = await self._assess(caller)
            if not isinstance(outlook, NeedsPoints):
                return outlook
            row = outlook.study
            first_number = row.n_trials + 1
            suggestions = await fallback.sample(
                outside.specs.spec_of(row),
                first_number=first_number,
                count=outlook.n_new,
                revision=row.revision,
                reason=reason,
            )
            is_last = attempt == _FALLBACK_TRIES - 1

            def commit(
                tx: Transaction,
                effects: Effects,
                row: StudyRow = row,
                points: Points = Points(suggestions, None, row.revision),  # noqa: B008
                is_last: bool = is_last,
            ) -> Answered | MustWait | None:
                return asking.commit_fallback(
                    tx,
                    row,
                    points,
                    caller=caller,
                    is_last=is_last,
                    outside=outside,
                    effects=effects,
                )

            answered = await self._commit(commit)
            if answered is not None:
                return answered
        raise InternalError("the last try of a fallback always answers")

    async def _give_up(self, caller: CallerAsk, reason: AskReason) -> bytes:
        outside = self._outside
        return await self._commit(
            lambda tx, effects: asking.give_up(
                tx, caller, reason, outside=outside, effects=effects
            )
        )

    # Tell ----------------------------------------------------------------------------------

    async def tell(self, command: Tell, call: Call[TellAnswer]) -> bytes:
        """Record final outcomes; never waits for a model."""
        try:
            return await self._on_study(
                command.study, call, lambda ledger: telling.tell(ledger, command)
            )
        except telling.BatchRefusedError as refused:
            view = await self.get_study(command.study)
            answer = TellAnswer(refused.results, view.row.revision, view.row.state)
            return call.encode(answer)

    async def amend(self, command: AmendTrial, call: Call[TrialView]) -> bytes:
        """Correct a final outcome."""
        return await self._on_trial(
            command.study, call, lambda ledger: telling.amend(ledger, command)
        )

    # Leases --------------------------------------------------------------------------------

    async def report(self, command: Report, call: Call[ReportAnswer]) -> bytes:
        """Record intermediate measurements; the lease gets a new term."""

        def work(ledger: Ledger) -> ReportAnswer:
            answer, row = leasing.report(ledger, command)
            ledger.hold(row)
            has_term = row.lease_duration_s > 0
            expires_at = ledger.at + row.lease_duration_s if has_term else None
            return replace(answer, lease_expires_at=expires_at)

        return await self._on_study(command.study, call, work)

    async def heartbeat(self, command: Heartbeat) -> list[Directive]:
        """Give new terms to the leases of a worker, and orders to the worker."""
        orders = await self._store.read(lambda tx: leasing.direct(tx, command))
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
        return await self._on_study(
            command.study, call, lambda ledger: leasing.release(ledger, command)
        )

    async def sweep(self) -> None:
        """Take trials from workers whose leases ran out."""
        expired = self._leases.pop_expired()
        by_study: dict[int, list[HeldLease]] = {}
        for lease in expired:
            by_study.setdefault(lease.study_key, []).append(lease)
        for study_key, leases in by_study.items():
            try:
                await self._expire(study_key, leases)
            except UnavailableError:
                for lease in leases:  # The store is busy or full: try again in a term.
                    self._leases.hold(lease)

    async def _expire(self, study_key: int, leases: list[HeldLease]) -> None:
        def work(tx: Transaction, effects: Effects) -> list[int]:
            row = tx.study_by_key(study_key)
            if row is None or row.state == "DELETED":
                return []
            return leasing.expire(Ledger(tx, row, self._outside, effects), leases)

        taken = await self._commit(work)
        if taken:
            _log.info("leases expired", extra={"n_trials": len(taken)})

    async def _sweep_for_ever(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            task.set_name(_SWEEPER)
        n_sweeps = 0
        while True:
            await asyncio.sleep(SWEEP_S)
            n_sweeps += 1
            try:
                await self.sweep()
                if n_sweeps % _SWEEPS_PER_CLEANING == 0:
                    await self.drop_old_responses()
            except Exception:
                # Nobody awaits this task; without it no lease would ever end again.
                _log.exception("the sweeper stumbled")

    async def drop_old_responses(self) -> int:
        """Forget answers that are too old to be asked for again; return how many."""
        before = self._outside.wall() - RESPONSES_KEPT_S
        n_dropped = 0
        while True:  # In small steps, so that tells get in between.
            n_more = await self._store.transact(
                lambda tx: tx.drop_responses(before=before, limit=_DROPPED_AT_A_TIME)
            )
            n_dropped += n_more
            if n_more < _DROPPED_AT_A_TIME:
                return n_dropped

    # Trials --------------------------------------------------------------------------------

    async def create_trial(self, command: CreateTrial, call: Call[TrialView]) -> bytes:
        """Enqueue a point, or record a finished observation."""
        return await self._on_trial(
            command.study, call, lambda ledger: trials.create_trial(ledger, command)
        )

    async def stop_trial(self, command: StopTrial, call: Call[TrialView]) -> bytes:
        """Ask for an early end of a trial."""
        return await self._on_trial(
            command.study, call, lambda ledger: trials.stop(ledger, command)
        )

    async def get_trial(self, study: StudyName, number: int) -> TrialView:
        """Look at a trial, intermediate measurements included."""

        def work(tx: Transaction) -> TrialView:
            found = find_study(tx, study)
            row = find_trial(tx, found, number)
            reports = tx.measurements(found.key, number)
            return TrialView(study, row, measurements=tuple(each.payload for each in reports))

        return self._with_lease(await self._store.read(work))

    async def list_trials(self, command: ListTrials) -> TrialPage:
        """Page through trials in order of number."""
        _, page = await self._store.read(lambda tx: trials.list_trials(tx, command))
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
            while not self._is_draining:
                await bell.wait()
                while True:
                    study, changes = await self._changes(study.key, since)
                    for change in changes:
                        yield change
                    if not changes:
                        break
                    since = changes[-1].event.revision
                if study.state == "DELETED":
                    return
        raise UnavailableError("the server is stopping; resume later", retry_after_s=2.0)

    async def _changes(self, key: int, since: int) -> tuple[StudyRow, Sequence[Change]]:
        return await self._store.read(lambda tx: watching.read_changes(tx, key, since))

    async def best(self, name: StudyName, *, uses_model: bool) -> Best:
        """Find the trial to deploy: as measured, or by the model's mean."""
        study = (await self.get_study(name)).row
        why_measured = "the best feasible trial as measured"
        if uses_model:
            try:
                recommended = await self._compute.recommend(study_log(self._store, study))
            except (
                RetryableError,
                NumericalError,
                UnsupportedError,
                PreconditionError,
            ) as error:
                why_measured = f"{why_measured}, because the model cannot say: {error}"
            else:
                if recommended.number is not None:
                    view = await self.get_trial(name, recommended.number)
                    return Best(view, view.row.feasible is not False, recommended.reason)
                why_measured = f"{why_measured}, because the model: {recommended.reason}"
        problem = self._outside.specs.spec_of(study).problem
        best = await insight.measured_best(self._store, study, problem)
        if best is None:
            return Best(None, False, "no trial has a complete result yet")
        view = self._with_lease(TrialView(name, best.row))
        if best.is_feasible:
            return Best(view, True, why_measured)
        return Best(view, False, "no trial is feasible; this one is nearest to it")

    async def predict(
        self, name: StudyName, points: Sequence[insight_service_pb2.Point]
    ) -> insight_service_pb2.PredictResponse:
        """Predict every metric at points that the space allows."""
        study = (await self.get_study(name)).row
        space = self._outside.specs.spec_of(study).problem.space
        violations = Violations()
        for position, point in enumerate(points):
            with violations.within(f"points[{position}]"):
                point_from_message(point.parameters, space)
        violations.check()
        return await self._compute.predict(study_log(self._store, study), points)

    # Transactions --------------------------------------------------------------------------

    async def stored(self, project: str, call: Call[A]) -> bytes | None:
        """Return the answer that a call was given before."""
        return await self._store.read(lambda tx: stored_answer(tx, project, call))

    async def _on_study(
        self, name: StudyName, call: Call[A], rule: Callable[[Ledger], A]
    ) -> bytes:
        """Run a rule that changes a study, once per call."""
        outside = self._outside

        def work(tx: Transaction, effects: Effects) -> bytes:
            def change() -> A:
                return rule(Ledger(tx, find_study(tx, name), outside, effects))

            return once(tx, name.project, call, work=change, at=outside.wall())

        return await self._commit(work)

    async def _on_trial(
        self, name: StudyName, call: Call[TrialView], rule: Callable[[Ledger], TrialRow]
    ) -> bytes:
        """Run a rule that changes a trial, once per call."""
        return await self._on_study(name, call, lambda ledger: TrialView(name, rule(ledger)))

    async def _commit(self, work: Callable[[Transaction, Effects], T]) -> T:
        """Run work in a transaction, then do in memory what follows from it.

        A caller that goes away meanwhile must not separate the two, so a task of its own
        carries them through.
        """
        task = asyncio.create_task(self._commit_and_apply(work))
        self._keep(task)
        return await asyncio.shield(task)

    async def _commit_and_apply(self, work: Callable[[Transaction, Effects], T]) -> T:
        effects = Effects()
        result = await self._store.transact(lambda tx: work(tx, effects))
        for study_key, number in effects.freed:
            self._leases.drop(study_key, number)
        for lease in effects.taken:
            self._leases.hold(lease)
        for row in effects.deleted:
            self._leases.drop_study(row.key)
            await self._compute.forget(row.uid)
        for study_key in effects.changed:
            self._bells.ring(study_key)
        return result

    def _keep(self, task: "asyncio.Task[T]") -> None:
        """Hold a reference to a task until it is done, and take note of how it ended."""
        self._tasks.add(task)
        task.add_done_callback(self._forget_task)

    def _forget_task(self, task: "asyncio.Task[T]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Seen by whoever awaited it; nobody else has to.


_NO_ADVICE = (RetryableError, NumericalError, UnsupportedError, PreconditionError)
"""Why a model may have nothing to recommend, while measurements do."""
_SWEEPER = "bbopt sweeper"
_SWEEPS_PER_CLEANING = 60
_DROPPED_AT_A_TIME = 200


def _margin_s(available_s: float) -> float:
    """Time to keep in hand for a fallback and the way back to the caller."""
    return min(0.5, 0.1 * available_s)
