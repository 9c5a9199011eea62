"""The way from compute to the log of a study."""

from bbopt.rpc.v1 import study_pb2
from bbopt_server.compute import StudyLog
from bbopt_server.storage.store import FEW, Store, StudyRow

_PAGE = 1000


def study_log(store: Store, row: StudyRow) -> StudyLog:
    """Show compute the way to a study's log."""

    async def events(after: int) -> list[bytes]:
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

    return StudyLog(row.uid, study_pb2.StudySpec.FromString(row.spec), row.revision, events)
