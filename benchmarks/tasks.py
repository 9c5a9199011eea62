"""Runs the studies of a benchmark that have no record yet, each in a process of its own."""

import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, Protocol, TypeVar

from benchmarks.recording import Line, Recorder


class Task(Protocol):
    """One study."""

    @property
    def job(self) -> Mapping[str, Any]:
        """The field ``job`` of its record, by which it is known."""


T = TypeVar("T", bound=Task)


def run_missing(
    tasks: Sequence[T],
    run: Callable[[T], Line],
    recorder: Recorder,
    *,
    n_jobs: int,
    preload: Sequence[str] = (),
) -> bool:
    """Run the tasks that have no record, and add theirs as they come.

    Args:
        tasks: In the order in which they begin.
        run: Returns the record of a task; a function of a module.
        recorder: Where records are and go.
        n_jobs: How many run at a time.
        preload: Modules that the processes of all tasks have from the start.

    Returns:
        Whether all went well. A task that fails leaves no record, so that it is tried again
        next time, and stops no other.
    """
    missing = [task for task in tasks if not recorder.has(job=task.job)]
    # A fresh process for each study, forked from one that has imported what they all need.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    is_well = True
    with ProcessPoolExecutor(n_jobs, mp_context=context, max_tasks_per_child=1) as pool:
        running = {pool.submit(run, task): task for task in missing}
        try:
            for n, future in enumerate(as_completed(running), 1):
                task, error = running[future], future.exception()
                if error is None:
                    recorder.add(future.result())
                else:
                    is_well = False
                verdict = "done" if error is None else f"failed: {error!r}"
                print(f"{n}/{len(missing)} {task}: {verdict}", file=sys.stderr, flush=True)
        except BaseException:  # An interrupt, or a full disk: begin no further one.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return is_well
