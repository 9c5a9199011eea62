"""A study: ask for points, tell what they measured, read what is known."""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TypeAlias

from bbopt.errors import InvalidError
from bbopt.problem import Problem
from bbopt.rpc.names import StudyName, TrialName
from bbopt.rpc.points import parameters_to_message
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.times import duration_from_message, duration_to_message
from bbopt.rpc.trial import outcome_to_message, trial_state_to_message
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt.rpc.v1.insight_service_pb2 import GetBestRequest, Point, PredictRequest
from bbopt.rpc.v1.optimization_service_pb2 import (
    AmendTrialRequest,
    AskTrialsRequest,
    AskTrialsResponse,
    CreateTrialRequest,
    DeleteStudyRequest,
    GetStudyRequest,
    GetTrialRequest,
    ListTrialsRequest,
    StopTrialRequest,
    TellAndAskRequest,
    TellTrialsResponse,
)
from bbopt.rpc.violations import within
from bbopt.space import ParamValue
from bbopt.specs import StudySpec
from bbopt.trial import Outcome, TrialState
from bbopt.trial.told import whole_number
from bbopt_client.arguments import labels_of, seconds, text
from bbopt_client.connection import Method, RequestT
from bbopt_client.optimizing import Objective, Progress, optimize
from bbopt_client.outcomes import Result, outcome_of
from bbopt_client.records import Cell, to_records
from bbopt_client.results import (
    AskResult,
    Prediction,
    StudyState,
    StudyStats,
    TellResult,
    ask_reason_from_message,
    datetime_from_message,
    prediction_from_message,
    stats_from_message,
    study_state_from_message,
)
from bbopt_client.session import Session, new_request_id
from bbopt_client.telling import Told, settle, tell_request
from bbopt_client.trial import Trial
from bbopt_client.watching import Watch

Parameters: TypeAlias = Mapping[str, ParamValue]

_MARGIN_S = 15.0
"""What an ask may take beyond the wait for a trial: the model's own time."""
_PAUSE_S = 0.5
"""Between asks that came back empty before their time, if the server did not say."""
_CELLS_PER_PAGE = 100_000
"""Keeps a page of trials of a large space within what one message may hold."""


class Study:
    """One study on a server; safe to use from several threads.

    What it says about itself (``state``, ``stats``) is as of the last answer; ``refresh``
    brings it up to date.
    """

    def __init__(self, session: Session, message: study_pb2.Study) -> None:
        self.session = session
        self.name: StudyName = StudyName.parse(message.name)
        self._message = message
        self._state = study_state_from_message(message.state)

    def __repr__(self) -> str:
        return f"<Study {self.id} {self._state.name}>"

    # What it is ----------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The name within its project."""
        return self.name.study

    @property
    def uid(self) -> str:
        """Never used again, even by a later study of the same name."""
        return self._message.uid

    @cached_property
    def spec(self) -> StudySpec:
        """Everything that defines the study."""
        return study_spec_from_message(self._message.spec)

    @property
    def problem(self) -> Problem:
        """The space, the metrics and the budget."""
        return self.spec.problem

    @property
    def state(self) -> StudyState:
        """Where the study is in its life, as of the last answer."""
        return self._state

    @property
    def state_message(self) -> str:
        """Why it is in its state."""
        return self._message.state_reason.message

    @property
    def set_aside_until(self) -> datetime | None:
        """Until when asks are answered without a model, because the study brought down the
        server's compute too often, as of the last ``refresh``; ``None``: it is well.
        """
        if not self._message.HasField("set_aside_until"):
            return None
        return datetime_from_message(self._message.set_aside_until)

    @property
    def stats(self) -> StudyStats:
        """How many trials are in each state, as of the last ``refresh``."""
        return stats_from_message(self._message.stats)

    @property
    def revision(self) -> int:
        """Position of the last event, as of the last ``refresh``; where ``watch`` may begin."""
        return self._message.revision

    @property
    def labels(self) -> Mapping[str, str]:
        """Free text that came with the study."""
        return dict(self._message.labels)

    @property
    def message(self) -> study_pb2.Study:
        """The server's own description, for what has no property here."""
        return self._message

    def refresh(self) -> "Study":
        """Bring ``state`` and ``stats`` up to date.

        Raises:
            NotFoundError: The study is deleted, also if another one has its name by now.
        """
        self._message = self.session.connection.call(
            lambda stubs: stubs.optimization.GetStudy,
            GetStudyRequest(name=str(self.name), study_uid=self.uid),
        )
        self._state = study_state_from_message(self._message.state)
        return self

    def delete(self) -> None:
        """Delete the study; its name is free again."""
        self.session.connection.call(
            lambda stubs: stubs.optimization.DeleteStudy,
            DeleteStudyRequest(
                name=str(self.name), request_id=new_request_id(), study_uid=self.uid
            ),
        )
        self._state = StudyState.DELETED

    # Ask and tell --------------------------------------------------------------------------

    def ask(
        self,
        n: int = 1,
        *,
        wait_s: float | None = None,
        allow_fallback: bool = True,
        lease_s: float | None = None,
    ) -> AskResult:
        """Ask for trials to evaluate; their leases are kept alive until they are told.

        Args:
            n: How many, 1 to 256; there may be fewer.
            wait_s: How long to wait for a trial while all that is left is being evaluated
                elsewhere; ``None`` takes the client's ``ask_timeout_s``, 0 does not wait.
            allow_fallback: Take a cheaper point, marked in its provenance, rather than none
                when the model cannot answer in time.
            lease_s: Another duration of the leases than the study's; 0 never expires.

        Returns:
            The trials; when there are none, ``reason`` says why, ``is_finished`` whether
            asking again is of no use.

        Raises:
            DeadlineError: The model did not answer in time and no fallback was allowed.
        """
        clock, options = self.session.connection.monotonic, self.session.options
        total_s = options.ask_timeout_s if wait_s is None else seconds("wait_s", wait_s)
        deadline = clock() + total_s
        while True:
            slice_s = min(max(0.0, deadline - clock()), options.ask_timeout_s)
            request = self._ask_request(n, slice_s, allow_fallback, lease_s)
            attempt_s = slice_s + max(_MARGIN_S, options.ask_timeout_s / 2)
            response = self.session.connection.call(
                lambda stubs: stubs.optimization.AskTrials,
                request,
                deadline_s=attempt_s + options.deadline_s,
                attempt_timeout_s=attempt_s,
            )
            answer = self._asked(response)
            pause_s = answer.retry_after_s or _PAUSE_S
            if answer or answer.is_finished or clock() + pause_s >= deadline:
                return answer
            self.session.connection.wait(pause_s)

    def tell(self, trial: Trial | int, result: Result) -> TellResult:
        """Tell the final result of a trial.

        Args:
            trial: The trial, or its number alone.
            result: As in ``Trial.tell``.

        Raises:
            InvalidError: The result does not fit the problem; nothing was sent.
            TrialFinishedError: The trial has another final result.
            UnavailableError: No answer in time; the result is on disk and is sent again.
        """
        (answer,) = self.tell_many([(trial, result)])
        if answer.error is not None:
            raise answer.error
        return answer

    def tell_many(self, results: Iterable[tuple[Trial | int, Result]]) -> list[TellResult]:
        """Tell several results in one call.

        Returns:
            What became of each, in order; a refused one has an ``error``.

        Raises:
            InvalidError: A result does not fit the problem; nothing was sent.
        """
        told = [self._told(trial, result) for trial, result in results]
        return self._send(told)

    def tell_and_ask(
        self,
        results: Iterable[tuple[Trial | int, Result]],
        n: int = 1,
        *,
        allow_fallback: bool = True,
        lease_s: float | None = None,
    ) -> tuple[list[TellResult], AskResult]:
        """Tell results and ask for new trials in one round trip.

        Args:
            results: As in ``tell_many``.
            n: How many trials to ask for.
            allow_fallback: As in ``ask``.
            lease_s: As in ``ask``.
        """
        told = [self._told(trial, result) for trial, result in results]
        if not told or any(each.is_failure for each in told):
            # A failure that is sent again under another name would count as a second one.
            answers = self._send(told)
            return answers, self.ask(n, allow_fallback=allow_fallback, lease_s=lease_s)
        options = self.session.options
        tell = tell_request(self.name, told, uid=self.uid)
        ask = self._ask_request(n, options.ask_timeout_s, allow_fallback, lease_s)
        request = TellAndAskRequest(tell=tell, ask=ask, request_id=new_request_id())
        with self.session.delivery.spooling(tell) as answered:
            response = self.session.connection.call(
                lambda stubs: stubs.optimization.TellAndAsk,
                request,
                deadline_s=options.tell_deadline_s,
                attempt_timeout_s=options.ask_timeout_s + _MARGIN_S,
            )
            answered(response.tell)
        return self._take_answers(told, response.tell), self._asked(response.ask)

    def enqueue(self, parameters: Parameters, labels: Mapping[str, str] | None = None) -> Trial:
        """Have this point evaluated by whoever asks next.

        Raises:
            InvalidError: The point is not one of the space.
        """
        return self._create_trial(parameters, None, labels)

    def add(
        self, parameters: Parameters, result: Result, labels: Mapping[str, str] | None = None
    ) -> Trial:
        """Record an observation that was made elsewhere.

        Raises:
            InvalidError: The point is not one of the space, or the result does not fit.
        """
        return self._create_trial(parameters, outcome_of(result, self.problem), labels)

    def amend(self, trial: Trial | int, result: Result, reason: str = "") -> Trial:
        """Correct a final result; the earlier one stays in the log."""
        request = AmendTrialRequest(
            name=str(self._trial_name(trial)),
            outcome=outcome_to_message(outcome_of(result, self.problem)),
            reason=text("reason", reason),
            request_id=new_request_id(),
            study_uid=self.uid,
        )
        return self._call_for_trial(lambda stubs: stubs.optimization.AmendTrial, request)

    def stop(self, trial: Trial | int, reason: str = "") -> Trial:
        """Ask the worker of a trial to stop early; a queued trial is abandoned."""
        request = StopTrialRequest(
            name=str(self._trial_name(trial)),
            reason=text("reason", reason),
            request_id=new_request_id(),
            study_uid=self.uid,
        )
        return self._call_for_trial(lambda stubs: stubs.optimization.StopTrial, request)

    # What is known -------------------------------------------------------------------------

    def best(self, *, use_model: bool = False, allow_infeasible: bool = False) -> Trial | None:
        """Return the best trial; ``None`` while nothing feasible has been measured.

        Args:
            use_model: Rank by the model's mean, for noisy metrics, rather than as measured.
            allow_infeasible: While nothing is feasible, return the least infeasible trial.
        """
        answer = self.session.connection.call(
            lambda stubs: stubs.insight.GetBest,
            GetBestRequest(name=str(self.name), use_model=use_model, study_uid=self.uid),
        )
        if not answer.HasField("trial") or not (answer.feasible or allow_infeasible):
            return None
        return Trial(self, answer.trial)

    def predict(self, points: Iterable[Parameters]) -> list[Prediction]:
        """Say what the model expects at points.

        Raises:
            InvalidError: A point is not one of the space.
            PreconditionError: There is no model yet.
        """
        if isinstance(points, str | Mapping) or not isinstance(points, Iterable):
            raise InvalidError.of("points", "must be a list of points")
        points = list(points)
        for position, point in enumerate(points):
            self._check_point(point, f"points[{position}].")
        answer = self.session.connection.call(
            lambda stubs: stubs.insight.Predict,
            PredictRequest(
                name=str(self.name),
                points=[Point(parameters=parameters_to_message(point)) for point in points],
                study_uid=self.uid,
            ),
        )
        return [prediction_from_message(row) for row in answer.rows]

    def trial(self, number: int) -> Trial:
        """Read one trial, with its intermediate reports.

        Raises:
            NotFoundError: There is none of that number.
        """
        request = GetTrialRequest(name=str(self._trial_name(number)), study_uid=self.uid)
        return self._call_for_trial(lambda stubs: stubs.optimization.GetTrial, request)

    def trials(self, states: TrialState | Iterable[TrialState] | None = None) -> list[Trial]:
        """Read all trials, by number; ``states`` keeps those in one of these states."""
        return list(self.iter_trials(states))

    def iter_trials(
        self, states: TrialState | Iterable[TrialState] | None = None
    ) -> Iterator[Trial]:
        """Read all trials a page at a time."""
        given = (states,) if isinstance(states, TrialState) else states or ()
        if not isinstance(given, Iterable):
            raise InvalidError.of("states", f"must be of TrialState, not {given!r}")
        wanted = tuple(given)
        for each in wanted:
            if not isinstance(each, TrialState):
                raise InvalidError.of("states", f"must be of TrialState, not {each!r}")
        n_cells = len(self.problem.space.parameters) + len(self.problem.metrics)
        request = ListTrialsRequest(
            parent=str(self.name),
            page_size=max(10, min(1000, _CELLS_PER_PAGE // n_cells)),
            states=[trial_state_to_message(state) for state in wanted],
            study_uid=self.uid,
        )
        while True:
            page = self.session.connection.call(
                lambda stubs: stubs.optimization.ListTrials, request
            )
            yield from (Trial(self, message) for message in page.trials)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def to_records(
        self, states: TrialState | Iterable[TrialState] | None = None
    ) -> list[dict[str, Cell]]:
        """Read all trials as flat dictionaries, e.g. for ``pandas.DataFrame``."""
        return to_records(self.iter_trials(states), self.problem)

    def watch(self, since: int = 0) -> Watch:
        """Iterate over the study's events after a revision, then over those that come.

        The iterator survives a restart of the server; use it in a ``with`` block or close it.
        """
        return Watch(self, whole_number("since", since, 0))

    def optimize(
        self,
        objective: Objective,
        *,
        trials: int | None = None,
        workers: int = 1,
        callback: Callable[["Study", Trial], None] | None = None,
        progress: Callable[[Progress], None] | None = None,
        max_failures: int = 5,
    ) -> Trial | None:
        """Evaluate a function until the study or a number of trials is finished.

        Args:
            objective: Takes the trial (``trial["lr"]``) and returns what ``Trial.tell`` takes;
                ``None`` if it told the trial itself. An exception tells it as failed, a
                number that is not finite as infeasible.
            trials: Evaluations to make here; ``None`` goes on until the study is finished.
            workers: Threads that evaluate at once.
            callback: Called after every evaluation, by one thread at a time.
            progress: The same, with counts for a progress bar.
            max_failures: So many exceptions in a row end the run with the last one; so does
                the end of a run in which nothing but exceptions came.

        Returns:
            The best trial of the study.

        Raises:
            InvalidError: Neither ``trials`` nor the study's budget sets an end.
            TypeError: The objective cannot be called.
            KeyboardInterrupt: Trials under way were given back first.
        """
        return optimize(
            self,
            objective,
            n_trials=trials,
            n_workers=workers,
            callback=callback,
            progress=progress,
            max_failures=max_failures,
        )

    # Messages ------------------------------------------------------------------------------

    def _send(self, told: Sequence[Told]) -> list[TellResult]:
        if not told:
            return []
        response = self.session.delivery.tell(tell_request(self.name, told, uid=self.uid))
        return self._take_answers(told, response)

    def _ask_request(
        self, n: int, wait_s: float, allow_fallback: bool, lease_s: float | None
    ) -> AskTrialsRequest:
        count = whole_number("n", n, 1, 256)
        degrade = (
            AskTrialsRequest.DEGRADE_ALLOW_FALLBACK
            if allow_fallback
            else AskTrialsRequest.DEGRADE_NEVER
        )
        duration = None
        if lease_s is not None:
            with within("lease_s"):
                duration = duration_to_message(seconds("", lease_s))
        return AskTrialsRequest(
            parent=str(self.name),
            count=count,
            worker_id=self.session.worker,
            request_id=new_request_id(),
            max_wait=duration_to_message(wait_s),
            degrade=degrade,
            lease_duration=duration,
            study_uid=self.uid,
        )

    def _asked(self, response: AskTrialsResponse) -> AskResult:
        trials = tuple(Trial(self, message, is_held=True) for message in response.trials)
        for trial in trials:
            self.session.heartbeats.hold(trial)
        self._state = study_state_from_message(response.study_state)
        has_pause = response.HasField("retry_after")
        return AskResult(
            trials,
            ask_reason_from_message(response.reason),
            self._state,
            duration_from_message(response.retry_after) if has_pause else None,
        )

    def _told(self, given: Trial | int, result: Result) -> Told:
        name = self._trial_name(given)
        found = given if isinstance(given, Trial) else self.session.heartbeats.find(str(name))
        trial = found if isinstance(found, Trial) else None
        elapsed_s = None if trial is None else trial.end()
        return Told(name, trial, outcome_of(result, self.problem, elapsed_s=elapsed_s))

    def _take_answers(
        self, told: Sequence[Told], response: TellTrialsResponse
    ) -> list[TellResult]:
        self._state = study_state_from_message(response.study_state)
        return settle(told, response)

    def _create_trial(
        self, parameters: Parameters, outcome: Outcome | None, labels: Mapping[str, str] | None
    ) -> Trial:
        self._check_point(parameters, "")
        request = CreateTrialRequest(
            parent=str(self.name),
            parameters=parameters_to_message(self.problem.space.canonical(parameters)),
            outcome=None if outcome is None else outcome_to_message(outcome),
            request_id=new_request_id(),
            labels=labels_of(labels),
            study_uid=self.uid,
        )
        return self._call_for_trial(lambda stubs: stubs.optimization.CreateTrial, request)

    def _check_point(self, parameters: Parameters, prefix: str) -> None:
        violations = self.problem.space.check(parameters)
        if violations:
            raise InvalidError(
                [type(each)(prefix + each.field, each.message) for each in violations]
            )

    def _trial_name(self, trial: Trial | int) -> TrialName:
        if isinstance(trial, Trial):
            if trial.study.uid != self.uid:
                raise InvalidError.of("trial", f"{trial.name} is a trial of another study")
            number = trial.number
        else:
            try:
                number = operator.index(trial)
            except TypeError as error:
                raise TypeError(f"a trial is a Trial or its number, not {trial!r}") from error
        return TrialName(self.name.project, self.name.study, number)

    def _call_for_trial(
        self, method: Method[RequestT, trial_pb2.Trial], request: RequestT
    ) -> Trial:
        return Trial(self, self.session.connection.call(method, request))
