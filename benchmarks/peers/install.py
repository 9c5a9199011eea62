"""Makes a virtual environment for each peer, with pinned versions; what is there is kept.

Run ``benchmarks/peers/install``, or ``benchmarks/peers/install optuna`` for some of them. The
environments go to ``.peers`` (``--folder`` or ``BBOPT_PEERS`` say otherwise) and take 3 GB in
all. Run it again after it broke off, or after the pins changed: it does what is missing. What
the peers need comes from wherever pip is configured to look; where torch would come with CUDA,
point pip at PyTorch's index of CPU builds.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.peers.environments import Environment, environment_of, known_peers


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True)  # noqa: S603 - venv and pip


def install(environment: Environment, run: Callable[[Sequence[str]], None] = _run) -> bool:
    """Make an environment, unless it is there already; return whether anything was done.

    Raises:
        subprocess.CalledProcessError: It cannot be made.
    """
    if environment.is_installed:
        return False
    run([sys.executable, "-m", "venv", "--clear", str(environment.folder)])
    pip = [str(environment.python), "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", "--no-deps", "-r", str(environment.pins)])
    run([*pip, "check"])
    environment.mark_installed()
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Install the peers that were named; return 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", nargs="*", help=f"one of {', '.join(known_peers())}")
    parser.add_argument("--folder", type=Path)
    settings = parser.parse_args(arguments)
    if unknown := set(settings.peer) - set(known_peers()):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    n_failed = 0
    for name in settings.peer or known_peers():
        environment = environment_of(name, folder=settings.folder)
        try:
            is_new = install(environment)
        except subprocess.CalledProcessError as error:
            n_failed += 1
            print(f"{name}: failed with status {error.returncode}", file=sys.stderr)
        else:
            print(f"{name}: {'installed' if is_new else 'was there'}, {environment.folder}")
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
