"""The rungs of studies, kept up to date in memory so that a report is judged at once."""

from collections import OrderedDict
from dataclasses import dataclass

from bbopt.problem import Problem
from bbopt.rpc.log import event_from_message
from bbopt.rpc.v1 import log_pb2
from bbopt.stopping import Rungs
from bbopt_server.storage.store import EventRow, StudyRow, Transaction

_PAGE = 1000


@dataclass(slots=True)
class _Kept:
    rungs: Rungs
    last: EventRow | None = None
    """The last event that was folded."""


class RungCache:
    """Rungs folded from the logs of the studies used last.

    Used only inside transactions, which run one after the other.
    """

    def __init__(self, capacity: int = 100) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def at(self, tx: Transaction, row: StudyRow, problem: Problem) -> Rungs:
        """Return the rungs after the last event of a study's log.

        Args:
            tx: Sees the log.
            row: The study, with its revision up to date.
            problem: Its problem, with a fidelity.
        """
        # Out of the table while it is half folded.
        kept = self._kept.pop(row.uid, None)
        if kept is None or not _is_in_log(tx, row, kept.last):
            kept = _Kept(Rungs(problem))
        while True:
            after = 0 if kept.last is None else kept.last.revision
            rows = tx.events(row.key, after_revision=after, limit=_PAGE)
            messages = (log_pb2.LogEvent.FromString(each.payload) for each in rows)
            kept.rungs.fold(map(event_from_message, messages))
            kept.last = rows[-1] if rows else kept.last
            if len(rows) < _PAGE:
                break
        self._kept[row.uid] = kept
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return kept.rungs


def _is_in_log(tx: Transaction, row: StudyRow, last: EventRow | None) -> bool:
    """Say whether what was folded still is the beginning of the log.

    It is not when the transaction that appended it was not committed after all.
    """
    if last is None:
        return True
    found = tx.events(row.key, after_revision=last.revision - 1, limit=1)
    return list(found) == [last]
