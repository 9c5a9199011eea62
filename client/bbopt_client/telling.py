"""Results on their way to a study: which trial each is of, as a message, and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from bbopt.rpc.names import StudyName, TrialName
from bbopt.rpc.trial import outcome_to_message
from bbopt.rpc.v1.optimization_service_pb2 import Tell, TellTrialsRequest, TellTrialsResponse
from bbopt.trial import Failed, Outcome
from bbopt_client.results import TellResult, tell_result_from_message
from bbopt_client.session import new_request_id
from bbopt_client.trial import Trial


@dataclass(frozen=True, slots=True)
class Told:
    """One result."""

    name: TrialName
    trial: Trial | None
    """``None`` if this process does not have it: then there is no lease to prove."""
    outcome: Outcome

    @property
    def is_failure(self) -> bool:
        """Whether the machine is to blame, so that the point may run again."""
        return isinstance(self.outcome, Failed)


def tell_request(study: StudyName, told: Sequence[Told], *, uid: str) -> TellTrialsRequest:
    """Write results of trials of one study, and of no later one of its name."""
    return TellTrialsRequest(
        parent=str(study),
        tells=[
            Tell(
                trial=str(each.name),
                lease_token="" if each.trial is None else each.trial.lease_token,
                outcome=outcome_to_message(each.outcome),
            )
            for each in told
        ],
        request_id=new_request_id(),
        study_uid=uid,
    )


def settle(told: Sequence[Told], response: TellTrialsResponse) -> list[TellResult]:
    """Read what became of each result, and let the trials know."""
    answers = [tell_result_from_message(result) for result in response.results]
    for each, answer in zip(told, answers, strict=True):
        if each.trial is not None and answer.state is not None:
            each.trial.settle(each.outcome, answer.state)
    return answers
