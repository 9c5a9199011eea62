"""Strategies: what an ask runs, their protocol and their registry."""

from bbopt.strategies.plugin_answers import checked_answer
from bbopt.strategies.recommendation import recommend_measured
from bbopt.strategies.registry import (
    BUILDERS,
    Plugin,
    build,
    capabilities_of,
    plugins,
    spec_of,
)
from bbopt.strategies.strategy import (
    Builder,
    Moments,
    Predictions,
    Recommendation,
    Series,
    Status,
    Strategy,
    StrategyContext,
)
from bbopt.strategies.threads import one_thread

__all__ = [
    "BUILDERS",
    "Builder",
    "Moments",
    "Plugin",
    "Predictions",
    "Recommendation",
    "Series",
    "Status",
    "Strategy",
    "StrategyContext",
    "build",
    "capabilities_of",
    "checked_answer",
    "one_thread",
    "plugins",
    "recommend_measured",
    "spec_of",
]
