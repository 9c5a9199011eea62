"""What a new trial is to reach, and whether a report is answered with an order to stop."""

from collections.abc import Collection

from bbopt.problem import Problem
from bbopt.specs import AshaSpec, Promotion
from bbopt.stopping.rungs import Rungs
from bbopt.trial import Stage


def full_stage(problem: Problem) -> Stage | None:
    """Return the stage of a full evaluation; ``None`` where there is no fidelity."""
    return None if problem.fidelity is None else Stage(problem.fidelity.high)


def initial_stage(problem: Problem, strategy: object) -> Stage | None:
    """Return the stage of a new configuration, whoever proposes it.

    Args:
        problem: What is sought.
        strategy: Settings of the study's strategy; all but ``asha`` evaluate in full.
    """
    match strategy:
        case AshaSpec(Promotion.RESUME) if problem.fidelity is not None:
            return Stage(problem.fidelity.rungs[0])
        case _:
            return full_stage(problem)


def reason_to_stop(
    rungs: Rungs, promotion: Promotion, number: int, steps: Collection[int]
) -> str | None:
    """Say why a trial is to stop now, after reports of it; ``None``: let it run.

    A trial that runs beyond its fidelity is to stop. Where trials run on, so is one that has
    just reached a rung and is not among the best ``1 / eta`` there. Once let on, it is judged
    again only at the next rung.

    Args:
        rungs: With the reports folded.
        promotion: How configurations get to the next rung.
        number: The trial.
        steps: Those of its reports that have just come.
    """
    run = rungs.run(number)
    if run is None or not steps:
        return None
    if max(steps) > run.fidelity:
        return f"ran beyond its fidelity of {run.fidelity}"
    if promotion is not Promotion.CONTINUE or not run.reported:
        return None
    rung = max(run.reported)
    is_new = run.reported[rung][0] in steps
    if not is_new or rung == rungs.top or run.configuration in rungs.best(rung):
        return None
    n = len(rungs.scores(rung))
    return f"not among the best at {rungs.steps[rung]}, where {n} have been measured"
