"""``python -m bbopt_server.compute``: a compute process, started by the server."""

import sys

from bbopt_server.compute.process import Engine, main


def load(device: str) -> Engine:
    """Load the engine, which takes a second or two and may not be installed."""
    from bbopt_server.compute.engine import load_engine

    return load_engine(device)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], load))
