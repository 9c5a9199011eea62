"""bbopt: Bayesian and black-box optimization with an ask-tell interface.

Importing this package is light (numpy at most). ``bbopt.Optimizer``, the in-process
ask-tell object, needs the engine (torch) and is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bbopt.problem import Budget, Fidelity, Metric, MetricKind, Noise, Problem
from bbopt.space import (
    AllOf,
    Between,
    Bool,
    Categorical,
    Equals,
    Exclude,
    Fixed,
    Float,
    Int,
    Linear,
    Ordinal,
    Simplex,
    Space,
)

if TYPE_CHECKING:
    from bbopt.optimizer import Optimizer

__version__ = "0.1.0"

__all__ = [
    "AllOf",
    "Between",
    "Bool",
    "Budget",
    "Categorical",
    "Equals",
    "Exclude",
    "Fidelity",
    "Fixed",
    "Float",
    "Int",
    "Linear",
    "Metric",
    "MetricKind",
    "Noise",
    "Optimizer",
    "Ordinal",
    "Problem",
    "Simplex",
    "Space",
    "__version__",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute may be anything
    """Load the engine only when somebody asks for it."""
    if name != "Optimizer":
        raise AttributeError(f"module 'bbopt' has no attribute {name!r}")
    try:
        return import_module("bbopt.optimizer").Optimizer
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "bbopt":
            raise
        raise ModuleNotFoundError(
            f"bbopt.Optimizer needs the engine ({error.name} is missing): "
            "pip install 'bbopt[server]', or use bbopt_client with a server",
            name=error.name,
        ) from error
