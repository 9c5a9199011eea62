"""The way from compute to the log of a study."""

from collections.abc import Sequence

from bbopt.space import has_permanent_real
from bbopt.specs import CAPABILITIES, StudySpec
from bbopt_server.compute import StudyLog
from bbopt_server.storage.store import FEW, Store, StudyRow

_PAGE = 1000


def study_log(
    store: Store,
    row: StudyRow,
    spec: StudySpec,
    *,
    is_exact: bool = False,
) -> StudyLog:
    """Show compute the way to a study's log.

    Args:
        store: Where it is.
        row: The study.
        spec: Its definition.
        is_exact: Show nothing that is newer than ``row``.
    """

    async def events(after: int) -> Sequence[bytes]:
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
            if is_exact and after + len(payloads) >= row.revision:
                return payloads[: max(0, row.revision - after)]
            if len(rows) < _PAGE:
                return payloads

    return StudyLog(row.uid, row.spec, has_model(spec), row.revision, events)


def has_series(spec: StudySpec) -> bool:
    """Whether the next points of a study are the same whatever happens. Not where they
    may repeat: those in use are left out there, and those that failed may come again.
    """
    ignores_results = CAPABILITIES[type(spec.strategy)].ignores_results
    return ignores_results and has_permanent_real(spec.problem.space.parameters)


def has_model(spec: StudySpec) -> bool:
    """Whether the strategy of a study fits a model; without one its jobs are short."""
    return CAPABILITIES[type(spec.strategy)].is_model_based
