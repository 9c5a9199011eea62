"""Fidelities: their rungs, and what is wrong with some."""

import pytest

from bbopt import Fidelity, Float, Problem, Space
from bbopt.errors import SpecError, UnsupportedError
from bbopt.optimizer import Optimizer
from bbopt.specs import CAPABILITIES, AshaSpec, find_unsupported

SPACE = Space((Float("x", 0.0, 1.0),))


@pytest.mark.parametrize(
    ("low", "high", "eta", "rungs"),
    [
        (1, 81, 3, (1, 3, 9, 27, 81)),
        (1, 100, 3, (1, 3, 9, 27, 100)),
        (2, 4, 2, (2, 4)),
        (5, 49, 3, (5, 15, 49)),
    ],
)
def test_rungs_grow_by_eta_and_end_at_a_full_evaluation(
    low: int, high: int, eta: int, rungs: tuple[int, ...]
) -> None:
    assert Fidelity("epochs", low, high, eta).rungs == rungs


@pytest.mark.parametrize(
    ("fidelity", "field"),
    [
        (Fidelity("", 1, 9), "fidelity.name"),
        (Fidelity("epochs", 0, 9), "fidelity.low"),
        (Fidelity("epochs", 1, 2**40), "fidelity.high"),
        (Fidelity("epochs", 1.5, 9), "fidelity.low"),  # type: ignore[arg-type]
        (Fidelity("epochs", 1, 9, eta=1), "fidelity.eta"),
        (Fidelity("epochs", 4, 9), "fidelity.high"),
        ("epochs", "fidelity"),
    ],
)
def test_a_fidelity_that_makes_no_sense_is_refused(fidelity: Fidelity, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        Problem.of(SPACE, "-loss", fidelity=fidelity)
    assert [each.field for each in caught.value.violations] == [field]


def test_asha_without_a_fidelity_is_refused_and_says_who_can() -> None:
    problem = Problem.of(SPACE, "-loss")
    (violation,) = find_unsupported(problem, CAPABILITIES[AshaSpec], name="asha")
    assert "without a fidelity" in violation.message
    assert "random, sobol, gp" in violation.message
    with pytest.raises(UnsupportedError):
        Optimizer(problem, AshaSpec())


def test_other_strategies_evaluate_in_full() -> None:
    problem = Problem.of(SPACE, "-loss", fidelity=Fidelity("epochs", 1, 9))
    (trial,) = Optimizer(problem, "sobol").ask()
    assert trial.stage is not None
    assert (trial.stage.fidelity, trial.stage.resume_from) == (9, None)
