"""A TuRBO-1 loop of BoTorch: one trust region, Thompson sampling over Sobol candidates.

It follows BoTorch's tutorial line by line, with two constants for large batches: the paper's
success tolerance of 3 (the tutorial's is 10, with which the region all but never grows at a
hundred rounds), and a first design of one batch (the tutorial's is twice the dimension). To
save time the fit of a round starts from the hyperparameters of the round before, not from the
same place every time; the model stands on all results since the last restart.

Source:
    Eriksson, Pearce, Gardner, Turner & Poloczek (2019), Scalable Global Optimization via Local
    Bayesian Optimization, NeurIPS; https://botorch.org/docs/tutorials/turbo_1.
"""

import math
from typing import Final

import gpytorch
import numpy as np
import torch
from botorch.exceptions.errors import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.generation.sampling import MaxPosteriorSampling
from botorch.models import SingleTaskGP
from gpytorch.constraints import Interval
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from numpy.typing import NDArray
from torch import Tensor
from torch.quasirandom import SobolEngine

Array = NDArray[np.float64]
LENGTH: Final = 0.8
LENGTH_MIN: Final = 0.5**7
LENGTH_MAX: Final = 1.6
SUCCESS_TOLERANCE: Final = 3
SUCCESS_MARGIN: Final = 1e-3
"""A batch is a success when it is better by this share of the best value's magnitude."""


class TurboLoop:
    """Ask for a batch, tell its values; everything is maximised on the unit cube."""

    def __init__(self, dim: int, batch_size: int, seed: int) -> None:
        """Start with an empty run."""
        torch.manual_seed(seed)
        self.dim, self.batch_size = dim, batch_size
        self.n_candidates = min(5000, max(2000, 200 * dim))
        self.failure_tolerance = math.ceil(max(4.0 / batch_size, dim / batch_size))
        self.n_restarts = -1
        self._sobol = SobolEngine(dim, scramble=True, seed=seed)
        self._restart()

    def _restart(self) -> None:
        self.n_restarts += 1
        self.length = LENGTH
        self._n_successes = self._n_failures = 0
        self._best = -math.inf
        self._X = torch.empty(0, self.dim, dtype=torch.float64)
        self._y = torch.empty(0, dtype=torch.float64)
        self._hyperparameters: dict[str, Tensor] | None = None

    @property
    def n_rows(self) -> int:
        """Results since the last restart, on which the model stands."""
        return len(self._y)

    def ask(self) -> Array:
        """Return a batch of points, ``(q, D)``."""
        if not self.n_rows:
            first: Array = self._sobol.draw(self.batch_size, dtype=torch.float64).numpy()
            return first
        standardised = (self._y - self._y.mean()) / self._y.std()
        with gpytorch.settings.max_cholesky_size(float("inf")):
            model = self._fit(standardised)
            chosen: Array = self._generate(model, standardised).numpy()
        return chosen

    def _fit(self, y: Tensor) -> SingleTaskGP:
        likelihood = GaussianLikelihood(noise_constraint=Interval(1e-8, 1e-3))
        kernel = ScaleKernel(
            MaternKernel(
                nu=2.5, ard_num_dims=self.dim, lengthscale_constraint=Interval(0.005, 4.0)
            )
        )
        model = SingleTaskGP(
            self._X,
            y[:, None],
            covar_module=kernel,
            likelihood=likelihood,
            outcome_transform=None,
        )
        if self._hyperparameters is not None:
            model.load_state_dict(self._hyperparameters)
        try:
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        except ModelFittingError:
            # The tutorial has no answer to this; the start of the fit is a usable model.
            model.eval()
        self._hyperparameters = {
            name: value.clone() for name, value in model.state_dict().items()
        }
        return model

    def _generate(self, model: SingleTaskGP, y: Tensor) -> Tensor:
        centre = self._X[y.argmax()]
        weights = model.covar_module.base_kernel.lengthscale.squeeze().detach()
        weights = weights / weights.mean()
        weights = weights / torch.prod(weights.pow(1.0 / len(weights)))
        lower = torch.clamp(centre - weights * self.length / 2.0, 0.0, 1.0)
        upper = torch.clamp(centre + weights * self.length / 2.0, 0.0, 1.0)
        sobol = SobolEngine(self.dim, scramble=True)
        points = sobol.draw(self.n_candidates).to(torch.float64)
        points = lower + (upper - lower) * points
        is_perturbed = torch.rand(self.n_candidates, self.dim) <= min(20.0 / self.dim, 1.0)
        unmoved = torch.where(is_perturbed.sum(dim=1) == 0)[0]
        is_perturbed[unmoved, torch.randint(0, self.dim - 1, size=(len(unmoved),))] = True
        candidates = centre.expand(self.n_candidates, self.dim).clone()
        candidates[is_perturbed] = points[is_perturbed]
        sampling = MaxPosteriorSampling(model=model, replacement=False)
        with torch.no_grad():
            chosen: Tensor = sampling(candidates, num_samples=self.batch_size)
        return chosen

    def tell(self, points: Array, y: Array) -> None:
        """Take a batch's values; begin anew where the region has become too small."""
        is_first = not self.n_rows
        self._X = torch.cat([self._X, torch.from_numpy(points)])
        self._y = torch.cat([self._y, torch.from_numpy(y)])
        best = float(y.max())
        if is_first:
            self._best = best
            return
        if best > self._best + SUCCESS_MARGIN * abs(self._best):
            self._n_successes, self._n_failures = self._n_successes + 1, 0
        else:
            self._n_successes, self._n_failures = 0, self._n_failures + 1
        if self._n_successes == SUCCESS_TOLERANCE:
            self.length = min(2.0 * self.length, LENGTH_MAX)
            self._n_successes = 0
        elif self._n_failures == self.failure_tolerance:
            self.length /= 2.0
            self._n_failures = 0
        self._best = max(self._best, best)
        if self.length < LENGTH_MIN:
            self._restart()
