"""The server, but it forgets its answers: who repeats a call has it done again.

Run as a program in place of ``python -m bbopt_server``. It is the negative control of the
tests of kills: what they look for must be found here.
"""

import sys

from bbopt_server.__main__ import main
from bbopt_server.storage.sqlite_transaction import SqliteTransaction
from bbopt_server.storage.store import ResponseRow

PROGRAM = (__file__,)


def remember_none(_: SqliteTransaction, project: str, method: str, request_id: str) -> None:
    """Say that the call is new."""


def keep_none(_: SqliteTransaction, row: ResponseRow) -> None:
    """Keep no answer."""


if __name__ == "__main__":
    SqliteTransaction.response = remember_none  # type: ignore[assignment, method-assign]
    SqliteTransaction.put_response = keep_none  # type: ignore[assignment, method-assign]
    sys.exit(main())
