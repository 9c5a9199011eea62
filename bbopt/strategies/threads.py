"""One thread for the linear algebra of an ask."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Run tensor operations on one thread, and give back the process's setting afterwards.

    The matrices of an ask are small: threads do not speed them up, and on a busy machine their
    barriers have cost a factor of ten. One thread also makes results equal to the last bit
    whatever the process's setting is, so that a log replays anywhere on the same build.
    """
    n_before = torch.get_num_threads()
    if n_before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_before)
