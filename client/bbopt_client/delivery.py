"""Sends tells so that no result is lost: spooled first, sent again until they are answered.

A server that never had the study refuses nothing: it may serve another database at this
address, so the result stays spooled for the one that has it. One that deleted it says so.

The call that tells waits for the answer. When it gives up, or when a client before this one
ended without an answer, a thread goes on sending in the background.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bbopt.errors import (
    BboptError,
    ConflictError,
    InternalError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    RequestIdReusedError,
    StudyDeletedError,
)
from bbopt.rpc.errors import error_from_item_status
from bbopt.rpc.v1.optimization_service_pb2 import (
    TellTrialsRequest,
    TellTrialsResponse,
)
from bbopt_client.connection import Connection
from bbopt_client.outbox import Outbox, SpooledTell, spooled

logger = logging.getLogger("bbopt.client")

_REFUSALS = (
    ConflictError,
    InvalidError,
    PreconditionError,
    RequestIdReusedError,
    StudyDeletedError,
)
"""Answers that stay the same however often the tell is sent."""
_MAX_PAUSE_S = 30.0


class Delivery:
    """The way of a client's results to the server."""

    def __init__(self, connection: Connection, outbox: Outbox | None) -> None:
        self._connection = connection
        self.outbox = outbox
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._given_up: set[str] = set()
        """Entries that break the server, or are of a study that it does not have; they wait
        for another client and its server.
        """
        self._absent: set[str] = set()
        """Uids of studies that the server does not have."""

    def adopt(self) -> None:
        """Begin to send what earlier clients of this server left behind."""
        if self.outbox is None:
            return
        n_adopted = self.outbox.adopt()
        if n_adopted:
            logger.info("outbox: sending %d tells of clients that ended", n_adopted)
            self._send_in_background()

    def tell(self, request: TellTrialsRequest) -> TellTrialsResponse:
        """Send a tell and wait for its answer.

        Raises:
            BboptError: The server refused it, or there was no answer within the deadline; in
                the second case it is still on disk and is sent again.
        """
        with self.spooling(request) as answered:
            response = self._connection.call(
                lambda stubs: stubs.optimization.TellTrials,
                request,
                deadline_s=self._connection.options.tell_deadline_s,
            )
            answered(response)
        return response

    @contextmanager
    def spooling(self, request: TellTrialsRequest) -> "Iterator[_Answered]":
        """Keep a tell on disk until the block hands over its answer or is refused."""
        self._connection.check_process()
        entry = spooled(request, server=self._connection.target.identity)
        outbox = self._spool(entry)
        try:
            yield _Answered(entry, outbox)
        except _REFUSALS as error:
            if outbox is not None:
                outbox.refuse(entry, error, [tell.trial for tell in request.tells])
            raise
        except NotFoundError as error:
            self._given_up.add(entry.request_id)
            if outbox is not None:
                outbox.release(entry.request_id)
                error.add_note(
                    f"The result stays spooled in {outbox.folder} for a server with its study."
                )
            raise
        except BaseException as error:
            if outbox is not None:
                outbox.release(entry.request_id)
                error.add_note(f"The result is spooled in {outbox.folder} and is sent again.")
                self._send_in_background()
            raise

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is pending, at most so long; say whether that came true."""
        deadline = self._connection.monotonic() + timeout_s
        while self._waiting():
            if self._thread is None or self._connection.monotonic() >= deadline:
                return False
            self._is_stopped.wait(0.02)
        return True

    def stop(self) -> None:
        """End the thread; what is pending stays on disk."""
        self._is_stopped.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _spool(self, entry: SpooledTell) -> Outbox | None:
        if self.outbox is None:
            return None
        try:
            self.outbox.append(entry)
        except OSError as error:
            # The result is worth more alive and unspooled than not sent at all.
            logger.warning("outbox: a result is sent without being spooled: %s", error)
            return None
        return self.outbox

    def _waiting(self) -> list[SpooledTell]:
        if self.outbox is None:
            return []
        waiting = self.outbox.unattended()
        return [entry for entry in waiting if entry.request_id not in self._given_up]

    def _send_in_background(self) -> None:
        with self._lock:
            if self._thread is None and not self._is_stopped.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="bbopt-outbox", daemon=True
                )
                self._thread.start()
        self._wake.set()

    def _run(self) -> None:
        n_failed = 0
        while not self._is_stopped.is_set():
            self._wake.clear()
            waiting = self._waiting()
            if not waiting:
                n_failed = 0
                self._wake.wait()
                continue
            n_failed = 0 if all(map(self._resend, waiting)) else n_failed + 1
            if n_failed:
                pause_s = min(_MAX_PAUSE_S, self._connection.backoff_s(n_failed))
                self._is_stopped.wait(pause_s)

    def _resend(self, entry: SpooledTell) -> bool:
        """Send one entry; say whether it is off the list."""
        outbox, request = self.outbox, entry.request()
        if outbox is None or self._is_stopped.is_set():
            return False
        if entry.study_uid in self._absent:
            self._given_up.add(entry.request_id)
            return True
        trials = [tell.trial for tell in request.tells]
        try:
            response = self._connection.call(
                lambda stubs: stubs.optimization.TellTrials, request
            )
        except _REFUSALS as error:
            logger.error("a spooled result was refused, see %s: %s", outbox.refused_path, error)
            outbox.refuse(entry, error, trials)
        except NotFoundError as error:
            logger.info("results stay spooled for a server with their study: %s", error)
            self._absent.add(entry.study_uid)
            self._given_up.add(entry.request_id)
        except InternalError as error:
            logger.error("a spooled result breaks the server, it stays spooled: %s", error)
            self._given_up.add(entry.request_id)
        except BboptError as error:
            logger.debug("outbox: %s", error)
            return False
        else:
            _Answered(entry, outbox)(response)
        return True


class _Answered:
    """Takes the answer to a spooled tell: crosses it out, sets refused items aside."""

    def __init__(self, entry: SpooledTell, outbox: Outbox | None) -> None:
        self._entry = entry
        self._outbox = outbox

    def __call__(self, response: TellTrialsResponse) -> None:
        if self._outbox is None:
            return
        for result in response.results:
            error = error_from_item_status(result.status)
            if error is not None:
                self._outbox.refuse(self._entry, error, [result.trial])
        self._outbox.settle(self._entry.request_id)
