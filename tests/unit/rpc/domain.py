"""Hypothesis strategies for what happens in a study; its definition is drawn elsewhere."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bbopt.problem import MetricKind
from bbopt.space import Bool, Categorical, Float, Int, Ordinal, Parameter, ParamValue
from bbopt.specs import (
    AshaSpec,
    AutoSpec,
    CmaEsSpec,
    GPSpec,
    LeasePolicy,
    Promotion,
    Quality,
    RandomSpec,
    SobolSpec,
    StrategySpec,
    StudySpec,
)
from bbopt.trial import (
    Abandoned,
    Amended,
    Asked,
    Completed,
    Enqueued,
    Event,
    Failed,
    Infeasible,
    Leased,
    Measurement,
    NewTrial,
    Outcome,
    Predicted,
    Provenance,
    Reported,
    Requeued,
    Stage,
    Stopped,
    StopRequested,
    StrategyState,
    Told,
    Trial,
    TrialState,
    Value,
)
from tests.properties import spaces

names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
int64s = st.integers(-(2**63), 2**63 - 1)
numbers = st.integers(1, 2**63 - 1)
attempts = st.integers(1, 2**31 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
non_negative = st.floats(0, 1e300)
# Whole nanoseconds, which is what the wire carries.
seconds = st.integers(0, 10**16).map(lambda nanos: nanos / 10**9)
qualities = st.sampled_from(Quality)

param_values: st.SearchStrategy[ParamValue] = st.one_of(
    st.booleans(), int64s, st.floats(allow_nan=False), texts
)
points = st.dictionaries(names, param_values, max_size=6)


# Definitions -------------------------------------------------------------------------------


@st.composite
def parameters(draw: st.DrawFn) -> Parameter:
    """A parameter of any kind; it may have a condition and a default."""
    parent = draw(spaces.parameters("parent"))
    condition = draw(st.none() | spaces.conditions([parent]))
    parameter = draw(spaces.parameters("p", condition))
    if draw(st.booleans()):
        return parameter
    match parameter:
        case Float(low=low):
            return replace(parameter, default=low)
        case Int(low=least):
            return replace(parameter, default=least)
        case Ordinal(values=values):
            return replace(parameter, default=values[-1])
        case Categorical(choices=choices):
            return replace(parameter, default=choices[-1])
        case Bool():
            return replace(parameter, default=draw(st.booleans()))
        case _:
            raise AssertionError(parameter)


conditions = spaces.parameters("p").flatmap(lambda parent: spaces.conditions([parent]))
metrics = st.sampled_from(MetricKind).flatmap(lambda kind: spaces.metrics("m", kind))
strategies: st.SearchStrategy[StrategySpec] = st.one_of(
    st.builds(AutoSpec, qualities),
    st.just(RandomSpec()),
    st.just(SobolSpec()),
    st.builds(
        CmaEsSpec,
        st.floats(0.0, 1.0, exclude_min=True),
        st.none() | st.integers(4, 4096),
        st.floats(0.5, 1.0),
    ),
    st.builds(GPSpec, st.none() | st.integers(1, 1000), qualities),
    st.builds(AshaSpec, st.sampled_from(Promotion)),
)
terms = st.integers(0, 30 * 24 * 3600 * 10**9).map(lambda nanos: nanos / 10**9)
lease_policies = st.builds(LeasePolicy, terms, st.integers(1, 100))


study_specs = st.builds(
    StudySpec,
    spaces.problems(max_parameters=4),
    strategies,
    st.integers(0, 2**64 - 1),
    lease_policies,
)


# Trials and events -------------------------------------------------------------------------

values = st.builds(Value, finite, st.none() | non_negative, st.integers(1, 2**40))
measurements = st.builds(
    Measurement,
    st.dictionaries(names, values, max_size=4),
    st.none() | st.integers(0, 2**63 - 1),
    st.none() | seconds,
)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Completed, measurements),
    st.builds(Stopped, measurements),
    st.builds(Infeasible, texts, st.none() | measurements),
    st.builds(Failed, texts, st.booleans(), st.none() | measurements),
    st.builds(Abandoned, texts),
)
provenances = st.builds(
    Provenance,
    names,
    data_revision=st.integers(0, 2**63 - 1),
    degraded_from=names | st.just(""),
    reason=texts,
    acquisition_value=st.none() | finite,
    predicted=st.dictionaries(names, st.builds(Predicted, finite, non_negative), max_size=3),
)


stages = st.builds(Stage, st.integers(1, 2**31), st.none() | numbers, st.none() | numbers)


@st.composite
def trials(draw: st.DrawFn) -> Trial:
    """Snapshots whose outcome fits their state."""
    outcome = draw(st.none() | outcomes)
    match outcome:
        case None:
            live = [TrialState.QUEUED, TrialState.ACTIVE, TrialState.STOPPING]
            state = draw(st.sampled_from(live))
        case Completed():
            state = TrialState.COMPLETED
        case Stopped():
            state = TrialState.STOPPED
        case Infeasible():
            state = TrialState.INFEASIBLE
        case Failed(message, _, measurement):
            state = TrialState.FAILED
            outcome = Failed(message, retryable=False, measurement=measurement)
        case Abandoned():
            state = TrialState.ABANDONED
    provenance = draw(provenances)
    stage = draw(st.none() | stages)
    return Trial(draw(numbers), draw(points), state, provenance, outcome, draw(attempts), stage)


shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
arrays = npst.arrays(np.float64, shapes) | npst.arrays(np.int64, shapes)
states = st.builds(
    StrategyState,
    names,
    st.integers(0, 2**31 - 1),
    st.dictionaries(texts, int64s | finite | texts, max_size=4),
    st.dictionaries(texts, arrays, max_size=3),
)
new_trials = st.builds(NewTrial, numbers, points, provenances, st.none() | stages)
asked = st.builds(Asked, st.lists(new_trials, max_size=3).map(tuple), st.none() | states)
events_without_state: st.SearchStrategy[Event] = st.one_of(
    st.builds(Enqueued, new_trials),
    st.builds(Leased, numbers, names, attempts),
    st.builds(Requeued, numbers, texts, attempts),
    st.builds(Reported, numbers, measurements),
    st.builds(StopRequested, numbers, texts),
    st.builds(Told, numbers, outcomes, st.booleans()),
    st.builds(Amended, numbers, outcomes, texts),
)
