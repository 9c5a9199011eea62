"""CPU time of one ask, on one thread, beside BoTorch and Optuna's GPSampler in the same run.

Run ``python -m benchmarks.latency``; ``--records`` keeps a line a tool. Optuna comes with
``benchmarks/peers/install optuna`` and runs in an interpreter of its own; what is not installed
is left out. All numbers are CPU milliseconds (``time.process_time``), because wall time on a
shared machine measures the neighbours.

The data: 70 % uniform points and 30 % around the best of them, as in the middle of a run. Each
tool then goes through ask-tell rounds of its own, all tools taking turns; the first round,
which starts cold, is reported as such and left out of the means. Ours refits by its own
schedule: after every tell up to 200 results, then after 2 % growth, so that most asks at 500
hold no refit; those that do are in the column "ask with refit". Every doubling of the data
brings a fit that starts cold as well.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from bbopt import Optimizer
from bbopt.numerics import stream
from bbopt.problems import KnownProblem, hartmann6, levy
from bbopt.space import Codec
from bbopt.strategies import gp_search
from bbopt.strategies.gp_surrogates import Surrogates
from bbopt.trial import Asked
from benchmarks.peers.environments import environment_of
from benchmarks.peers.process import PeerProcess, running
from benchmarks.recording import (
    Line,
    Recorded,
    about_run,
    add_argument,
    fenced,
    open_records,
    show,
    table,
    verdict,
    versions_line,
)

Array = NDArray[np.float64]
NEEDED_SPEED_UP = 3.0
CHECKED = (100, 500)
N_ROUNDS = 13
N_BOTORCH = 3
OURS, BOTORCH, OPTUNA = "bbopt", "BoTorch", "Optuna GPSampler"


@dataclass(frozen=True, slots=True)
class Round:
    """CPU milliseconds of one ask; ``None`` where a tool does not tell its parts apart."""

    ask: float
    fit: float | None = None
    search: float | None = None
    has_refit: bool = True


@dataclass(frozen=True, slots=True)
class Timing:
    """The rounds of one tool, the first of which started cold."""

    tool: str
    n: int
    d: int
    rounds: Sequence[Round]
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of a peer, which has an environment of its own."""

    @classmethod
    def from_row(cls, row: Line) -> "Timing":
        """Read a line of the records."""
        return cls(**{**row, "rounds": [Round(**each) for each in row["rounds"]]})

    @property
    def ask(self) -> float:
        """Mean over all but the first."""
        return statistics.fmean(each.ask for each in self.rounds[1:])

    @property
    def with_refit(self) -> float:
        """Mean over those that refit."""
        return statistics.fmean(each.ask for each in self._refits)

    @property
    def _refits(self) -> list[Round]:
        return [each for each in self.rounds[1:] if each.has_refit]

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        fit = _mean(each.fit for each in self._refits)
        search = _mean(each.search for each in self.rounds[1:])
        numbers = (fit, search, self.with_refit, self.ask, self.rounds[0].ask)
        shown = ("" if each is None else f"{each:.1f}" for each in numbers)
        return [str(self.d), str(self.n), self.tool, *shown]


def _mean(times: Iterable[float | None]) -> float | None:
    known = [each for each in times if each is not None]
    return statistics.fmean(known) if known else None


@dataclass(frozen=True, slots=True)
class Data:
    """Points in the unit cube with their values, higher is better."""

    known: KnownProblem
    codec: Codec
    X: Array
    y: Array

    def value(self, x: Array) -> float:
        """Measure one row."""
        return -self.known.evaluate(self.codec.decode(x))["value"]

    def hand_over(self, peer: PeerProcess) -> None:
        """Begin a peer's study with these observations."""
        peer.create(self.known.problem, seed=0)
        peer.attach([self.codec.decode(x) for x in self.X], [-float(y) for y in self.y])


def make_data(known: KnownProblem, n: int, *, seed: int = 0) -> Data:
    """Sample ``n`` points of a minimised problem, a third of them near the best others."""
    codec = Codec(known.problem.space)
    rng = stream(seed, "latency", known.name, n)
    n_uniform = round(0.7 * n)
    uniform = codec.sample(rng, n_uniform)
    values = [-known.evaluate(codec.decode(x))["value"] for x in uniform]
    best = uniform[int(np.argmax(values))]
    near = codec.snap(
        np.clip(best + 0.1 * rng.standard_normal((n - n_uniform, codec.dim)), 0, 1)
    )
    values += [-known.evaluate(codec.decode(x))["value"] for x in near]
    order = rng.permutation(n)
    return Data(known, codec, np.concatenate([uniform, near])[order], np.array(values)[order])


def cpu_ms(call: Callable[[], object]) -> float:
    """Return how much CPU time a call takes, in milliseconds."""
    start = time.process_time()
    call()
    return (time.process_time() - start) * 1e3


def rounds_of_bbopt(data: Data) -> Generator[Round, None, None]:
    """Go on with ``Optimizer.ask``; fit and search are timed inside it."""
    optimizer = Optimizer(data.known.problem, "gp", seed=1)
    for x, y in zip(data.X, data.y, strict=True):
        trial = optimizer.enqueue(data.codec.decode(x))
        optimizer.ask()
        optimizer.tell(trial, -y)
    fitted: object = None
    while True:
        with (
            recorded(Surrogates, "refit") as fits,
            recorded(gp_search, "maximise_batch") as searches,
        ):
            ask = cpu_ms(optimizer.ask)
        before, fitted = fitted, _n_fitted(optimizer)
        yield Round(ask, sum(fits), sum(searches), has_refit=before != fitted)
        trial = optimizer.trials[len(optimizer.trials)]
        optimizer.tell(trial, data.known.evaluate(trial.parameters))


def _n_fitted(optimizer: Optimizer) -> object:
    """Return on how many results the model of the last ask was fitted."""
    last = next(e for e in reversed(optimizer.log.events()) if isinstance(e, Asked))
    return None if last.state is None else last.state.scalars["n_fitted/objective"]


@contextmanager
def recorded(owner: object, name: str) -> Iterator[list[float]]:
    """Record how long each call of a function takes, in CPU milliseconds."""
    function = getattr(owner, name)
    times: list[float] = []

    def timed(*arguments: object, **options: object) -> object:
        start = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            times.append((time.process_time() - start) * 1e3)

    setattr(owner, name, timed)
    try:
        yield times
    finally:
        setattr(owner, name, function)


def rounds_of_botorch(data: Data) -> Generator[Round, None, None]:
    """Go on with the textbook loop: new ``SingleTaskGP``, fit, LogEI, ``optimize_acqf``."""
    from botorch.acquisition.analytic import LogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.optim.optimize import optimize_acqf
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.manual_seed(0)
    x, y = torch.from_numpy(data.X), torch.from_numpy(data.y)[:, None]
    bounds = torch.stack([torch.zeros(x.shape[1]), torch.ones(x.shape[1])]).to(x)
    while True:
        model = SingleTaskGP(x, y)
        likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
        fit = cpu_ms(partial(fit_gpytorch_mll, likelihood))
        acquisition = LogExpectedImprovement(model, best_f=y.max())
        search = partial(
            optimize_acqf, acquisition, bounds=bounds, q=1, num_restarts=10, raw_samples=512
        )
        start = time.process_time()
        found, _ = search()
        search_ms = (time.process_time() - start) * 1e3
        yield Round(fit + search_ms, fit, search_ms)
        value = data.value(found[0].numpy())
        x, y = torch.cat([x, found]), torch.cat([y, y.new_tensor([[value]])])


def rounds_of_optuna(data: Data, versions: dict[str, str]) -> Generator[Round, None, None]:
    """Go on with ``Study.ask`` and ``GPSampler``, in its own interpreter; note its versions."""
    with running("optuna") as peer:
        data.hand_over(peer)
        versions.update(peer.versions)
        while True:
            answer = peer.ask()
            yield Round(answer.cpu_s * 1e3)
            peer.tell(data.known.evaluate(answer.parameters)["value"])


def take_turns(data: Data, n_rounds: int) -> list[Timing]:
    """Let every installed tool ask in turn, so that all meet the same machine."""
    tools = {OURS: rounds_of_bbopt(data)}
    if find_spec("botorch"):
        tools[BOTORCH] = rounds_of_botorch(data)
    versions: dict[str, dict[str, str]] = {OPTUNA: {}}
    if environment_of("optuna").is_installed:
        tools[OPTUNA] = rounds_of_optuna(data, versions[OPTUNA])
    rounds: dict[str, list[Round]] = {tool: [] for tool in tools}
    with ExitStack() as stack:
        for source in tools.values():
            stack.enter_context(closing(source))
        for index in range(n_rounds):
            for tool, source in tools.items():
                if tool != BOTORCH or index < N_BOTORCH:
                    rounds[tool].append(next(source))
    n, d = data.X.shape
    return [Timing(tool, n, d, each, versions.get(tool, {})) for tool, each in rounds.items()]


def report(recorded: Recorded) -> list[str]:
    """Lay out the table and the verdicts, in Markdown."""
    timings = sorted(map(Timing.from_row, recorded.rows), key=lambda each: (each.d, each.n))
    head = ["d", "n", "tool", "fit", "search", "ask with refit", "ask, mean"]
    lines = table([*head, "first ask, cold"], (timing.cells() for timing in timings))
    return [*lines, *fenced(verdicts(timings)), *versions_line(recorded)]


def verdicts(timings: Sequence[Timing]) -> list[str]:
    """Compare with Optuna where a speed-up is wanted and both were measured."""
    found = {(each.d, each.n, each.tool): each for each in timings}
    lines = []
    for d, n in dict.fromkeys((each.d, each.n) for each in timings):
        ours, theirs = found.get((d, n, OURS)), found.get((d, n, OPTUNA))
        if n in CHECKED and ours is not None and theirs is not None:
            mean, refit = theirs.ask / ours.ask, theirs.with_refit / ours.with_refit
            text = (
                f"d={d} n={n}: {mean:.1f} times faster than {OPTUNA}, wanted "
                f"{NEEDED_SPEED_UP:g} (an ask that refits: {refit:.1f} times)"
            )
            lines.append(verdict(mean >= NEEDED_SPEED_UP, text))
    return lines or ["nothing to compare with: no Optuna, or n is neither 100 nor 500"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what has no record and print the report; return 1 if a speed-up is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="*", default=[20, 50, 100, 200, 500])
    parser.add_argument("--d", type=int, nargs="*", default=[6, 20])
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    add_argument(parser)
    settings = parser.parse_args(arguments)
    torch.set_num_threads(1)
    packages = ["torch", *(["botorch"] if find_spec("botorch") else [])]
    recorder = open_records(
        parser, settings.records, about_run(*packages, rounds=settings.rounds)
    )
    for d in settings.d:
        for n in settings.n:
            if recorder.has(d=d, n=n):
                continue
            data = make_data(hartmann6() if d == 6 else levy(d), n)
            for timing in take_turns(data, settings.rounds):
                recorder.add(asdict(timing))
                print(*timing.cells(), file=sys.stderr, flush=True)
    return show(report(recorder.recorded))


if __name__ == "__main__":
    sys.exit(main())
