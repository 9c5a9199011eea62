"""The way from compute to the log of a study."""

from collections.abc import Sequence
from dataclasses import dataclass

from bbopt.specs import CAPABILITIES, StudySpec
from bbopt_server.compute import StudyLog
from bbopt_server.storage.store import FEW, Store, StudyRow, Transaction

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a log, which was read already."""

    after: int
    """Revision before the first event."""
    payloads: tuple[bytes, ...]


def read_tail(tx: Transaction, study_key: int, after: int) -> Tail | None:
    """Read the events after a revision, unless they are many."""
    rows = tx.events(study_key, after_revision=after, limit=_PAGE)
    return Tail(after, tuple(row.payload for row in rows)) if len(rows) < _PAGE else None


def study_log(
    store: Store, row: StudyRow, spec: StudySpec, *, tail: Tail | None = None
) -> StudyLog:
    """Show compute the way to a study's log; where ``tail`` has what it wants, that is all."""

    async def events(after: int) -> Sequence[bytes]:
        if tail is not None and tail.after <= after:
            return tail.payloads[after - tail.after :]
        payloads: list[bytes] = []
        while True:
            start = after + len(payloads)
            rows = await store.read(
                lambda tx, start=start: tx.events(  # type: ignore[misc]
                    row.key, after_revision=start, limit=_PAGE
                ),
                is_long=row.revision - start > FEW,
            )
            payloads.extend(each.payload for each in rows)
            if len(rows) < _PAGE:
                return payloads

    return StudyLog(row.uid, row.spec, has_model(spec), row.revision, events)


def has_model(spec: StudySpec) -> bool:
    """Whether the strategy of a study fits a model; without one its jobs are short."""
    return CAPABILITIES[type(spec.strategy)].is_model_based
