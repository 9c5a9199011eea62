"""How far an evaluation may be taken: epochs, rounds of boosting, grid refinements."""

from dataclasses import dataclass
from itertools import takewhile

from bbopt.errors import Violation
from bbopt.space.parameters import plain
from bbopt.space.validation import name_fault


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A count of steps after which an evaluation may be looked at, and cut short.

    ``Fidelity("epochs", low=1, high=81, eta=3)`` has the rungs 1, 3, 9, 27 and 81. What a trial
    reports at a ``step`` is measured on this scale: steps count from the beginning of the
    configuration's evaluation, also where a trial resumes another one. Whether a fidelity makes
    sense is for the ``Problem`` to say, which lists every fault at once.
    """

    name: str
    low: int
    """The fewest steps that say anything."""
    high: int
    """The steps of a full evaluation."""
    eta: int = 3
    """How many times more steps each rung has than the one below."""

    def __post_init__(self) -> None:
        for field in ("low", "high", "eta"):
            object.__setattr__(self, field, plain(getattr(self, field)))

    @property
    def rungs(self) -> tuple[int, ...]:
        """Steps at which evaluations are compared, ascending; the last is ``high``."""
        powers = (self.low * self.eta**k for k in range(64))
        return (*takewhile(lambda steps: steps * self.eta <= self.high, powers), self.high)


def fidelity_violations(fidelity: object) -> list[Violation]:
    """List the faults of a fidelity; ``None`` has none."""
    if fidelity is None:
        return []
    if not isinstance(fidelity, Fidelity):
        kind = type(fidelity).__name__
        return [Violation("fidelity", f"must be a Fidelity, got {kind}")]
    fault = name_fault(fidelity.name)
    violations = [] if fault is None else [Violation("fidelity.name", fault)]
    counts = {"low": (fidelity.low, 1), "high": (fidelity.high, 1), "eta": (fidelity.eta, 2)}
    wrong = [
        Violation(f"fidelity.{field}", f"must be an integer of at least {least}, got {given!r}")
        for field, (given, least) in counts.items()
        if type(given) is not int or not least <= given < 2**31
    ]
    if not wrong and fidelity.low * fidelity.eta > fidelity.high:
        message = (
            f"must be at least low * eta = {fidelity.low * fidelity.eta}, so that there are "
            f"two rungs, got {fidelity.high}"
        )
        wrong = [Violation("fidelity.high", message)]
    return violations + wrong
