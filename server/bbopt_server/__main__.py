"""``python -m bbopt_server``: serve until told to stop."""

import os
import sys
from collections.abc import Sequence

_EXIT_USAGE, _EXIT_FAILED = 2, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a server; return the exit status of the process."""
    try:
        from bbopt_server import app
        from bbopt_server.settings import parse
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] in ("bbopt", "bbopt_server"):
            raise
        return _complain(f"the server needs {error.name}: pip install 'bbopt[server]'")
    from bbopt.errors import BboptError, InvalidError

    try:
        settings = parse(sys.argv[1:] if arguments is None else arguments, os.environ)
    except InvalidError as error:
        return _complain(str(error), _EXIT_USAGE)
    try:
        return app.run(settings)
    except BboptError as error:
        return _complain(str(error))


def _complain(text: str, status: int = _EXIT_FAILED) -> int:
    sys.stderr.write(f"bbopt_server: {text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
