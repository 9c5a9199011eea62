"""The engine on a real CUDA device beside the CPU; skipped where there is none.

That tensors do not mix, and that the same operations are done, is tested everywhere on a
pretended device (``tests/unit/devices``); here it is the device's arithmetic and memory.
"""

import gc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bbopt import Float, Metric, Optimizer, Problem, Space
from bbopt.acquisition import IntegratedLogExpectedImprovement, LogExpectedImprovement
from bbopt.gp import GPModel, MapObjective
from bbopt.numerics import resolve_device, stream
from bbopt.problem import Goal
from bbopt.replay import replay
from bbopt.space import Codec
from bbopt.specs import GPSpec
from bbopt.strategies import gp_devices
from bbopt.strategies.gp_timing import time_parts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

Array = NDArray[np.float64]
D = 6
PROBLEM = Problem(
    Space(tuple(Float(f"x{i}", 0.0, 1.0) for i in range(D))), (Metric("y", goal=Goal.MAXIMIZE),)
)
COLUMNS = Codec(PROBLEM.space).columns
CPU = torch.device("cpu")


@pytest.fixture
def card() -> torch.device:
    return resolve_device("cuda")


def value_of(X: Array) -> Array:
    y: Array = np.sin(5.0 * X).sum(axis=-1) - ((X - 0.3) ** 2).sum(axis=-1)
    return y


def data(n: int) -> tuple[Array, Array]:
    X = stream(n, "on a card").random((n, D))
    return X, value_of(X)


def model_on(device: torch.device, n: int) -> GPModel:
    """Return the default model at the prior's mode, the last rows appended one by one."""
    X, y = data(n)
    model = GPModel(COLUMNS, device=device)
    model.observe(X[: n - 3], y[: n - 3])
    model.observe(X[n - 3 :], y[n - 3 :])
    return model


def objective_of(model: GPModel) -> MapObjective:
    return MapObjective(
        torch.from_numpy(model.X).to(model.device),
        model.posterior.y,
        kernels=model.settings.kernels,
        priors=model.priors,
        group=model.feature_map.group,
    )


def study(device: str, n: int) -> Optimizer:
    """Return a study with ``n`` results of points that a person chose."""
    optimizer = Optimizer(PROBLEM, GPSpec(), seed=2, device=device)
    for x in data(n)[0]:
        trial = optimizer.enqueue({f"x{i}": float(v) for i, v in enumerate(x)})
        optimizer.ask()
        optimizer.tell(trial, float(value_of(x)))
    return optimizer


def points_of(optimizer: Optimizer, n: int) -> Array:
    suggested = optimizer.suggest(n).suggestions
    assert [s.provenance.degraded_from for s in suggested] == [""] * n
    assert [s.provenance.generator for s in suggested] == ["gp"] * n
    return np.array([[float(v) for v in s.parameters.values()] for s in suggested])


# ---------------------------------------------------------------------- parity


@pytest.mark.parametrize("n", [20, 200, 1000])
def test_the_log_posterior_and_its_gradient_are_the_cpu_s(card: torch.device, n: int) -> None:
    ours, theirs = (objective_of(model_on(device, n)) for device in (card, CPU))
    thetas = np.array([[-0.7] * D + [-9.0, 0.3], [0.4] * D + [-4.0, -0.2]])
    members = np.array([0, 1])
    for found, expected in zip(
        ours.evaluate(thetas, members), theirs.evaluate(thetas, members), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("n", [20, 200, 1000])
def test_the_posterior_is_the_cpu_s_in_float64(card: torch.device, n: int) -> None:
    ours, theirs = (model_on(device, n) for device in (card, CPU))
    assert ours.posterior.inverse_factor.dtype is torch.float64
    assert ours.posterior.inverse_factor.device.type == "cuda"
    rows = stream(0, "queries").random((100, D))
    found, expected = ours.predict(rows), theirs.predict(rows)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.sd, expected.sd, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("n_pending", [0, 3])
def test_expected_improvement_and_its_gradient_are_the_cpu_s(
    card: torch.device, n_pending: int
) -> None:
    rows = stream(1, "queries").random((50, D))
    answers = []
    for device in (card, CPU):
        model = model_on(device, 100)
        best = model.posterior.y.max()
        acquisition: LogExpectedImprovement | IntegratedLogExpectedImprovement
        acquisition = LogExpectedImprovement(model, best)
        if n_pending:
            pending, rng = rows[:n_pending], np.random.default_rng(7)
            acquisition = IntegratedLogExpectedImprovement(model, best, pending, rng=rng)
        with torch.inference_mode():
            X = torch.from_numpy(rows).to(device)
            value, gradient = acquisition.value_and_gradient(X)
            again = acquisition.value(X)
        answers.append([t.cpu().numpy() for t in (value, again, gradient)])
    for found, expected in zip(*answers, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_whole_ask_finds_what_the_cpu_finds(card: torch.device) -> None:
    """Judged by one model: searches that differ in the last bits may climb another hill."""
    del card
    ours, theirs = study("cuda", 60), study("cpu", 60)
    found, expected = points_of(ours, 1), points_of(theirs, 1)
    judge = model_on(CPU, 60)
    judge.refit()
    acquisition = LogExpectedImprovement(judge, judge.posterior.y.max())
    with torch.inference_mode():
        value, wanted = acquisition.value(torch.from_numpy(np.concatenate([found, expected])))
    assert float(value) > float(wanted) - 0.1


def test_the_same_log_gives_the_same_bits_on_the_same_card(card: torch.device) -> None:
    del card
    optimizer = study("cuda", 40)
    trials = optimizer.ask(2)
    for trial in trials:
        optimizer.tell(trial, 0.5)
    optimizer.ask()
    assert replay(PROBLEM, GPSpec(), 2, list(optimizer.log.events())) == []


# ---------------------------------------------------------------------- memory


@pytest.fixture
def little_memory(card: torch.device) -> Iterator[None]:
    """Let this process have what it holds now and next to nothing more."""
    torch.linalg.cholesky_ex(torch.eye(4, dtype=torch.float64, device=card))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(card).total_memory
    allowed = torch.cuda.memory_reserved(card) + 2**21
    torch.cuda.set_per_process_memory_fraction(allowed / total, card)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0, card)


@pytest.mark.usefixtures("little_memory")
def test_a_card_without_memory_gives_way_to_the_cpu() -> None:
    expected = points_of(study("cpu", 300), 1)
    optimizer = study("cuda", 300)
    suggested = optimizer.suggest(1)
    (suggestion,) = suggested.suggestions
    assert suggestion.provenance.reason == "out of memory on cuda:0: computed on the CPU"
    assert list(suggestion.parameters.values()) == list(expected[0])
    assert "device" not in suggested.state.scalars
    assert "device_spared_until" in suggested.state.scalars


def test_an_evicted_study_gives_its_memory_back(card: torch.device) -> None:
    points_of(study("cuda", 20), 1)  # What the libraries keep for themselves.
    gc.collect()
    before = torch.cuda.memory_allocated(card)
    optimizer = study("cuda", 300)
    points_of(optimizer, 2)
    assert torch.cuda.memory_allocated(card) > before
    del optimizer
    gc.collect()
    assert torch.cuda.memory_allocated(card) == before


# ---------------------------------------------------------------------- auto


def test_auto_decides_by_a_measurement(
    card: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing = time_parts(card, 64, D)
    assert timing.ask_s > 0.0
    monkeypatch.setattr(gp_devices, "MEASURED_FROM", 32)
    for answer, expected in ((True, "cuda:0"), (False, None)):
        monkeypatch.setattr(gp_devices, "is_faster", lambda *_, answer=answer, **__: answer)
        assert study("auto", 40).suggest(1).state.scalars.get("device") == expected
