"""Whether a server can run here; nothing heavy is imported to find out."""

import importlib.util

from bbopt_client.cli.failures import CommandError

ENGINE_MODULES = ("grpc_health", "grpc_reflection", "scipy", "torch")
"""What ``pip install 'bbopt[server]'`` brings and a server cannot do without."""


def missing_modules() -> list[str]:
    """Name the modules of the server's engine that are not installed."""
    return [name for name in ENGINE_MODULES if importlib.util.find_spec(name) is None]


def require_engine() -> None:
    """Refuse to start a server that could not work.

    Raises:
        CommandError: A module is missing; says what to install.
    """
    missing = missing_modules()
    if missing:
        raise CommandError(f"a server needs {', '.join(missing)}: pip install 'bbopt[server]'")
