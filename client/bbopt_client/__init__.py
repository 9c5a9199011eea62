"""The client of bbopt: ask a server for trials, tell it what they measured.

::

    from bbopt_client import Client, Float

    client = Client.local("studies.db")
    study = client.create_study("demo", space=[Float("x", -2, 2)], objective="-loss", trials=20)
    study.optimize(lambda trial: (trial["x"] - 1) ** 2)
    print(study.best().parameters)

Importing this package is light: no torch, no scipy, and even gRPC only when a name that needs
it is first used, so that a training script may import ``bbopt_client.worker`` for nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bbopt import (
        AllOf,
        Between,
        Bool,
        Budget,
        Categorical,
        Equals,
        Exclude,
        Fidelity,
        Fixed,
        Float,
        Int,
        Linear,
        Metric,
        MetricKind,
        Noise,
        Ordinal,
        Simplex,
        Space,
    )
    from bbopt_client.client import Client, ServerInfo
    from bbopt_client.heartbeat import Directive
    from bbopt_client.optimizing import Progress
    from bbopt_client.results import (
        AskReason,
        AskResult,
        Prediction,
        StudyEvent,
        StudyState,
        StudyStats,
        TellResult,
    )
    from bbopt_client.settings import ClientOptions
    from bbopt_client.study import Study
    from bbopt_client.trial import Trial

_HOMES = {
    "AllOf": "bbopt",
    "AskReason": "bbopt_client.results",
    "AskResult": "bbopt_client.results",
    "Between": "bbopt",
    "Bool": "bbopt",
    "Budget": "bbopt",
    "Categorical": "bbopt",
    "Client": "bbopt_client.client",
    "ClientOptions": "bbopt_client.settings",
    "Directive": "bbopt_client.heartbeat",
    "Equals": "bbopt",
    "Exclude": "bbopt",
    "Fidelity": "bbopt",
    "Fixed": "bbopt",
    "Float": "bbopt",
    "Int": "bbopt",
    "Linear": "bbopt",
    "Metric": "bbopt",
    "MetricKind": "bbopt",
    "Noise": "bbopt",
    "Ordinal": "bbopt",
    "Prediction": "bbopt_client.results",
    "Progress": "bbopt_client.optimizing",
    "ServerInfo": "bbopt_client.client",
    "Simplex": "bbopt",
    "Space": "bbopt",
    "Study": "bbopt_client.study",
    "StudyEvent": "bbopt_client.results",
    "StudyState": "bbopt_client.results",
    "StudyStats": "bbopt_client.results",
    "TellResult": "bbopt_client.results",
    "Trial": "bbopt_client.trial",
}
"""Where each public name lives; it is imported when it is first used."""

__all__ = [
    "AllOf",
    "AskReason",
    "AskResult",
    "Between",
    "Bool",
    "Budget",
    "Categorical",
    "Client",
    "ClientOptions",
    "Directive",
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
    "Ordinal",
    "Prediction",
    "Progress",
    "ServerInfo",
    "Simplex",
    "Space",
    "Study",
    "StudyEvent",
    "StudyState",
    "StudyStats",
    "TellResult",
    "Trial",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute may be anything
    """Import the module of a public name when the name is first used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'bbopt_client' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
