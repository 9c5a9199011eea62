"""The parts of an ask beside BoTorch's on the same model: fit, search, batch; with pass lines.

Run ``python -m benchmarks.engine``; BoTorch must be installed. ``--records`` keeps a line a
row. Both sides have the same data, the same model with the same priors and one thread, and take
turns; times are CPU milliseconds (``time.process_time``). What each side found is judged by one
and the same function: the log posterior of the hyperparameters, log expected improvement under
one Gaussian process, the joint expected improvement of a batch by quasi-random sampling.

- fit: from the prior's mode to the maximum a posteriori.
- search: log expected improvement under the model fitted by us, moved into BoTorch.
- batch: eight points, ours by integrated expected improvement, BoTorch's by ``qLogEI``, both
  greedily.
"""

import argparse
import itertools
import math
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Final

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.acquisition.analytic import LogExpectedImprovement as TheirLogEI
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.optim.optimize import optimize_acqf
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior as TheirLogNormal
from numpy.typing import NDArray
from torch import Tensor
from torch.quasirandom import SobolEngine

from bbopt.acquisition import IntegratedLogExpectedImprovement, LogExpectedImprovement
from bbopt.gp import (
    GPModel,
    GPSettings,
    Hyperparameters,
    HyperPriors,
    Kernel,
    LearnedNoise,
    LogNormalPrior,
    MapObjective,
    WarpKind,
    fit_map,
)
from bbopt.numerics import stream
from bbopt.problems import hartmann6, levy
from bbopt.search import Found, maximise, maximise_batch
from benchmarks.engine_report import PARTS, Comparison, Row, report
from benchmarks.latency import Data, cpu_ms, make_data
from benchmarks.recording import about_run, add_argument, open_records, show

Array = NDArray[np.float64]
N_REPEATED: Final = 3
"""Ours are repeated in every comparison: they are too short to be timed once."""
N_JOINT: Final = 8192
Q: Final = 8
BATCHES_AT: Final = (50, 200)
N_INCUMBENTS: Final = 5
PLAIN: Final = (10, 512, False)
AROUND_BEST: Final = (20, 1024, True)
"""``num_restarts``, ``raw_samples`` and ``sample_around_best`` of ``optimize_acqf``."""


class Case:
    """One data set under one model, ours and BoTorch's.

    RBF is BoTorch's default model as it comes; Matern has an output scale as well and the noise
    floor of bbopt's default.
    """

    def __init__(self, kernel: Kernel, d: int, n: int, seed: int) -> None:
        """Make the data; nothing is fitted yet."""
        self.data: Data = make_data(hartmann6() if d == 6 else levy(d), n, seed=seed)
        self.kernel, self.d, self.n, self.seed = kernel, d, n, seed
        y = self.data.y
        self.y: Array = (y - y.mean()) / y.std(ddof=1)
        if kernel is Kernel.RBF:
            noise = LearnedNoise(1e-4, LogNormalPrior(-4.0, 1.0, has_jacobian=True))
            scale_bounds = (1.0, 1.0)
        else:
            noise = LearnedNoise(1e-6, LogNormalPrior(-8.0, 3.0, has_jacobian=True))
            scale_bounds = (1e-3, 1e3)
        self.priors = HyperPriors(
            d,
            noise,
            output_scale=LogNormalPrior(0.0, 1.0, has_jacobian=True),
            length_scale_bounds=(0.025, 1e3),
            output_scale_bounds=scale_bounds,
        )

    # ------------------------------------------------------------------ the model, twice

    def objective(self) -> MapObjective:
        """Return our log posterior of the hyperparameters."""
        return MapObjective(
            torch.from_numpy(self.data.X),
            torch.from_numpy(self.y),
            kernels=(self.kernel,),
            priors=self.priors,
            group=torch.arange(self.d),
        )

    def fit(self) -> Array:
        """Fit ours from the prior's mode; return ``theta``, ``(d + 2,)``."""
        found: Array = fit_map(self.objective(), self.priors, warm_start=None).theta[0]
        return found

    def theirs(self) -> SingleTaskGP:
        """Return BoTorch's model, not fitted."""
        x, y = torch.from_numpy(self.data.X), torch.from_numpy(self.y)[:, None]
        if self.kernel is Kernel.RBF:
            return SingleTaskGP(x, y, outcome_transform=None)
        mode = np.exp(self.priors.mode())
        length, noise = self.priors.length_scale_prior, LogNormalPrior(-8.0, 3.0, True)
        base = MaternKernel(
            nu=2.5,
            ard_num_dims=self.d,
            lengthscale_prior=_theirs(length),
            lengthscale_constraint=GreaterThan(0.025, transform=None, initial_value=mode[0]),
        )
        covariance = ScaleKernel(
            base,
            outputscale_prior=TheirLogNormal(0.0, 1.0),
            outputscale_constraint=GreaterThan(1e-3, transform=None, initial_value=mode[-1]),
        )
        likelihood = GaussianLikelihood(
            noise_prior=_theirs(noise),
            noise_constraint=GreaterThan(1e-6, transform=None, initial_value=mode[-2]),
        )
        return SingleTaskGP(
            x, y, likelihood=likelihood, covar_module=covariance, outcome_transform=None
        )

    def load(self, theirs: SingleTaskGP, theta: Array, mean: float) -> None:
        """Move hyperparameters of ours into BoTorch's model."""
        values = torch.from_numpy(np.exp(theta))
        theirs.likelihood.noise = values[self.d]
        theirs.mean_module.constant = mean
        if self.kernel is Kernel.RBF:
            theirs.covar_module.lengthscale = values[: self.d]
        else:
            theirs.covar_module.base_kernel.lengthscale = values[: self.d]
            theirs.covar_module.outputscale = values[self.d + 1]

    def read(self, theirs: SingleTaskGP) -> Array:
        """Return BoTorch's hyperparameters as ``theta``, ``(d + 2,)``."""
        covariance, log_scale = theirs.covar_module, 0.0
        if self.kernel is not Kernel.RBF:
            log_scale = math.log(float(covariance.outputscale))
            covariance = covariance.base_kernel
        lengths = covariance.lengthscale.detach().log().flatten().tolist()
        return np.array([*lengths, math.log(float(theirs.likelihood.noise)), log_scale])

    def model(self, theta: Array) -> GPModel:
        """Return our model on given hyperparameters."""
        return GPModel.restored(
            self.data.codec.columns,
            self.data.X,
            self.y,
            hyperparameters=Hyperparameters(theta[None], self.n),
            settings=GPSettings((self.kernel,), WarpKind.STANDARDISE),
        )

    def conditioned(self) -> tuple[GPModel, SingleTaskGP]:
        """Return both models on our fit's hyperparameters."""
        theta = self.fit()
        ours, theirs = self.model(theta), self.theirs()
        self.load(theirs, theta, float(ours.posterior.mean_constant))
        theirs.eval()
        return ours, theirs


def _theirs(prior: LogNormalPrior) -> TheirLogNormal:
    return TheirLogNormal(prior.mu, prior.sigma)


def repeated_ms(call: Callable[[int], object]) -> float:
    """Return the mean CPU time of ``call(0)``, ``call(1)``, ... in milliseconds."""
    return statistics.fmean(cpu_ms(partial(call, index)) for index in range(N_REPEATED))


# ---------------------------------------------------------------------- fit


def their_log_posterior(case: Case, theta: Array) -> float:
    """Return gpytorch's log posterior at hyperparameters of ours, mean profiled."""
    theirs = case.theirs()
    case.load(theirs, theta, float(case.model(theta).posterior.mean_constant))
    mll = ExactMarginalLogLikelihood(theirs.likelihood, theirs)
    value = mll(theirs(*theirs.train_inputs), theirs.train_targets)
    return float(value.detach()) * case.n


def our_log_posterior(case: Case, theta: Array) -> float:
    """Return our log posterior; a fixed output scale has no density there."""
    value = -case.objective()(theta)[0]
    if case.kernel is Kernel.RBF:
        value -= float(case.priors.output_scale.log_density(np.zeros(1))[0])
    return value


def compare_fits(case: Case) -> tuple[Comparison, float]:
    """Fit both cold; also say by how much the two objectives differ at the same point."""
    theirs = case.theirs()
    mll = ExactMarginalLogLikelihood(theirs.likelihood, theirs)
    theirs_ms = cpu_ms(lambda: fit_gpytorch_mll(mll))
    ours_ms = repeated_ms(lambda _: case.fit())
    theta = case.fit()
    reached = our_log_posterior(case, theta)
    loss = our_log_posterior(case, case.read(theirs)) - reached
    return Comparison(ours_ms, theirs_ms, loss), abs(their_log_posterior(case, theta) - reached)


# ---------------------------------------------------------------------- search


def our_search(case: Case, model: GPModel, seed: int) -> Found:
    """Search as the first ask after a cold start does."""
    found = maximise(
        LogExpectedImprovement(model, model.posterior.y.max()),
        case.data.codec,
        stream(seed, "engine", "search", case.n, case.seed),
        incumbents=_incumbents(case),
        taken=case.data.X,
        length_scales=model.length_scales,
    )
    assert isinstance(found, Found)
    return found


def their_search(
    acquisition: AcquisitionFunction, d: int, options: tuple[int, int, bool], q: int = 1
) -> Array:
    """Run ``optimize_acqf``; return the rows found, ``(q, d)``."""
    n_restarts, n_raw, is_around_best = options
    bounds = torch.tensor([[0.0] * d, [1.0] * d], dtype=torch.float64)
    found, _ = optimize_acqf(
        acquisition,
        bounds=bounds,
        q=q,
        num_restarts=n_restarts,
        raw_samples=n_raw,
        sequential=q > 1,
        options={"sample_around_best": is_around_best},
    )
    rows: Array = found.detach().numpy()
    return rows


def compare_searches(case: Case, options: tuple[int, int, bool]) -> Comparison:
    """Search the same surface; both maxima are evaluated by our acquisition."""
    ours, theirs = case.conditioned()
    best = ours.posterior.y.max()
    torch.manual_seed(case.seed)
    acquisition = TheirLogEI(theirs, best_f=best)
    rows: list[Array] = []
    theirs_ms = cpu_ms(lambda: rows.append(their_search(acquisition, case.d, options)))
    ours_ms = repeated_ms(lambda seed: our_search(case, ours, seed))
    found = our_search(case, ours, 0)
    judge = LogExpectedImprovement(ours, best)
    values = judge.value(torch.from_numpy(np.concatenate([rows[0], found.x[None]])))
    return Comparison(ours_ms, theirs_ms, float(values[0] - values[1]))


def _incumbents(case: Case) -> Array:
    rows: Array = case.data.X[np.argsort(-case.y, kind="stable")[:N_INCUMBENTS]]
    return rows


# ---------------------------------------------------------------------- batch


def our_batch(case: Case, model: GPModel, seed: int) -> Array:
    """Choose eight rows as one ask for eight does."""
    rng = stream(seed, "engine", "batch", case.n, case.seed)
    best = model.posterior.y.max()

    def given(pending: Array) -> LogExpectedImprovement | IntegratedLogExpectedImprovement:
        if not len(pending):
            return LogExpectedImprovement(model, best)
        return IntegratedLogExpectedImprovement(model, best, pending, rng=rng)

    found = maximise_batch(
        given,
        case.data.codec,
        rng,
        n=Q,
        pending=np.empty((0, case.d)),
        incumbents=_incumbents(case),
        taken=case.data.X,
        length_scales=model.length_scales,
    )
    return np.array([each.x for each in found])


def joint_improvement(model: GPModel, rows: Array) -> float:
    """Return the expected improvement of the best of several rows, by 8192 QMC draws."""
    mean, covariance = model.posterior.predict_jointly(torch.from_numpy(rows))
    jitter = 1e-10 * torch.eye(len(rows), dtype=torch.float64)
    factor = torch.linalg.cholesky(covariance[0] + jitter)
    uniform = SobolEngine(len(rows), scramble=True, seed=0).draw(N_JOINT, dtype=torch.float64)
    normal = torch.special.ndtri(uniform.clamp(1e-9, 1.0 - 1e-9))
    values: Tensor = mean[0] + normal @ factor.mT
    return float((values.amax(1) - model.posterior.y.max()).clamp(min=0.0).mean())


def compare_batches(case: Case) -> Comparison:
    """Choose eight points; the loss is the missing fraction of the joint improvement."""
    ours, theirs = case.conditioned()
    torch.manual_seed(case.seed)
    acquisition = qLogExpectedImprovement(theirs, best_f=ours.posterior.y.max())
    rows: list[Array] = []
    theirs_ms = cpu_ms(lambda: rows.append(their_search(acquisition, case.d, PLAIN, Q)))
    ours_ms = repeated_ms(lambda seed: our_batch(case, ours, seed))
    theirs_joint = joint_improvement(ours, rows[0])
    ours_joint = joint_improvement(ours, our_batch(case, ours, 0))
    return Comparison(ours_ms, theirs_ms, 1.0 - ours_joint / theirs_joint)


# ---------------------------------------------------------------------- run


def measure(part: str, cases: Sequence[Case]) -> Row:
    """Compare both sides on data sets of one size; ``part`` as in the table."""
    apart: float | None = None
    match part:
        case "fit":
            fits = [compare_fits(case) for case in cases]
            runs, apart = [run for run, _ in fits], max(each for _, each in fits)
        case "search":
            runs = [compare_searches(case, PLAIN) for case in cases]
        case "search, around best":
            runs = [compare_searches(case, AROUND_BEST) for case in cases]
        case _:
            runs = [compare_batches(case) for case in cases]
    first = cases[0]
    return Row(part, first.kernel.value, first.d, first.n, runs, apart)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what has no record and print the report; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("fit", "search", "batch"), action="append")
    parser.add_argument("--n", type=int, nargs="*", default=[20, 50, 100, 200, 500])
    parser.add_argument("--d", type=int, nargs="*", default=[6])
    parser.add_argument("--kernel", choices=[k.value for k in Kernel], action="append")
    parser.add_argument("--seeds", type=int, default=3, help="data sets of each size")
    add_argument(parser)
    settings = parser.parse_args(arguments)
    torch.set_num_threads(1)
    about = about_run("torch", "botorch", "gpytorch", seeds=settings.seeds)
    recorder = open_records(parser, settings.records, about)
    chosen = tuple(settings.part or ("fit", "search", "batch"))
    parts = [part for part in PARTS if part.startswith(chosen)]
    kernels = settings.kernel or [kernel.value for kernel in Kernel]
    for d, kernel, n, part in itertools.product(settings.d, kernels, settings.n, parts):
        is_measured = recorder.has(what=part, kernel=kernel, d=d, n=n)
        if is_measured or (part.startswith("batch") and n not in BATCHES_AT):
            continue
        cases = [Case(Kernel(kernel), d, n, seed) for seed in range(settings.seeds)]
        row = measure(part, cases)
        recorder.add(asdict(row))
        print(*row.cells(), file=sys.stderr, flush=True)
    return show(report(recorder.recorded))


if __name__ == "__main__":
    sys.exit(main())
