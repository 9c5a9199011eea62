"""What a compute process does with one request: fold, compute, answer.

Whatever goes wrong inside a study ends as a failure in the answer, and the study is dropped:
an optimizer that raised half way may be half folded. The details go to the process's log,
never through the pipe.
"""

import logging
import secrets
import time
from collections.abc import Callable, Sequence

from bbopt.errors import BboptError, InternalError, InvalidError, PreconditionError
from bbopt.rpc.log import strategy_state_to_bytes, suggestion_to_bytes
from bbopt.rpc.points import parameters_from_message
from bbopt.rpc.trial import interval_to_message
from bbopt.rpc.v1 import compute_pb2, insight_service_pb2
from bbopt_server.compute.compute import IDLE_S
from bbopt_server.compute.failures import failure_of
from bbopt_server.compute.hot import BehindError, FoldingOptimizer, HotStudies
from bbopt_server.crash_points import reach

_TIDIED_AT_A_TIME = 8
"""Two milliseconds: a request may be waiting."""

_log = logging.getLogger(__name__)

Reply = compute_pb2.ComputeReply


class Desk:
    """Answers requests one after the other."""

    def __init__(
        self,
        studies: HotStudies,
        *,
        is_fatal: Callable[[Exception], bool] = lambda _: False,
        idle_s: float = IDLE_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Work on ``studies``.

        Args:
            studies: The cache.
            is_fatal: Whether an error spoils the whole process (a device that is gone); it
                is raised then.
            idle_s: How long a study keeps its models without being used.
            clock: Seconds; for how long an answer took.
        """
        self._studies = studies
        self._is_fatal = is_fatal
        self._idle_s = idle_s
        self._clock = clock

    def answer(self, request: compute_pb2.ComputeRequest) -> Reply:
        """Do one job."""
        started = self._clock()
        uid = request.study_uid
        try:
            reply = self._do(request)
        except BehindError as behind:
            reply = Reply(need_events=Reply.NeedEvents(since_revision=behind.revision))
        except (InvalidError, PreconditionError) as error:
            reply = Reply(failure=failure_of(error))
            if request.HasField("suggest"):  # It may have moved before it refused.
                self._studies.drop(uid)
        except BboptError as error:
            _log.warning("study %s dropped: %s: %s", uid, type(error).__name__, error)
            self._studies.drop(uid)
            reply = Reply(failure=failure_of(error))
        except Exception as error:
            if self._is_fatal(error):
                raise
            reply = Reply(failure=self._crash(uid, error))
        reply.job = request.job
        reply.revision = self._studies.revision(uid)
        reply.dropped.extend(self._studies.take_dropped())
        reply.elapsed_s = self._clock() - started
        return reply

    def tidy(self) -> int:
        """Let go of the models of some studies that nobody asked for a while.

        Returns:
            How many; 0 when there are no more.
        """
        return self._studies.rest(idle_s=self._idle_s, n_most=_TIDIED_AT_A_TIME)

    def _do(self, request: compute_pb2.ComputeRequest) -> Reply:
        if request.HasField("forget"):
            self._studies.drop(request.study_uid)
            return Reply(done=True)
        optimizer = self._studies.fold(
            request.study_uid, request.spec, request.since_revision, request.events
        )
        match request.WhichOneof("task"):
            case "suggest":
                reply = Reply(suggestions=_suggest(optimizer, request.suggest))
            case "predict":
                reply = Reply(prediction=_predict(optimizer, request.predict.points))
            case "recommend":
                reply = Reply(recommendation=_recommend(optimizer))
            case _:
                raise InternalError("the request has no task")
        self._studies.trim()
        return reply

    def _crash(self, uid: str, error: Exception) -> Reply.Failure:
        reference = secrets.token_hex(4)
        _log.error("study %s dropped, reference %s", uid, reference, exc_info=error)
        if isinstance(error, MemoryError):
            self._studies.clear()
        self._studies.drop(uid)
        return failure_of(InternalError(f"compute failed; its log has it as {reference}"))


def _suggest(
    optimizer: FoldingOptimizer, task: compute_pb2.ComputeRequest.Suggest
) -> Reply.Suggestions:
    suggested = optimizer.suggest(task.count, time_left_s=task.time_left_s or None)
    reach("compute.suggested")
    state = suggested.state
    return Reply.Suggestions(
        points=map(suggestion_to_bytes, suggested.suggestions),
        state=strategy_state_to_bytes(state) if state is not None else None,
        space_exhausted=suggested.space_exhausted,
        states=map(strategy_state_to_bytes, suggested.states),
    )


def _predict(
    optimizer: FoldingOptimizer, points: Sequence[insight_service_pb2.Point]
) -> insight_service_pb2.PredictResponse:
    parameters = [parameters_from_message(point.parameters) for point in points]
    response = insight_service_pb2.PredictResponse(data_revision=optimizer.revision)
    for prediction in optimizer.predict(parameters):
        row = response.rows.add(probability_feasible=prediction.probability_feasible)
        for name, predicted in prediction.metrics.items():
            row.metrics[name].CopyFrom(interval_to_message(predicted))
    return response


def _recommend(optimizer: FoldingOptimizer) -> Reply.Recommendation:
    recommended = optimizer.recommendation()
    if recommended is None:
        return Reply.Recommendation(reason="nothing feasible has been measured yet")
    return Reply.Recommendation(number=recommended.number, reason=recommended.reason)
