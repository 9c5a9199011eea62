"""Whole asks on a pretended CUDA device: the same bits, memory that runs out, ``auto``.

The device computes with the CPU's own operations, so any difference is a mistake of the engine.
"""

import functools
import gc
from collections.abc import Callable

import numpy as np
import pytest
import torch

from bbopt import (
    Categorical,
    Equals,
    Float,
    Int,
    Linear,
    Metric,
    MetricKind,
    Noise,
    Optimizer,
    Problem,
    Space,
)
from bbopt.acquisition import moments
from bbopt.numerics import devices
from bbopt.optimizer import Suggested
from bbopt.problem import Goal
from bbopt.replay import replay
from bbopt.space import Scale
from bbopt.specs import AutoSpec, GPSpec, Quality, StrategySpec
from bbopt.strategies import gp_devices, gp_rows, gp_timing
from bbopt.trial import Asked, Event, Infeasible, NewTrial
from tests.unit.devices.pretend import (
    DEVICE,
    READ,
    TO_DEVICE,
    TO_HOST,
    PretendDevice,
    PretendTensor,
)

FAST = GPSpec(n_initial=4, quality=Quality.FAST)
DEFAULT = GPSpec(n_initial=4)
LOSS = Metric("loss", goal=Goal.MINIMIZE)
LOAD = Metric("load", MetricKind.CONSTRAINT, upper=0.8)
BOX = Problem(Space((Float("x", 0.0, 1.0), Float("y", 0.0, 1.0))), (LOSS,))
MIXED = Space(
    (
        Float("angle", 0.0, 360.0, periodic=True),
        Categorical("kind", ("a", "b", "c")),
        Int("depth", 1, 6),
        Float("rate", 1e-3, 1.0, scale=Scale.LOG, active_if=Equals("kind", ("b",))),
    )
)
FLAT = Space((Categorical("a", ("p", "q", "r")), Int("n", 1, 5), Categorical("b", ("s", "t"))))
MIXTURE = Space(
    (Float("x", 0.0, 1.0), Float("y", 0.0, 1.0)), (Linear({"x": 1, "y": 1}, upper=1.0),)
)


def result_of(study: Optimizer, number: int) -> dict[str, float | tuple[float, float]]:
    """Return what a trial measures: a bowl, and for a constraint a plane."""
    x = study._context.codec.encode(study.trials[number].parameters)
    loss = float(((x - 0.3) ** 2).sum() + 0.1 * np.sin(9.0 * x).sum())
    values: dict[str, float | tuple[float, float]] = {"loss": loss}
    for metric in study.problem.metrics:
        if metric.noise is Noise.LEARNED and number % 2:
            values["loss"] = (loss, 0.05)
        if metric.name == "load":
            values["load"] = float(x.sum())
    return values


def recorded(
    problem: Problem, spec: StrategySpec, n: int = 8, *, crash_every: int = 0
) -> list[Event | None]:
    """Return the log of a study on the CPU."""
    study = Optimizer(problem, spec, seed=5)
    for _ in range(n):
        (trial,) = study.ask()
        is_crash = crash_every and trial.number % crash_every == 0
        outcome = Infeasible("diverged") if is_crash else result_of(study, trial.number)
        study.tell(trial, outcome)
    return list(study.log.events())


def folded(
    problem: Problem, spec: StrategySpec, events: list[Event | None], device: str = "cpu"
) -> Optimizer:
    study = Optimizer(problem, spec, seed=5, device=device)
    study.fold(events)
    return study


def points(suggested: Suggested) -> list[object]:
    return [(dict(s.parameters), s.provenance) for s in suggested.suggestions]


def commit(study: Optimizer, suggested: Suggested) -> None:
    first = len(study.trials) + 1
    new = (
        NewTrial(number, s.parameters, s.provenance)
        for number, s in enumerate(suggested.suggestions, first)
    )
    study.fold([Asked(tuple(new), suggested.state)])


@pytest.fixture(autouse=True)
def a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "n_cuda_devices", lambda: 1)


@pytest.fixture
def only_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU do what the device does, and not the same by numpy."""
    monkeypatch.setattr(moments, "read_on_host", lambda *_: None)


@pytest.fixture
def a_log() -> list[Event | None]:
    return recorded(BOX, FAST)


# ---------------------------------------------------------------------- the same bits

STUDIES: dict[str, Callable[[], tuple[Problem, StrategySpec, int, int]]] = {
    # Problem, settings, points of an ask, every which trial crashes.
    "default model": lambda: (BOX, DEFAULT, 1, 0),
    "auto": lambda: (BOX, AutoSpec(quality=Quality.FAST), 1, 0),
    "mixed columns": lambda: (Problem(MIXED, (LOSS,)), FAST, 2, 0),
    "only levels": lambda: (Problem(FLAT, (LOSS,)), FAST, 2, 0),
    "inside a polytope": lambda: (Problem(MIXTURE, (LOSS,)), FAST, 1, 0),
    "constraint and crashes": lambda: (Problem(BOX.space, (LOSS, LOAD)), FAST, 2, 3),
    "nothing feasible": lambda: (
        Problem(BOX.space, (LOSS, Metric("load", MetricKind.CONSTRAINT, upper=-1.0))),
        FAST,
        2,
        0,
    ),
    "noise": lambda: (
        Problem(BOX.space, (Metric("loss", goal=Goal.MINIMIZE, noise=Noise.LEARNED),)),
        FAST,
        2,
        0,
    ),
}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.usefixtures("only_tensors")
def test_a_device_suggests_and_predicts_what_the_cpu_does(name: str) -> None:
    problem, spec, n, crash_every = STUDIES[name]()
    events = recorded(problem, spec, crash_every=crash_every)
    expected = folded(problem, spec, events)
    answer = expected.suggest(n)
    with PretendDevice() as mode:
        study = folded(problem, spec, events, "cuda:0")
        found = study.suggest(n)
        assert mode.n_operations > 100
        assert not mode.narrow
        commit(study, found)
        predicted = study.predict([s.parameters for s in found.suggestions])
        recommended = study.recommendation()
    assert points(found) == points(answer)
    assert found.state.scalars["device"] == "cuda:0"
    commit(expected, answer)
    assert predicted == expected.predict([s.parameters for s in answer.suggestions])
    assert recommended == expected.recommendation()


@pytest.mark.usefixtures("only_tensors")
def test_a_large_study_is_the_same_too(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"MAX_EXACT": 12, "N_NEAR": 8, "N_ANYWHERE": 4, "RENEW_EVERY": 4, "MAX_JOINED": 4}
    for name, limit in limits.items():
        monkeypatch.setattr(gp_rows, name, limit)
    events = recorded(BOX, FAST, 18)
    expected = folded(BOX, FAST, events).suggest(2)
    with PretendDevice() as mode:
        found = folded(BOX, FAST, events, "cuda:0").suggest(2)
    assert mode.n_operations > 100
    assert points(found) == points(expected)


def test_an_evaluation_goes_to_the_device_and_back_once(a_log: list[Event | None]) -> None:
    """Crossings are counted beside the operations between them, of which a step has dozens."""
    with PretendDevice() as mode:
        folded(BOX, FAST, a_log, "cuda:0").suggest(1)
    assert mode.count(TO_DEVICE, TO_HOST, READ) < mode.n_operations / 15


# ---------------------------------------------------------------------- out of memory


class Full:
    """Raises as a full device does, at one operation and from then on."""

    def __init__(self, at: int) -> None:
        self.at, self.n = at, 0

    def __call__(self, _: str) -> None:
        self.n += 1
        if self.n >= self.at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_an_ask_that_finds_the_device_full_is_computed_on_the_cpu(
    a_log: list[Event | None], share: float
) -> None:
    expected = folded(BOX, FAST, a_log).suggest(2)
    with PretendDevice() as mode:
        folded(BOX, FAST, a_log, "cuda:0").suggest(2)
    with PretendDevice(Full(int(share * mode.n_operations))):
        study = folded(BOX, FAST, a_log, "cuda:0")
        found = study.suggest(2)
    assert [s.parameters for s in found.suggestions] == [
        s.parameters for s in expected.suggestions
    ]
    for suggestion in found.suggestions:
        assert suggestion.provenance.degraded_from == "gp"
        assert suggestion.provenance.reason == "out of memory on cuda:0: computed on the CPU"
    scalars = dict(found.state.scalars)
    n_asked = scalars["n_asked"]
    assert isinstance(n_asked, int)
    assert scalars.pop("device_spared_until") == n_asked + gp_devices.N_SPARED
    assert scalars == dict(expected.state.scalars)


def test_a_device_that_was_full_is_left_alone_for_a_while_and_then_tried_again(
    a_log: list[Event | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gp_devices, "N_SPARED", 2)
    study = folded(BOX, FAST, a_log, "cuda:0")
    used = []
    with PretendDevice(Full(1)):
        commit(study, study.suggest(1))
    for _ in range(3):
        with PretendDevice() as mode:
            found = study.suggest(1)
        used.append(mode.n_operations > 0)
        assert not found.suggestions[0].provenance.degraded_from
        commit(study, found)
    assert used == [False, False, True]


def test_a_study_rebuilt_after_its_device_was_full_leaves_it_alone_too(
    a_log: list[Event | None],
) -> None:
    study = folded(BOX, FAST, a_log, "cuda:0")
    with PretendDevice(Full(1)):
        commit(study, study.suggest(1))
    with PretendDevice() as mode:
        again = folded(BOX, FAST, list(study.log.events()), "cuda:0").suggest(1)
    assert mode.n_operations == 0
    assert points(again) == points(study.suggest(1))


def test_predictions_that_find_the_device_full_come_from_the_cpu(
    a_log: list[Event | None],
) -> None:
    expected = folded(BOX, FAST, a_log)
    commit(expected, expected.suggest(1))
    with PretendDevice():
        study = folded(BOX, FAST, a_log, "cuda:0")
        commit(study, study.suggest(1))
    point = {"x": 0.4, "y": 0.4}
    with PretendDevice(Full(3)):
        assert study.predict([point]) == expected.predict([point])
    with PretendDevice(Full(3)):
        assert study.recommendation() == expected.recommendation()


def test_another_error_of_the_device_is_not_hidden(a_log: list[Event | None]) -> None:
    def broken(_: str) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with PretendDevice(broken), pytest.raises(RuntimeError, match="illegal memory"):
        folded(BOX, FAST, a_log, "cuda:0").suggest(1)


# ---------------------------------------------------------------------- auto


def is_on_the_device(a_log: list[Event | None], time_left_s: float | None = None) -> bool:
    with PretendDevice() as mode:
        found = folded(BOX, FAST, a_log, "auto").suggest(1, time_left_s=time_left_s)
    assert (mode.n_operations > 0) == ("device" in found.state.scalars)
    return bool(mode.n_operations)


def test_auto_measures_once_per_size_and_process(
    a_log: list[Event | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def measured(_: torch.device, n: int, d: int) -> bool:
        sizes.append((n, d))
        return True

    monkeypatch.setattr(gp_timing, "measure", measured)
    monkeypatch.setattr(gp_timing, "_measured", functools.cache(lambda _: {}))
    assert not is_on_the_device(a_log)
    assert not sizes
    monkeypatch.setattr(gp_devices, "MEASURED_FROM", 8)
    assert not is_on_the_device(a_log, time_left_s=5.0)
    assert not sizes
    for _ in range(2):
        assert is_on_the_device(a_log)
    assert is_on_the_device(a_log, time_left_s=5.0)
    assert sizes == [(32, 2)]


def test_auto_without_a_card_is_the_cpu_and_asks_no_driver(
    a_log: list[Event | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> int:
        raise AssertionError("the driver was asked")

    monkeypatch.setattr(gp_devices, "MEASURED_FROM", 0)
    monkeypatch.setattr(devices, "n_cuda_devices", lambda: 0)
    study = folded(BOX, FAST, a_log, "auto")
    for name in ("is_available", "device_count", "current_device", "init"):
        monkeypatch.setattr(torch.cuda, name, asked)
    expected = folded(BOX, FAST, a_log).suggest(2)
    found = study.suggest(2)
    assert points(found) == points(expected)
    assert found.state.equals(expected.state)


def test_every_part_of_an_ask_can_be_timed_on_a_device() -> None:
    with PretendDevice() as mode:
        timing = gp_timing.time_parts(DEVICE, 10, 2)
    assert mode.n_operations > 100
    assert min(timing.fit_s, timing.screen_s, timing.climb_s) > 0.0


@pytest.mark.parametrize(
    ("times_faster", "expected"), [(1.0, False), (1.2, False), (2.0, True)]
)
def test_a_device_must_be_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, times_faster: float, expected: bool
) -> None:
    def timed(device: torch.device, n: int, d: int) -> gp_timing.Timing:
        factor = 1.0 if device.type == "cpu" else 1.0 / times_faster
        return gp_timing.Timing(1e-3 * n * factor, 1e-3 * d * factor, 1e-3 * factor)

    monkeypatch.setattr(gp_timing, "time_parts", timed)
    assert gp_timing.measure(DEVICE, 500, 4) is expected


def test_a_device_that_cannot_be_timed_is_not_used() -> None:
    with PretendDevice(Full(1)):
        assert gp_timing.measure(DEVICE, 10, 2) is False


def test_a_log_is_replayed_where_each_ask_was_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The device changes in the middle of the study, and the replay is told no device."""
    monkeypatch.setattr(gp_devices, "MEASURED_FROM", 6)
    monkeypatch.setattr(gp_devices, "is_faster", lambda *_, **__: True)
    study = Optimizer(BOX, FAST, seed=5, device="auto")
    with PretendDevice():
        for _ in range(8):
            (trial,) = study.ask()
            study.tell(trial, result_of(study, trial.number))
    events = study.log.events()
    asked = [e.state for e in events if isinstance(e, Asked)]
    on = [str(state.scalars.get("device", "cpu")) for state in asked if state is not None]
    assert on == ["cpu"] * 6 + ["cuda:0"] * 2
    with PretendDevice() as mode:
        assert replay(BOX, FAST, 5, list(events)) == []
    assert mode.n_operations > 100


# ---------------------------------------------------------------------- memory


def n_held() -> int:
    return sum(type(each) is PretendTensor for each in gc.get_objects())


def test_an_evicted_study_leaves_nothing_on_the_device(a_log: list[Event | None]) -> None:
    """At once, not when the collector of cycles comes by."""
    with PretendDevice():  # What torch imports at first use keeps our frames for ever.
        folded(BOX, FAST, a_log, "cuda:0").suggest(1)
    gc.collect()
    gc.disable()
    try:
        before = n_held()
        with PretendDevice():
            study = folded(BOX, FAST, a_log, "cuda:0")
            study.suggest(2)
        assert n_held() > before
        del study
        assert n_held() == before
    finally:
        gc.enable()
