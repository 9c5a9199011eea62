"""Running a rule durably, and doing in memory what follows from it."""

from collections.abc import Callable
from typing import TypeVar

from bbopt.rpc.names import StudyName
from bbopt_server.compute import Compute
from bbopt_server.crash_points import reach
from bbopt_server.storage.store import Store, Transaction, TrialRow
from bbopt_server.studies.answers import TrialView
from bbopt_server.studies.commands import Call
from bbopt_server.studies.idempotency import RepeatedError, once, once_if_new
from bbopt_server.studies.leasing import LeaseTable
from bbopt_server.studies.ledger import Effects, Ledger, find_study
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.ready import ReadyQueue
from bbopt_server.studies.watching import Bells

A = TypeVar("A")
T = TypeVar("T")


class Committer:
    """The only way in which anything is changed."""

    def __init__(
        self,
        store: Store,
        compute: Compute,
        outside: Outside,
        *,
        leases: LeaseTable,
        bells: Bells,
        ready: ReadyQueue,
    ) -> None:
        self._store = store
        self._compute = compute
        self._outside = outside
        self._leases = leases
        self._bells = bells
        self._ready = ready

    async def commit(
        self, work: Callable[[Transaction, Effects], T], *, is_long: bool = False
    ) -> T:
        """Run work in a transaction, then do in memory what follows from it.

        The store does the second even if the caller goes away meanwhile.
        """
        effects = Effects()

        def begin(tx: Transaction) -> T:
            nonlocal effects
            effects = Effects()  # What an earlier call of this did was undone.
            return work(tx, effects)

        return await self._store.transact(
            begin, then=lambda: self._apply(effects), is_long=is_long
        )

    async def on_study(
        self,
        name: StudyName,
        call: Call[A],
        rule: Callable[[Ledger], A],
        *,
        is_long: bool = False,
    ) -> bytes:
        """Run a rule that changes a study, once per call; return the call's answer."""
        outside = self._outside

        def work(tx: Transaction, effects: Effects, is_new: bool) -> bytes:
            def change() -> A:
                return rule(Ledger(tx, find_study(tx, name), outside, effects))

            answer = once_if_new if is_new else once
            return answer(tx, name.project, call, work=change, at=outside.wall())

        return await self.commit_new(work, is_long=is_long)

    async def commit_new(
        self, work: Callable[[Transaction, Effects, bool], T], *, is_long: bool = False
    ) -> T:
        """Run work that answers calls, which most likely are new: its last argument says
        whether to take that for granted. If it is not so, run it again.
        """
        try:
            return await self.commit(lambda tx, e: work(tx, e, True), is_long=is_long)
        except RepeatedError:
            return await self.commit(lambda tx, e: work(tx, e, False), is_long=is_long)

    async def on_trial(
        self, name: StudyName, call: Call[TrialView], rule: Callable[[Ledger], TrialRow]
    ) -> bytes:
        """Run a rule that changes a trial, once per call; return the call's answer."""
        return await self.on_study(name, call, lambda ledger: TrialView(name, rule(ledger)))

    def _apply(self, effects: Effects) -> None:
        reach("commit.before_effects")
        for study_key, number in effects.freed:
            self._leases.drop(study_key, number)
        for lease in effects.taken:
            self._leases.hold(lease)
        for row in effects.deleted:
            self._leases.drop_study(row.key)
            self._compute.forget(row.uid)
        for study_key in effects.changed:
            self._bells.ring(study_key)
        self._ready.note(effects)
        reach("commit.after_effects")
