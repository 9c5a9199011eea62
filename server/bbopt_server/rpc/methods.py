"""The table of methods: name on the wire, type of request, what it does.

What is not in the table cannot be called. A method reads its request, calls ``Studies``
once, and writes the answer; there is no other logic here.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message

from bbopt.rpc.v1 import insight_service_pb2 as insight_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as service_pb2
from bbopt_server.crash_points import reach
from bbopt_server.rpc import reading, writing
from bbopt_server.rpc.mutations import call_of, mutation
from bbopt_server.studies import Studies
from bbopt_server.studies.asking import MAX_COUNT
from bbopt_server.studies.creating import MAX_STUDIES
from bbopt_server.studies.leasing import MAX_MEASUREMENTS
from bbopt_server.studies.room import MAX_OPEN, MAX_TRIALS

OPTIMIZATION = "bbopt.rpc.v1.OptimizationService"
INSIGHT = "bbopt.rpc.v1.InsightService"

LIMITS: Mapping[str, int] = {
    "ask_count": MAX_COUNT,
    "open_trials_per_study": MAX_OPEN,
    "trials_per_study": MAX_TRIALS,
    "studies_per_project": MAX_STUDIES,
    "batch_items": reading.MAX_BATCH,
    "held_per_heartbeat": reading.MAX_HELD,
    "page_size": reading.MAX_PAGE,
    "measurements_per_trial": MAX_MEASUREMENTS,
}


@dataclass(frozen=True, slots=True)
class Rpc:
    """What a method may know of its call beside the request."""

    time_left_s: float | None
    """Until the caller's deadline; ``None``: it has none."""


@dataclass(frozen=True, slots=True)
class Unary:
    """A method with one answer, as bytes."""

    request_type: type[Message]
    run: Callable[[Any, Rpc], Awaitable[bytes]]
    may_wait: bool = False
    """Whether a call may take until something happens to the study."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A method with a stream of answers, as bytes."""

    request_type: type[Message]
    run: Callable[[Any, Rpc], AsyncIterator[bytes]]


class Methods:
    """Every method of the service over one ``Studies``."""

    def __init__(self, studies: Studies, *, device: str) -> None:
        self._studies = studies
        self._device = device

    def table(self) -> Mapping[str, Mapping[str, Unary | Stream]]:
        """List the methods of each service by name."""
        return {OPTIMIZATION: self._optimization(), INSIGHT: self._insight()}

    def _optimization(self) -> Mapping[str, Unary | Stream]:
        return {
            "CreateStudy": Unary(service_pb2.CreateStudyRequest, self._create_study),
            "GetStudy": Unary(service_pb2.GetStudyRequest, self._get_study),
            "ListStudies": Unary(service_pb2.ListStudiesRequest, self._list_studies),
            "DeleteStudy": Unary(service_pb2.DeleteStudyRequest, self._delete_study),
            "AskTrials": Unary(service_pb2.AskTrialsRequest, self._ask_trials, may_wait=True),
            "TellTrials": Unary(service_pb2.TellTrialsRequest, self._tell_trials),
            "TellAndAsk": Unary(
                service_pb2.TellAndAskRequest, self._tell_and_ask, may_wait=True
            ),
            "ReportMeasurements": Unary(service_pb2.ReportMeasurementsRequest, self._report),
            "HeartbeatTrials": Unary(service_pb2.HeartbeatTrialsRequest, self._heartbeat),
            "ReleaseTrials": Unary(service_pb2.ReleaseTrialsRequest, self._release),
            "CreateTrial": Unary(service_pb2.CreateTrialRequest, self._create_trial),
            "GetTrial": Unary(service_pb2.GetTrialRequest, self._get_trial),
            "ListTrials": Unary(service_pb2.ListTrialsRequest, self._list_trials),
            "AmendTrial": Unary(service_pb2.AmendTrialRequest, self._amend_trial),
            "StopTrial": Unary(service_pb2.StopTrialRequest, self._stop_trial),
            "WatchStudy": Stream(service_pb2.WatchStudyRequest, self._watch_study),
            "GetServerInfo": Unary(service_pb2.GetServerInfoRequest, self._server_info),
        }

    def _insight(self) -> Mapping[str, Unary | Stream]:
        return {
            "Predict": Unary(insight_pb2.PredictRequest, self._predict),
            "GetBest": Unary(insight_pb2.GetBestRequest, self._best),
        }

    # Studies -------------------------------------------------------------------------------

    async def _create_study(self, request: service_pb2.CreateStudyRequest, _: Rpc) -> bytes:
        command, call = mutation(
            "CreateStudy", request, reading.create_study, answer=writing.study
        )
        return await self._studies.create_study(command, call)

    async def _get_study(self, request: service_pb2.GetStudyRequest, _: Rpc) -> bytes:
        name = reading.study_name(request.name, "name", request.study_uid)
        return writing.study(await self._studies.get_study(name)).SerializeToString()

    async def _list_studies(self, request: service_pb2.ListStudiesRequest, _: Rpc) -> bytes:
        project, page_size = reading.list_studies(request)
        page = await self._studies.list_studies(
            project,
            page_size=page_size,
            page_token=request.page_token,
            with_deleted=request.show_deleted,
        )
        return writing.studies(page).SerializeToString()

    async def _delete_study(self, request: service_pb2.DeleteStudyRequest, _: Rpc) -> bytes:
        command, call = mutation(
            "DeleteStudy", request, reading.delete_study, answer=writing.nothing
        )
        return await self._studies.delete_study(command, call)

    # Ask and tell --------------------------------------------------------------------------

    async def _ask_trials(self, request: service_pb2.AskTrialsRequest, rpc: Rpc) -> bytes:
        command, call = mutation("AskTrials", request, reading.ask, answer=writing.asked)
        return await self._studies.ask(command, call, time_left_s=rpc.time_left_s)

    async def _tell_trials(self, request: service_pb2.TellTrialsRequest, _: Rpc) -> bytes:
        command, call = mutation("TellTrials", request, reading.tell, answer=writing.told)
        return await self._studies.tell(command, call)

    async def _tell_and_ask(self, request: service_pb2.TellAndAskRequest, rpc: Rpc) -> bytes:
        """Two calls under one id: repeated, the first is found done, the second continues."""
        tell, ask = reading.tell_and_ask(request)
        tell_call = call_of("TellAndAsk.tell", request, writing.told)
        ask_call = call_of("TellAndAsk.ask", request, writing.asked)
        told = await self._studies.tell(tell, tell_call)
        reach("tell_and_ask.between")
        asked = await self._studies.ask(ask, ask_call, time_left_s=rpc.time_left_s)
        return writing.told_and_asked(told, asked)

    # Leases --------------------------------------------------------------------------------

    async def _report(self, request: service_pb2.ReportMeasurementsRequest, _: Rpc) -> bytes:
        command, call = mutation(
            "ReportMeasurements", request, reading.report, answer=writing.reported
        )
        return await self._studies.report(command, call)

    async def _heartbeat(self, request: service_pb2.HeartbeatTrialsRequest, _: Rpc) -> bytes:
        orders = await self._studies.heartbeat(reading.heartbeat(request))
        return writing.directives(orders).SerializeToString()

    async def _release(self, request: service_pb2.ReleaseTrialsRequest, _: Rpc) -> bytes:
        command, call = mutation(
            "ReleaseTrials", request, reading.release, answer=writing.released
        )
        return await self._studies.release(command, call)

    # Trials --------------------------------------------------------------------------------

    async def _create_trial(self, request: service_pb2.CreateTrialRequest, _: Rpc) -> bytes:
        command, call = mutation(
            "CreateTrial", request, reading.create_trial, answer=writing.trial
        )
        return await self._studies.create_trial(command, call)

    async def _get_trial(self, request: service_pb2.GetTrialRequest, _: Rpc) -> bytes:
        name = reading.trial_name(request.name, "name")
        study = replace(name.parent, uid=request.study_uid)
        view = await self._studies.get_trial(study, name.number)
        return writing.trial(view).SerializeToString()

    async def _list_trials(self, request: service_pb2.ListTrialsRequest, _: Rpc) -> bytes:
        page = await self._studies.list_trials(reading.list_trials(request))
        return writing.trials(page).SerializeToString()

    async def _amend_trial(self, request: service_pb2.AmendTrialRequest, _: Rpc) -> bytes:
        command, call = mutation(
            "AmendTrial", request, reading.amend_trial, answer=writing.trial
        )
        return await self._studies.amend(command, call)

    async def _stop_trial(self, request: service_pb2.StopTrialRequest, _: Rpc) -> bytes:
        command, call = mutation("StopTrial", request, reading.stop_trial, answer=writing.trial)
        return await self._studies.stop_trial(command, call)

    # Watching and insight ------------------------------------------------------------------

    async def _watch_study(
        self, request: service_pb2.WatchStudyRequest, _: Rpc
    ) -> AsyncIterator[bytes]:
        name, since = reading.watch(request)
        async for changed in self._studies.watch(name, since):
            yield writing.change(changed).SerializeToString()

    async def _server_info(self, request: service_pb2.GetServerInfoRequest, _: Rpc) -> bytes:
        info = writing.server_info(
            device=self._device,
            limits=LIMITS,
            suggest_ready=self._studies.is_ready_to_suggest,
        )
        return info.SerializeToString()

    async def _predict(self, request: insight_pb2.PredictRequest, _: Rpc) -> bytes:
        name, points = reading.predict(request)
        return (await self._studies.predict(name, points)).SerializeToString()

    async def _best(self, request: insight_pb2.GetBestRequest, _: Rpc) -> bytes:
        name = reading.study_name(request.name, "name", request.study_uid)
        found = await self._studies.best(name, uses_model=request.use_model)
        return writing.best(found).SerializeToString()
