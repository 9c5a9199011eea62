"""Hypothesis strategies for the light domain: any valid space, any feasible point of it.

``spaces()`` draws parameters of every kind, conditions on earlier parameters and constraints;
``points(space)`` draws points of it in user units, ends of ranges included.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from bbopt.errors import EmptyFeasibleSetError, SpecError
from bbopt.problem import Budget, Fidelity, Goal, Metric, MetricKind, Noise, Problem
from bbopt.space import (
    AllOf,
    Between,
    Bool,
    Categorical,
    Codec,
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
from bbopt.space.feasibility import numeric_range

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,12}", fullmatch=True)
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12
)
reals = st.floats(-1e12, 1e12, allow_subnormal=False)


@st.composite
def floats(draw: st.DrawFn, name: str = "x", active_if: Condition | None = None) -> Float:
    """A real parameter of any scale, possibly stepped or periodic."""
    scale = draw(st.sampled_from(Scale))
    if scale is Scale.LOGIT:
        ends = st.floats(1e-12, 1.0 - 1e-8)
    elif scale is Scale.LINEAR:
        ends = reals
    elif scale is Scale.REVERSE_LOG:
        unit = draw(st.sampled_from((1e-100, 1.0, 1e100)))
        ends = st.floats(1e-4, 1e4).map(lambda end: end * unit)
    else:
        ends = st.floats(1e-200, 1e200)
    low, high = sorted(draw(st.tuples(ends, ends)))
    assume(high - low > 1e-9 * max(abs(low), abs(high)))
    step = None
    if draw(st.integers(0, 3)) == 0:
        step = (high - low) / draw(st.integers(1, 3000)) * draw(st.sampled_from((1.0, 0.97)))
        assume(step > 1e-9 * max(abs(low), abs(high)))
    is_periodic = scale is Scale.LINEAR and step is None and draw(st.booleans())
    return Float(
        name, low, high, scale=scale, step=step, periodic=is_periodic, active_if=active_if
    )


@st.composite
def ints(draw: st.DrawFn, name: str = "x", active_if: Condition | None = None) -> Int:
    """An integer parameter with a linear or logarithmic scale."""
    scale = draw(st.sampled_from((Scale.LINEAR, Scale.LOG, Scale.REVERSE_LOG)))
    lowest = -(2**40) if scale is Scale.LINEAR else 1
    low = draw(st.one_of(st.integers(max(lowest, -9), 9), st.integers(lowest, 2**40)))
    most = 2**38 if scale is not Scale.REVERSE_LOG else min(2**38, 10**8 * low)
    size = draw(st.one_of(st.integers(1, 20), st.integers(1, most)))
    step = draw(st.integers(1, size)) if draw(st.booleans()) else 1
    return Int(name, low, low + size, scale=scale, step=step, active_if=active_if)


@st.composite
def ordinals(draw: st.DrawFn, name: str = "x", active_if: Condition | None = None) -> Ordinal:
    """A list of numbers."""
    values = draw(st.lists(reals, min_size=2, max_size=8, unique=True))
    return Ordinal(name, tuple(sorted(values)), active_if=active_if)


@st.composite
def categoricals(
    draw: st.DrawFn, name: str = "x", active_if: Condition | None = None
) -> Categorical:
    """A set of names."""
    choices = draw(st.lists(texts, min_size=2, max_size=6, unique=True))
    try:
        Space((Categorical(name, tuple(choices)),))
    except SpecError:  # Two spellings of one accented letter.
        assume(False)
    return Categorical(name, tuple(choices), active_if=active_if)


@st.composite
def parameters(
    draw: st.DrawFn, name: str = "x", active_if: Condition | None = None
) -> Parameter:
    """A parameter of any kind that varies."""
    kinds: tuple[st.SearchStrategy[Parameter], ...] = (
        floats(name, active_if),
        ints(name, active_if),
        ordinals(name, active_if),
        categoricals(name, active_if),
        st.just(Bool(name, active_if=active_if)),
    )
    return draw(st.one_of(kinds))


@st.composite
def limits(draw: st.DrawFn, low: float, high: float) -> float:
    """A number in a range; two of them are equal or well apart, and so are one and an end."""
    number = draw(st.integers(0, 2**16))
    # Rounding may carry the sum next to the end, and past it.
    return high if number == 2**16 else min(high, low + number / 2**16 * (high - low))


@st.composite
def conditions(
    draw: st.DrawFn, above: Sequence[Parameter], *, is_nested: bool = False
) -> Condition:
    """A condition on earlier parameters."""
    if not is_nested and draw(st.integers(0, 3)) == 0:
        return AllOf(
            tuple(
                draw(conditions(above, is_nested=True)) for _ in range(draw(st.integers(1, 2)))
            )
        )
    parent = draw(st.sampled_from([p for p in above if not isinstance(p, Fixed)]))
    match parent:
        case Float() | Ordinal() | Int():
            low, high = numeric_range(parent)
            lower, upper = sorted((draw(limits(low, high)), draw(limits(low, high))))
            return Between(parent.name, lower, upper)
        case Categorical(choices=choices):
            return Equals(
                parent.name, tuple(draw(st.sets(st.sampled_from(choices), min_size=1)))
            )
        case _:
            return Equals(parent.name, (draw(st.booleans()),))


@st.composite
def constraints(draw: st.DrawFn, parameters: Sequence[Parameter]) -> list[Constraint]:
    """Constraints that at least the point drawn here satisfies."""
    free = [p for p in parameters if isinstance(p, Float | Int) and p.active_if is None]
    found: list[Constraint] = []
    for _ in range(draw(st.integers(0, 2)) if free else 0):
        chosen = draw(st.lists(st.sampled_from(free), min_size=1, max_size=3, unique=True))
        coefficients, centre = {}, 0.0
        for parameter in chosen:
            low, high = numeric_range(parameter)
            coefficients[parameter.name] = draw(st.floats(0.5, 2.0)) / (high - low)
            centre += coefficients[parameter.name] * (low + high) / 2
        slack = draw(st.floats(0.1, 1.0))
        bounds = draw(
            st.sampled_from(
                (
                    (-float("inf"), centre + slack),
                    (centre - slack, float("inf")),
                    (centre - slack, centre + slack),
                )
            )
        )
        found.append(Linear(coefficients, *bounds))
    if draw(st.integers(0, 3)) == 0 and any(not isinstance(p, Fixed) for p in parameters):
        tests = tuple(draw(conditions(parameters)) for _ in range(2))
        found.append(Exclude(tests))
    return found


@st.composite
def spaces(draw: st.DrawFn, *, max_parameters: int = 6, with_constraints: bool = True) -> Space:
    """Any valid space; one that constraints leave (almost) nothing of is not drawn."""
    n_free = draw(st.integers(1, max_parameters))
    found: list[Parameter] = []
    for index, name in enumerate(
        draw(st.lists(names, min_size=n_free, max_size=n_free, unique=True))
    ):
        condition = draw(conditions(found)) if index and draw(st.integers(0, 2)) == 0 else None
        found.append(draw(parameters(name, condition)))
    if draw(st.integers(0, 3)) == 0:
        value: ParamValue = draw(st.one_of(reals, st.integers(-99, 99), texts, st.booleans()))
        found.append(Fixed("a constant", value))
        assume("a constant" not in {p.name for p in found[:-1]})
    if with_constraints and draw(st.booleans()):
        space = Space(tuple(found), tuple(draw(constraints(found))))
        try:
            Codec(space).sample(np.random.default_rng(0), 1)
        except EmptyFeasibleSetError:
            assume(False)
        return space
    if with_constraints and draw(st.integers(0, 5)) == 0:
        mixture = [Float(f"part {k}", 0.0, 1.0) for k in range(draw(st.integers(2, 4)))]
        assume(not {p.name for p in found} & {p.name for p in mixture})
        simplex = Simplex(tuple(p.name for p in mixture), draw(st.floats(0.1, 1.5)))
        return Space((*found, *mixture), (simplex,))
    return Space(tuple(found))


@st.composite
def points(draw: st.DrawFn, space: Space) -> Mapping[str, ParamValue]:
    """A feasible point in user units: canonical values, ends of ranges included."""
    codec = Codec(space)
    if space.constraints:
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        return codec.decode(codec.sample(rng, 1)[0])
    coordinates = st.one_of(st.sampled_from((0.0, 1.0)), st.floats(0.0, 1.0))
    x = draw(st.lists(coordinates, min_size=codec.dim, max_size=codec.dim))
    return codec.decode(np.asarray(x))


@st.composite
def metrics(draw: st.DrawFn, name: str, kind: MetricKind) -> Metric:
    """A metric of one kind."""
    noise = draw(st.sampled_from(Noise))
    if kind is MetricKind.OBJECTIVE:
        return Metric(name, kind, draw(st.sampled_from(Goal)), noise=noise)
    if kind is not MetricKind.CONSTRAINT:
        return Metric(name, kind, noise=noise)
    lower, upper = sorted(draw(st.lists(reals, min_size=2, max_size=2, unique=True)))
    sides = draw(st.sampled_from(((lower, None), (None, upper), (lower, upper))))
    return Metric(name, kind, None, sides[0], sides[1], noise)


@st.composite
def fidelities(draw: st.DrawFn) -> Fidelity:
    """Any valid fidelity."""
    low, eta = draw(st.integers(1, 1000)), draw(st.integers(2, 10))
    return Fidelity(draw(names), low, draw(st.integers(low * eta, 10**6)), eta)


@st.composite
def problems(draw: st.DrawFn, *, max_parameters: int = 6) -> Problem:
    """Any valid problem."""
    space = draw(spaces(max_parameters=max_parameters))
    kinds = [MetricKind.OBJECTIVE]
    kinds += [MetricKind.CONSTRAINT] * draw(st.integers(0, 3))
    kinds += [MetricKind.COST] * draw(st.integers(0, 1))
    kinds += [MetricKind.TRACKED] * draw(st.integers(0, 2))
    found = draw(st.lists(names, min_size=len(kinds), max_size=len(kinds), unique=True))
    assume(not set(found) & set(space.names))
    has_cost = MetricKind.COST in kinds
    budget = Budget(
        draw(st.one_of(st.none(), st.integers(1, 10**6))),
        draw(st.one_of(st.none(), st.floats(1e-3, 1e9))) if has_cost else None,
    )
    measured = [draw(metrics(name, kind)) for name, kind in zip(found, kinds, strict=True)]
    return Problem(space, tuple(measured), budget, draw(st.none() | fidelities()))
