"""From settings to strategies: one literal table, and the entry points of other packages.

A package adds a strategy under the entry-point group ``bbopt.strategies``; the entry point is a
``Plugin``: the settings class, what the strategy can handle, and its builder.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Final

from bbopt.errors import SpecError
from bbopt.specs import (
    CAPABILITIES,
    NAMES,
    AshaSpec,
    AutoSpec,
    Capabilities,
    CmaEsSpec,
    GPSpec,
    RandomSpec,
    SobolSpec,
)
from bbopt.strategies.asha import AshaSearch
from bbopt.strategies.auto import AutoStrategy
from bbopt.strategies.cma_es import CmaEs
from bbopt.strategies.design import RandomSearch, SobolSearch
from bbopt.strategies.gp_search import GPSearch
from bbopt.strategies.strategy import Builder, Strategy, StrategyContext
from bbopt.trial import StrategyState

GROUP: Final = "bbopt.strategies"

BUILDERS: Final[Mapping[type[Any], Builder]] = {
    RandomSpec: RandomSearch,
    SobolSpec: SobolSearch,
    GPSpec: GPSearch,
    CmaEsSpec: CmaEs,
    AutoSpec: AutoStrategy,
    AshaSpec: AshaSearch,
}


@dataclass(frozen=True, slots=True)
class Plugin:
    """What an entry point of the group ``bbopt.strategies`` offers."""

    name: str
    """How a study names it, e.g. ``Optimizer(problem, "annealing")``."""
    spec: type[Any]
    """Class of its settings; must be buildable without arguments."""
    capabilities: Capabilities
    builder: Builder


def plugins() -> list[Plugin]:
    """Load the strategies that other installed packages offer, in order of their names.

    One that cannot be loaded is left out with a warning: it must not cost the others.
    """
    found = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            plugin = point.load()
        except Exception as error:
            _warn(f"strategy {point.name!r} cannot be loaded: {error!r}")
            continue
        if isinstance(plugin, Plugin):
            found.append(plugin)
        else:
            _warn(f"strategy {point.name!r} is no Plugin but {plugin!r}")
    return found


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def spec_of(strategy: object | str | None) -> object:
    """Return settings for what a user wrote: settings, a name, or nothing (``auto``).

    Raises:
        SpecError: No strategy has the name.
    """
    if strategy is None:
        return AutoSpec()
    if not isinstance(strategy, str):
        return strategy
    known: dict[str, type[Any]] = dict(NAMES)
    if strategy not in known:
        known.update({plugin.name: plugin.spec for plugin in plugins()})
    if strategy not in known:
        raise SpecError.of(
            "strategy", f"no strategy {strategy!r}; there are {', '.join(sorted(known))}"
        )
    settings: object = known[strategy]()
    return settings


def capabilities_of(spec: object) -> Capabilities:
    """Return what the strategy of some settings can handle.

    Raises:
        SpecError: No strategy has these settings.
    """
    for kind, capabilities in CAPABILITIES.items():
        if type(spec) is kind:
            return capabilities
    return _plugin_of(spec).capabilities


def build(
    context: StrategyContext, spec: object, state: StrategyState | None = None
) -> Strategy:
    """Make a strategy.

    Args:
        context: The study.
        spec: Its settings.
        state: To continue from; ``None`` to start.

    Raises:
        SpecError: No strategy has these settings.
        DataLossError: The state is not one of this strategy.
    """
    builder = BUILDERS.get(type(spec))
    if builder is None:
        builder = _plugin_of(spec).builder
    return builder(context, spec, state)


def _plugin_of(spec: object) -> Plugin:
    for plugin in plugins():
        if type(spec) is plugin.spec:
            return plugin
    if isinstance(spec, type):
        raise SpecError.of("strategy", f"is a class: give settings, such as {spec.__name__}()")
    raise SpecError.of("strategy", f"{type(spec).__name__} belongs to no strategy")
