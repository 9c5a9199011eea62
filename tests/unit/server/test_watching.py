"""Following a study: nothing left out, nothing twice, wherever the stream broke."""

import asyncio
from collections.abc import AsyncIterator

from bbopt.errors import InvalidError, NotFoundError, UnavailableError
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2
from bbopt_server.rpc.methods import OPTIMIZATION, Methods, Rpc, Stream
from tests.unit.server.service import (
    STUDY,
    Service,
    asynchronous,
    completed,
    new_id,
    quadratic,
    refused,
)


def watch(service: Service, since: int = 0) -> AsyncIterator[bytes]:
    method = Methods(service.studies, device="cpu").table()[OPTIMIZATION]["WatchStudy"]
    assert isinstance(method, Stream)
    return method.run(pb.WatchStudyRequest(name=STUDY, since_revision=since), Rpc(None))


async def take(stream: AsyncIterator[bytes], n: int) -> list[pb.StudyEvent]:
    async with asyncio.timeout(5.0):
        return [pb.StudyEvent.FromString(await anext(stream)) for _ in range(n)]


@asynchronous
async def test_old_events_come_first_then_those_that_happen() -> None:
    service = Service()
    await service.create(quadratic(max_trials=1))
    trial = (await service.ask()).trials[0]
    stream = watch(service)
    assert [event.kind for event in await take(stream, 2)] == ["study", "asked"]
    following = asyncio.create_task(take(stream, 2))
    await asyncio.sleep(0.01)
    await service.tell(trial, completed(0.5))
    told, over = await following
    assert (told.kind, told.trial.final_measurement.metrics["loss"].value) == ("told", 0.5)
    assert (over.kind, over.study.state) == ("study", study_pb2.Study.STATE_COMPLETED)


@asynchronous
async def test_a_stream_resumes_after_any_revision_without_a_gap() -> None:
    service = Service()
    await service.create()
    for trial in (await service.ask(3)).trials:
        await service.tell(trial, completed())
    revision = (await service.study()).revision
    for since in range(revision):
        events = await take(watch(service, since), 1)
        assert events[0].revision == since + 1
    whole = await take(watch(service), 1 + 3 + 3)
    assert [event.revision for event in whole] == [1, 2, 2, 2, 3, 4, 5]
    assert [event.trial.number for event in whole[1:4]] == [1, 2, 3]


@asynchronous
async def test_more_events_than_a_page_come_in_order() -> None:
    service = Service()
    await service.create()
    n_asks = 250
    for _ in range(n_asks):
        await service.ask()
    events = await take(watch(service), 1 + n_asks)
    assert [event.revision for event in events] == list(range(1, n_asks + 2))


@asynchronous
async def test_a_report_brings_its_measurement() -> None:
    service = Service()
    await service.create()
    trial = (await service.ask()).trials[0]
    await service.report(trial, {3: 0.5})
    event = (await take(watch(service, 2), 1))[0]
    assert (event.kind, event.measurement.step) == ("reported", 3)


@asynchronous
async def test_a_stream_ends_with_its_study() -> None:
    service = Service()
    await service.create()
    stream = watch(service)
    await take(stream, 1)
    await service.call("DeleteStudy", pb.DeleteStudyRequest(name=STUDY, request_id=new_id()))
    last = await take(stream, 1)
    assert last[0].study.state == study_pb2.Study.STATE_DELETED
    assert [event async for event in stream] == []


@asynchronous
async def test_draining_ends_streams_with_a_reason_to_come_back() -> None:
    service = Service()
    await service.create()
    stream = watch(service)
    await take(stream, 1)
    following = asyncio.create_task(take(stream, 1))
    await asyncio.sleep(0.01)
    await service.studies.drain()
    with refused(UnavailableError):
        await following


@asynchronous
async def test_what_cannot_be_watched_is_refused() -> None:
    service = Service()
    with refused(NotFoundError):
        await take(watch(service), 1)
    await service.create()
    with refused(InvalidError, field="since_revision"):
        await take(watch(service, 99), 1)
    with refused(InvalidError, field="since_revision"):
        await take(watch(service, -1), 1)


@asynchronous
async def test_an_old_change_of_the_study_shows_the_state_of_then() -> None:
    service = Service()
    await service.create(quadratic(max_trials=1))
    await service.tell((await service.ask()).trials[0], completed())
    events = await take(watch(service), 4)
    assert [each.study.state for each in (events[0], events[3])] == [
        study_pb2.Study.STATE_ACTIVE,
        study_pb2.Study.STATE_COMPLETED,
    ]
    assert events[3].study.state_reason.code == study_pb2.StateReason.CODE_TRIAL_BUDGET
