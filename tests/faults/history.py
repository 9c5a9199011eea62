"""What callers were told, compared with what is there: a history checker in Jepsen's manner.

A history has one entry per logical call: the request as it was sent, however often, and the
answer that its caller got in the end. Everything here follows from these and from the store;
nothing depends on who the callers were or on when what was killed.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.protobuf.message import Message

from bbopt.errors import BboptError
from bbopt.rpc.names import TrialName
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import trial_pb2
from bbopt.trial import Enqueued, Requeued
from bbopt_server.studies.ledger import LEASE_EXPIRED
from tests.kept import Kept

MUTATIONS = (
    pb.CreateStudyRequest,
    pb.CreateTrialRequest,
    pb.AskTrialsRequest,
    pb.TellTrialsRequest,
    pb.TellAndAskRequest,
)
"""The requests that a history keeps."""


@dataclass(frozen=True)
class Exchange:
    """One logical call and its answer."""

    request: Any
    answer: Any

    @property
    def method(self) -> str:
        return method_of(self.request)

    @property
    def study(self) -> str:
        """Id of the study."""
        match self.request:
            case pb.CreateStudyRequest(study_id=study):
                return study
            case pb.TellAndAskRequest(tell=tell):
                return tell.parent.rpartition("/")[2]
        return str(self.request.parent.rpartition("/")[2])

    @property
    def trials(self) -> Sequence[trial_pb2.Trial]:
        """The trials that it was handed."""
        match self.answer:
            case pb.AskTrialsResponse(trials=trials):
                return list(trials)
            case pb.TellAndAskResponse(ask=ask):
                return list(ask.trials)
        return []

    @property
    def tells(self) -> Iterator[tuple[pb.Tell, pb.TellResult]]:
        """The outcomes that it told, and what became of each."""
        match self.request, self.answer:
            case pb.TellTrialsRequest(tells=tells), pb.TellTrialsResponse(results=results):
                yield from zip(tells, results, strict=True)
            case pb.TellAndAskRequest(tell=tell), pb.TellAndAskResponse(tell=told):
                yield from zip(tell.tells, told.results, strict=True)

    @property
    def is_kept(self) -> bool:
        """Whether the server keeps the answer: not that nothing could be handed out."""
        is_ask = isinstance(self.request, pb.AskTrialsRequest | pb.TellAndAskRequest)
        return not is_ask or bool(self.trials)


def method_of(request: Message) -> str:
    return request.DESCRIPTOR.name.removesuffix("Request")


class Kind(Enum):
    """What may be wrong."""

    LOST = "an acknowledged result is not there, or not once"
    UNRECOGNISED = "a tell was taken for another one of the same trial"
    HANDED_OUT_TWICE = "two calls were handed the same attempt at a trial"
    NOBODYS = "an attempt at a trial was handed to no call"
    DOUBLED = "something that was sent once was recorded more or less often"
    ANSWERED_ANEW = "a repeated call was answered differently"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong."""

    kind: Kind
    what: str


def kinds(faults: Sequence[Fault]) -> set[Kind]:
    return {fault.kind for fault in faults}


def find_faults(history: Sequence[Exchange], kept: Mapping[str, Kept]) -> list[Fault]:
    """Compare what was acknowledged with the studies as they are, by id."""
    by_study: dict[str, list[Exchange]] = {study: [] for study in kept}
    for exchange in history:
        by_study[exchange.study].append(exchange)
    return [
        Fault(fault.kind, f"{study}: {fault.what}")
        for study, exchanges in by_study.items()
        for look in (_results, _hand_outs, _observations, _failures)
        for fault in look(exchanges, kept[study])
    ]


def _results(exchanges: Sequence[Exchange], kept: Kept) -> Iterator[Fault]:
    """Every acknowledged result is there once; no result is refused without a reason."""
    losses = kept.losses
    has_expired = {
        event.number
        for event in kept.events
        if isinstance(event, Requeued) and event.message.startswith(LEASE_EXPIRED)
    }
    for tell, result in _tells(exchanges):
        number = TrialName.parse(tell.trial).number
        is_refused = result.status.code != 0
        if result.was_duplicate or (is_refused and number not in has_expired):
            yield Fault(Kind.UNRECOGNISED, f"trial {number}: {result}")
        if tell.outcome.HasField("completed") and not is_refused:
            yield from _kept_once(number, tell.outcome, losses)


def _hand_outs(exchanges: Sequence[Exchange], kept: Kept) -> Iterator[Fault]:
    """Every attempt at a trial was handed to one call."""
    handed: dict[int, Counter[int]] = defaultdict(Counter)
    for exchange in exchanges:
        for trial in exchange.trials:
            handed[TrialName.parse(trial.name).number][trial.attempt] += 1
    for number, attempts in handed.items():
        for attempt, n_calls in attempts.items():
            if n_calls > 1:
                what = f"trial {number}, attempt {attempt}: {n_calls} calls"
                yield Fault(Kind.HANDED_OUT_TWICE, what)
    enqueued = {each.trial.number for each in kept.events if isinstance(each, Enqueued)}
    for row in kept.trials:
        if row.number in enqueued:
            continue
        # A result may come so late that the next attempt already waits.
        is_last_due = row.state != "QUEUED" and not row.late
        due = range(1, row.attempt + is_last_due)
        if missing := set(due) - handed[row.number].keys():
            what = f"trial {row.number} ({row.state}), attempts {sorted(missing)}"
            yield Fault(Kind.NOBODYS, what)


def _observations(exchanges: Sequence[Exchange], kept: Kept) -> Iterator[Fault]:
    """Every observation that was added is there once."""
    added = sorted(
        TrialName.parse(each.answer.name).number
        for each in exchanges
        if isinstance(each.request, pb.CreateTrialRequest)
    )
    enqueued = [each.trial.number for each in kept.events if isinstance(each, Enqueued)]
    if added != enqueued:
        odd = sorted(set(added) ^ set(enqueued))
        yield Fault(Kind.DOUBLED, f"{len(added)} observations became {len(enqueued)}: {odd}")
    losses = kept.losses
    for each in exchanges:
        if isinstance(each.request, pb.CreateTrialRequest):
            number = TrialName.parse(each.answer.name).number
            yield from _kept_once(number, each.request.outcome, losses)


def _kept_once(
    number: int, outcome: trial_pb2.Outcome, losses: Mapping[int, Sequence[float]]
) -> Iterator[Fault]:
    loss, there = outcome.completed.metrics["loss"].value, losses.get(number)
    if there != [loss]:
        yield Fault(Kind.LOST, f"trial {number}: {loss} became {there}")


def _failures(exchanges: Sequence[Exchange], kept: Kept) -> Iterator[Fault]:
    """Every failure that was acknowledged cost its trial one attempt."""
    told = Counter(
        TrialName.parse(tell.trial).number
        for tell, result in _tells(exchanges)
        if tell.outcome.HasField("failed")
        and result.status.code == 0
        and result.state == trial_pb2.Trial.STATE_QUEUED
    )
    counted = Counter(
        event.number
        for event in kept.events
        if isinstance(event, Requeued) and event.message.startswith("failed")
    )
    for number in told.keys() | counted.keys():
        if told[number] != counted[number]:
            what = f"trial {number}: {told[number]} failures became {counted[number]}"
            yield Fault(Kind.DOUBLED, what)


def _tells(exchanges: Sequence[Exchange]) -> Iterator[tuple[pb.Tell, pb.TellResult]]:
    for exchange in exchanges:
        yield from exchange.tells


def find_other_answers(
    history: Sequence[Exchange], send: Callable[[Message], Message]
) -> list[Fault]:
    """Send calls again, under their ids, and compare the answers byte for byte."""
    faults: list[Fault] = []
    for exchange in history:
        if not exchange.is_kept:
            continue
        try:
            again = send(exchange.request)
        except BboptError as error:
            faults.append(Fault(Kind.ANSWERED_ANEW, f"{exchange.method}: {error!r}"))
            continue
        if _as_bytes(again) != _as_bytes(exchange.answer):
            what = f"{exchange.method}: {exchange.answer} became {again}"
            faults.append(Fault(Kind.ANSWERED_ANEW, what))
    return faults


def _as_bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)
