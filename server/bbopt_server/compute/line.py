"""The jobs that wait for a compute process: each study's in order, the studies in turn."""

from collections import OrderedDict, deque
from typing import Generic, Protocol, TypeVar


class _OfStudy(Protocol):
    @property
    def uid(self) -> str: ...


J = TypeVar("J", bound=_OfStudy)


class Line(Generic[J]):
    """A queue in which nobody gets ahead by asking for much.

    The first job of a study goes behind those of the studies that wait already; its second one
    goes behind the first ones of all.
    """

    def __init__(self) -> None:
        self._of_study: OrderedDict[str, deque[J]] = OrderedDict()
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def n_of(self, uid: str) -> int:
        """Count the jobs of a study."""
        return len(self._of_study.get(uid, ()))

    def append(self, job: J) -> None:
        """Add a job, the last one of its study."""
        self._of_study.setdefault(job.uid, deque()).append(job)
        self._n += 1

    def push_front(self, job: J) -> None:
        """Add a job that is next."""
        self._of_study.setdefault(job.uid, deque()).appendleft(job)
        self._of_study.move_to_end(job.uid, last=False)
        self._n += 1

    def pop(self) -> J:
        """Take out the job whose turn it is.

        Raises:
            KeyError: There is none.
        """
        uid, jobs = self._of_study.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._of_study[uid] = jobs
        self._n -= 1
        return job
