"""Hypothesis strategies for domain objects that are valid by construction."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bbopt.problem import Budget, Goal, Metric, MetricKind, Noise, Problem
from bbopt.space import (
    AllOf,
    Between,
    Bool,
    Categorical,
    Condition,
    Constraint,
    Equals,
    Exclude,
    Fixed,
    Float,
    Int,
    Linear,
    Ordinal,
    Parameter,
    ParamValue,
    Scale,
    Simplex,
    Space,
)
from bbopt.specs import (
    AutoSpec,
    GPSpec,
    LeasePolicy,
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
    Stopped,
    StopRequested,
    StrategyState,
    Told,
    Trial,
    TrialState,
    Value,
)

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


# Spaces ------------------------------------------------------------------------------------


def conditions_on(parent: Parameter) -> st.SearchStrategy[Condition]:
    """Conditions that look at one parameter, a few levels deep."""
    match parent:
        case Categorical(choices=values) | Ordinal(values=values):
            options: tuple[ParamValue, ...] = values
            leaf: st.SearchStrategy[Condition] = st.lists(
                st.sampled_from(options), min_size=1, unique=True, max_size=len(values) - 1
            ).map(lambda chosen: Equals(parent.name, tuple(chosen)))
        case Float(low=low, high=high) | Int(low=low, high=high):
            leaf = st.just(Between(parent.name, float(low), (low + high) / 2))
        case Bool():
            leaf = st.booleans().map(lambda value: Equals(parent.name, (value,)))
        case _:
            raise AssertionError(f"no condition looks at {parent}")
    return leaf | leaf.map(lambda each: AllOf((each, AllOf((each,)))))


@st.composite
def floats(draw: st.DrawFn, name: str, active_if: Condition | None = None) -> Float:
    scale = draw(st.sampled_from(Scale))
    if scale is Scale.LOGIT:
        low, high = draw(st.floats(0.01, 0.4)), draw(st.floats(0.6, 0.99))
    else:
        low = draw(st.floats(1e-6, 1e3))
        high = low + draw(st.floats(1.0, 1e6))
    step = draw(st.sampled_from([None, (high - low) / 8]))
    return Float(
        name,
        low,
        high,
        scale=scale,
        step=step,
        periodic=step is None and scale is Scale.LINEAR and draw(st.booleans()),
        active_if=active_if,
        default=draw(st.sampled_from([None, low])),
    )


@st.composite
def ints(draw: st.DrawFn, name: str, active_if: Condition | None = None) -> Int:
    low = draw(st.integers(1, 10**6))
    step = draw(st.integers(1, 5))
    high = low + step * draw(st.integers(1, 10**6))
    default = draw(st.sampled_from([None, low]))
    scale = draw(st.sampled_from([Scale.LINEAR, Scale.LOG, Scale.REVERSE_LOG]))
    return Int(name, low, high, scale=scale, step=step, active_if=active_if, default=default)


@st.composite
def parameters(draw: st.DrawFn, name: str, active_if: Condition | None = None) -> Parameter:
    kind = draw(st.sampled_from(["float", "int", "ordinal", "categorical", "bool"]))
    match kind:
        case "float":
            return draw(floats(name, active_if))
        case "int":
            return draw(ints(name, active_if))
        case "ordinal":
            values = draw(st.lists(st.integers(-99, 99), min_size=2, max_size=5, unique=True))
            levels = tuple(float(each) for each in sorted(values))
            default = draw(st.sampled_from([None, *levels]))
            return Ordinal(name, levels, active_if=active_if, default=default)
        case "categorical":
            choices = draw(st.lists(names, min_size=2, max_size=5, unique=True))
            default_choice = draw(st.sampled_from([None, *choices]))
            return Categorical(
                name, tuple(choices), active_if=active_if, default=default_choice
            )
        case _:
            default_flag = draw(st.sampled_from([None, True, False]))
            return Bool(name, active_if=active_if, default=default_flag)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Spaces with every kind of parameter, condition and constraint, now and then."""
    first, second = draw(floats("first")), draw(floats("second"))
    parts: list[Parameter] = [first, second]
    chosen = st.lists(names, max_size=4, unique=True)
    for name in draw(chosen.filter(lambda each: not {"first", "second", "fixed"} & {*each})):
        condition = None
        if draw(st.booleans()):
            condition = draw(conditions_on(draw(st.sampled_from(parts))))
        parts.append(draw(parameters(name, condition)))
    if draw(st.booleans()):
        value = draw(st.booleans() | st.integers(-9, 9) | finite | names)
        parts.append(Fixed("fixed", value))
    constraints: list[Constraint] = []
    if draw(st.booleans()):
        # Satisfied by every point, so that no default violates it.
        constraints.append(Linear({"first": 1.0, "second": -2.0}, upper=first.high + 1e7))
    if draw(st.booleans()):
        above = max(first.high, second.high) + 1.0
        never = Between("first", first.low + (first.high - first.low) / 2, above)
        conditions: tuple[Condition, ...] = (never,)
        if first.default is None or first.default < never.low:
            constraints.append(Exclude(conditions))
    return Space(tuple(parts), tuple(constraints))


mixtures = st.just(
    Space((Float("a", 0.0, 1.0), Float("b", 0.0, 1.0)), (Simplex(("a", "b"), 1.0),))
)


# Problems and specs ------------------------------------------------------------------------


@st.composite
def metrics(draw: st.DrawFn) -> tuple[Metric, ...]:
    """One objective, perhaps constraints, a cost and a tracked metric."""
    noise = st.sampled_from(Noise)
    found = [Metric("objective", goal=draw(st.sampled_from(Goal)), noise=draw(noise))]
    if draw(st.booleans()):
        low = draw(st.floats(-1e6, 1e6))
        bounds = draw(st.sampled_from([(low, None), (None, low), (low, low + 1.0)]))
        kind = MetricKind.CONSTRAINT
        found.append(Metric("bound", kind, lower=bounds[0], upper=bounds[1], noise=draw(noise)))
    if draw(st.booleans()):
        found.append(Metric("cost", MetricKind.COST))
    if draw(st.booleans()):
        found.append(Metric("tracked", MetricKind.TRACKED))
    return tuple(found)


strategies: st.SearchStrategy[StrategySpec] = st.one_of(
    st.builds(AutoSpec, qualities),
    st.just(RandomSpec()),
    st.just(SobolSpec()),
    st.builds(GPSpec, st.none() | st.integers(1, 1000), qualities),
)
lease_policies = st.builds(LeasePolicy, seconds, st.integers(1, 100))


@st.composite
def study_specs(draw: st.DrawFn) -> StudySpec:
    measured = draw(metrics())
    has_cost = any(each.kind is MetricKind.COST for each in measured)
    budget = Budget(
        trials=draw(st.none() | st.integers(1, 10**6)),
        cost=draw(st.none() | st.floats(0.1, 1e6)) if has_cost else None,
    )
    space = draw(spaces() | mixtures)
    problem = Problem(space, measured, budget)
    seed = draw(st.integers(0, 2**64 - 1))
    return StudySpec(problem, draw(strategies), seed, draw(lease_policies))


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
    return Trial(draw(numbers), draw(points), state, provenance, outcome, draw(attempts))


shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
arrays = npst.arrays(np.float64, shapes) | npst.arrays(np.int64, shapes)
states = st.builds(
    StrategyState,
    names,
    st.integers(0, 2**31 - 1),
    st.dictionaries(texts, int64s | finite | texts, max_size=4),
    st.dictionaries(texts, arrays, max_size=3),
)
new_trials = st.builds(NewTrial, numbers, points, provenances)
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
