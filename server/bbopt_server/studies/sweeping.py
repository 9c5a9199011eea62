"""Ends leases that ran out, and forgets answers that nobody can ask for any more."""

import asyncio
import logging

from bbopt.errors import UnavailableError
from bbopt_server.crash_points import reach
from bbopt_server.storage.store import FEW, Store, Transaction
from bbopt_server.studies.committing import Committer
from bbopt_server.studies.leasing import LeaseTable, expire
from bbopt_server.studies.ledger import Effects, HeldLease, Ledger
from bbopt_server.studies.outside import Outside

SWEEP_S = 1.0
"""Between two looks for leases that ran out: how late an expiry may be."""
RESPONSES_KEPT_S = 7 * 24 * 3600.0
"""How long the answers to requests are kept for repetitions."""
STANDSTILL_S = 5.0
"""A sweep that comes this much too late means that the server stood still: it was stopped, or
swapped out. Nobody was heard meanwhile, so nobody's silence counts.
"""
_SWEEPS_PER_CLEANING = 60
_DROPPED_AT_A_TIME = 200

_log = logging.getLogger(__name__)


class Sweeper:
    """What time alone brings about."""

    def __init__(
        self, store: Store, committer: Committer, leases: LeaseTable, outside: Outside
    ) -> None:
        self._store = store
        self._committer = committer
        self._leases = leases
        self._outside = outside

    async def run(self) -> None:
        """Sweep until cancelled."""
        n_sweeps = 0
        monotonic = self._outside.monotonic
        while True:
            swept_at = monotonic()
            await asyncio.sleep(SWEEP_S)
            n_sweeps += 1
            stood_still_s = monotonic() - swept_at - SWEEP_S
            if stood_still_s > STANDSTILL_S:
                _log.warning("the server stood still", extra={"seconds": stood_still_s})
                self._leases.renew()
            try:
                await self.end_expired()
                if n_sweeps % _SWEEPS_PER_CLEANING == 0:
                    await self.drop_old_responses()
            except Exception:
                # Nobody awaits this task; without it no lease would ever end again.
                _log.exception("the sweeper stumbled")

    async def end_expired(self) -> None:
        """Take trials from workers whose leases ran out.

        What cannot be written is tried again in a term; the other studies do not wait for it.
        """
        by_study: dict[int, list[HeldLease]] = {}
        for lease in self._leases.pop_expired():
            by_study.setdefault(lease.study_key, []).append(lease)
        for study_key, leases in by_study.items():
            try:
                await self._expire(study_key, leases)
            except Exception as error:
                for lease in leases:
                    self._leases.put_back(lease)
                if not isinstance(error, UnavailableError):  # Busy or full: it says so itself.
                    _log.exception("leases of study %d could not be ended", study_key)

    async def _expire(self, study_key: int, leases: list[HeldLease]) -> None:
        def work(tx: Transaction, effects: Effects) -> list[int]:
            row = tx.study_by_key(study_key)
            if row is None or row.state == "DELETED":
                return []
            taken = expire(Ledger(tx, row, self._outside, effects), leases)
            reach("sweep.expired")
            return taken

        reach("sweep.before_commit")
        taken = await self._committer.commit(work, is_long=len(leases) > FEW)
        reach("sweep.after_commit")
        if taken:
            _log.info("leases ran out", extra={"n_trials": len(taken)})

    async def drop_old_responses(self) -> int:
        """Forget answers that are too old to be asked for again; return how many.

        Or that were stored by a clock that was as far ahead: they would hold up the others.
        """
        now = self._outside.wall()
        before, after = now - RESPONSES_KEPT_S, now + RESPONSES_KEPT_S
        n_dropped = 0
        while True:  # In small steps, so that tells get in between.
            n_more = await self._store.transact(
                lambda tx: tx.drop_responses(
                    before=before, after=after, limit=_DROPPED_AT_A_TIME
                ),
                is_long=True,
            )
            n_dropped += n_more
            if n_more < _DROPPED_AT_A_TIME:
                return n_dropped
