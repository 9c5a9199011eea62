"""What the ``gp`` strategy chooses to do, as data: every choice that has been measured.

``benchmarks.ablation`` runs the strategy with one choice taken back at a time. Users choose a
``Quality`` only.
"""

from dataclasses import dataclass, field
from typing import Final

from bbopt.gp import Kernel, LearnedNoise, LogNormalPrior, WarpKind
from bbopt.gp.priors import CATEGORY_SCALE
from bbopt.search import SearchSettings
from bbopt.specs import Quality


@dataclass(frozen=True, slots=True)
class ModelChoices:
    """How the models of a study are built."""

    kernels: tuple[Kernel, ...] = (Kernel.MATERN52, Kernel.RBF)
    """Members of each model's ensemble, weighted by their evidence."""
    objective_warp: WarpKind = WarpKind.HALF_RANK
    noisy_objective_warp: WarpKind = WarpKind.STANDARDISE
    """Of an objective whose noise is seen, where ranks would be those of noise."""
    noise: LearnedNoise = field(default_factory=LearnedNoise)
    """Of metrics whose noise is not declared."""
    category_scale: LogNormalPrior | None = CATEGORY_SCALE
    """Prior of the length scales of categorical columns; ``None`` is that of all others."""


@dataclass(frozen=True, slots=True)
class GPChoices:
    """What an ask does."""

    model: ModelChoices = field(default_factory=ModelChoices)
    first: SearchSettings = field(default_factory=SearchSettings)
    """The search of an ask that has no earlier optima to start from."""
    warm: SearchSettings = field(default_factory=SearchSettings.small)
    """The search of any other ask."""
    n_fantasies: int = 64
    """Joint draws of what pending trials might return."""
    starts_at_center: bool = True
    """Whether the first point is the middle of the space, where there are no defaults."""
    is_augmented: bool = True
    """Whether improvements are augmented where noise is seen in the objective."""


CHOICES: Final = {
    Quality.FAST: GPChoices(
        ModelChoices((Kernel.MATERN52,)),
        first=SearchSettings.small(),
        n_fantasies=16,
    ),
    Quality.BALANCED: GPChoices(),
    Quality.THOROUGH: GPChoices(
        first=SearchSettings(n_spread=2048, n_local=512, n_starts=16),
        warm=SearchSettings(n_spread=1024, n_local=256, n_starts=12),
        n_fantasies=128,
    ),
}
