"""The events of a study as they happen: a stream that is resumed wherever it broke."""

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, cast

import grpc

from bbopt.errors import DeadlineError, RetryableError
from bbopt.rpc.errors import error_from_rpc
from bbopt.rpc.trial import measurement_from_message
from bbopt.rpc.v1.optimization_service_pb2 import StudyEvent as StudyEventMessage
from bbopt.rpc.v1.optimization_service_pb2 import WatchStudyRequest
from bbopt_client.connection import CallIterator
from bbopt_client.results import (
    StudyEvent,
    StudyState,
    datetime_from_message,
    study_state_from_message,
)
from bbopt_client.trial import Trial

if TYPE_CHECKING:
    from bbopt_client.study import Study


class Watch(Iterator[StudyEvent]):
    """Every event after a revision, then those that come; each once, none left out.

    A broken stream is opened again where it broke, for as long as the server is away. The
    iteration ends when the study is deleted or ``close`` is called.
    """

    def __init__(self, study: "Study", since: int) -> None:
        self._study = study
        self._connection = study.session.connection
        self._revision = since
        """Last revision of which an event came."""
        self._n_of_revision = 0
        """Events of that revision that came: an ask of several trials is several of one."""
        self._n_skipped = 0
        self._n_failed = 0
        self._stream: CallIterator[StudyEventMessage] | None = None
        self._closed = threading.Event()
        self._is_ended = False

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration; safe from another thread."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def __next__(self) -> StudyEvent:
        while not self._is_ended:
            message = self._receive()
            if message is not None and self._is_new(message):
                event = self._event(message)
                self._is_ended = event.study_state is StudyState.DELETED
                return event
        raise StopIteration

    def _receive(self) -> StudyEventMessage | None:
        """Return the next message; ``None`` when the stream broke and must be opened anew."""
        try:
            if self._stream is None:
                self._stream = self._open()
            message = next(self._stream)
        except StopIteration:
            self._pause()
        except grpc.RpcError as failure:
            self._judge(cast(grpc.Call, failure))
            self._pause()
        else:
            self._n_failed = 0
            return message
        return None

    def _open(self) -> CallIterator[StudyEventMessage]:
        # The last revision may have been cut in the middle: ask for it again, skip its head.
        self._n_skipped = 0
        since = self._revision - 1 if self._n_of_revision else self._revision
        request = WatchStudyRequest(
            name=str(self._study.name), since_revision=since, study_uid=self._study.uid
        )
        return self._connection.stream(lambda stubs: stubs.optimization.WatchStudy, request)

    def _is_new(self, message: StudyEventMessage) -> bool:
        if message.revision == self._revision and self._n_skipped < self._n_of_revision:
            self._n_skipped += 1
            return False
        if message.revision < self._revision:
            return False
        if message.revision > self._revision:
            self._revision, self._n_of_revision = message.revision, 0
        self._n_of_revision += 1
        self._n_skipped = self._n_of_revision
        return True

    def _judge(self, failure: grpc.Call) -> None:
        """Raise what opening the stream again would not heal."""
        if self._is_over():
            return
        error = error_from_rpc(failure)
        passes = isinstance(error, RetryableError | DeadlineError)
        if not passes and failure.code() is not grpc.StatusCode.CANCELLED:
            raise error from None

    def _pause(self) -> None:
        """Wait before the next attempt, or end."""
        self._stream = None
        self._n_failed += 1
        if self._is_over() or self._closed.wait(self._connection.backoff_s(self._n_failed)):
            self._is_ended = True

    def _is_over(self) -> bool:
        return self._closed.is_set() or self._connection.is_closed

    def _event(self, message: StudyEventMessage) -> StudyEvent:
        has_trial, has_study = message.HasField("trial"), message.HasField("study")
        return StudyEvent(
            revision=message.revision,
            kind=message.kind,
            time=datetime_from_message(message.time) if message.HasField("time") else None,
            trial=Trial(self._study, message.trial) if has_trial else None,
            study_state=study_state_from_message(message.study.state) if has_study else None,
            measurement=(
                measurement_from_message(message.measurement)
                if message.HasField("measurement")
                else None
            ),
        )
