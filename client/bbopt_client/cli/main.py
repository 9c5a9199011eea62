"""The ``bbopt`` program.

The commands are imported inside, so that an interrupt while they load ends as any other does.
"""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command line of this process."""
    try:
        from bbopt_client.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
