"""Maximum likelihood for mixtures of factor analyzers by expectation-maximisation.

The E-step scores a chunk of images against all components at once, the M-step's sums are
products with the same chunk while it is still in cache, and nothing grows with the number of
images but one log-likelihood each. Sums within a chunk are made in the fit's dtype, sums over
chunks and the small solves in float64. Pixels that never vary, such as the corners of a digit's
image, take no part: the maximum of their likelihood is known.

The algorithm is that of Ghahramani and Hinton (1996), in other variables: with u = Lᵀz, where
M = I + AᵀD⁻¹A = L Lᵀ, the posterior of u given x has mean W(x − mu), which scoring yields
anyway, and covariance I.
"""

import math
import warnings
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from bayesgap.densities.fitting import (
    QUANTISATION_VARIANCE,
    SMALLEST_FACTOR,
    Fit,
    Parameters,
    check_images,
    check_schedule,
    initialise,
    is_levels,
    pixel_means,
    pixel_variances,
    unit_values,
)
from bayesgap.densities.mfa import Whitening, score, whiten
from bayesgap.densities.ranges import Prepared, Range, allowed_rounding, prepare, remedies
from bayesgap.errors import check_seed
from bayesgap.progress import progress

NEGLIGIBLE = -80.0  # log of a responsibility below any rounding; exp is slow where it underflows
EMPTY = 1.0  # a component that answers for less than one image is empty
RESEEDINGS = 10  # after as many iterations with a re-seeding, empty components are dropped


class Statistics(NamedTuple):
    """Expected sufficient statistics, with ũ = [u; 1] of width w = l + 1.

    Images x are relative to the whitening's centre; sums are over images, with responsibilities r.

    Attributes:
        outer: Σ r E[ũũᵀ] of each component.
        cross: Σ r E[ũ]xᵀ of each component.
        square: Σ r x² of each component.
        log_likelihoods: The log-likelihood of each image, in nats.
    """

    outer: Float[Tensor, "K w w"]
    cross: Float[Tensor, "K w d"]
    square: Float[Tensor, "K d"]
    log_likelihoods: Float[Tensor, " n"]


def fit_em(
    x: Tensor,
    components: int,
    latent: int,
    *,
    seed: int,
    isotropic: bool = False,
    noise_floor: float = QUANTISATION_VARIANCE,
    max_iterations: int = 200,
    tolerance: float = 1e-5,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    chunk: int = 2048,
) -> Fit:
    """Fit a mixture of factor analyzers by EM from a k-means start.

    Between re-seedings or removals of empty components the log-likelihood never falls, up to the
    rounding of `dtype`. The floor on D does not change that: each D's likelihood has one maximum.

    Args:
        x: Images (n, …), flattened to (n, d): floats in [0, 1] (much wider ranges warn), or
            torch.uint8, levels from 0 to 255 that mean 255ths, which are converted a chunk at a
            time and may lie in a file that is mapped into memory.
        components: K, the number of components to fit.
        latent: l, the number of factors of each component.
        seed: Seed of the random generators that start k-means and re-seed empty components.
        isotropic: Whether a component has one noise variance instead of one a pixel.
        noise_floor: The smallest noise variance; by default that of 8-bit images in [0, 1].
        max_iterations: The largest number of iterations; reaching it warns.
        tolerance: The relative improvement of the log-likelihood below which the fit stops.
        dtype: The dtype of products with the images, torch.float32 or torch.float64. In the
            former, rounding may end a fit a few nats early; one that it spoils warns.
        device: The device on which products with the images run.
        chunk: How many images are scored at a time; bounds the working memory.

    Returns:
        The fitted mixture in float64, and how the fit went.

    Raises:
        BayesgapError: images, a range of theirs, or settings that no density can be fitted to.

    Example:
        >>> x = torch.rand(100, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> fit = bayesgap.fit_em(x, components=2, latent=1, seed=0)
        >>> fit.density.components, fit.density.dimension
        (2, 4)
    """
    check_schedule(max_iterations, chunk, dtype, device)
    seed = check_seed(seed)
    x = check_images(x, components, latent, noise_floor)
    near = prepare(x, noise_floor, dtype)
    varying = varying_pixels(near.images, isotropic)
    start = initialise(
        near.images, components, latent, isotropic=isotropic, noise_floor=noise_floor, seed=seed
    ).at(varying)
    workspace = torch.empty(2, min(chunk, len(x)), len(varying), dtype=dtype, device=device)
    climb = _Climb(near.images, varying, start, workspace, isotropic, noise_floor, seed)
    climb.run(max_iterations, tolerance)
    return climb.fit(near, components, max_iterations, tolerance)


class _Climb:
    """The iterations of a fit: the parameters as they are now, and what happened on the way.

    Attributes:
        parameters: The mixture of the pixels that vary, after the last iteration.
        history: Mean log-likelihood in nats per image, all pixels', at the start of each iteration.
        reseeded: The iterations after which empty components were started anew.
        dropped: The iterations after which components that stayed empty were removed.
        converged: Whether the relative improvement fell below the tolerance.
    """

    def __init__(
        self,
        x: Tensor,
        varying: Tensor,
        start: Parameters,
        workspace: Tensor,
        isotropic: bool,
        noise_floor: float,
        seed: int,
    ):
        """Take the images, the start and the settings of a fit."""
        self.x, self.varying, self.workspace = x, varying, workspace
        self.parameters = start
        self.isotropic, self.noise_floor = isotropic, noise_floor
        self.generator = torch.Generator().manual_seed(seed)
        constant = x.shape[1] - len(varying)
        self.constant_log_prob = -0.5 * constant * math.log(2 * math.pi * noise_floor)
        self.history: list[float] = []
        self.reseeded: list[int] = []
        self.dropped: list[int] = []
        self.converged = False

    def run(self, max_iterations: int, tolerance: float) -> None:
        """Iterate until the likelihood hardly rises, or `max_iterations` times."""
        with progress("fitting by EM", max_iterations) as advance:
            for iteration in range(max_iterations):
                statistics, whitening = expectation(
                    self.x, self.varying, self.parameters, self.workspace
                )
                mean = statistics.log_likelihoods.mean().item()
                self.history.append(mean + self.constant_log_prob)
                advance(note=f"log-likelihood {self.history[-1]:.3f}")
                if len(self.history) > 1 and iteration - 1 not in {*self.reseeded, *self.dropped}:
                    gain = self.history[-1] - self.history[-2]
                    self.converged = gain <= tolerance * abs(self.history[-1])
                if self.converged:
                    break
                self._improve(iteration, statistics, whitening)

    def _improve(self, iteration: int, statistics: Statistics, whitening: Whitening) -> None:
        """The M-step, and what becomes of components that are empty."""
        empty = statistics.outer[:, -1, -1] < EMPTY
        statistics, whitening = _without(empty, statistics, whitening)
        self.parameters = maximisation(
            statistics, whitening, isotropic=self.isotropic, noise_floor=self.noise_floor
        )
        if empty.any() and len(self.reseeded) >= RESEEDINGS:
            self.dropped.append(iteration)
        elif empty.any():
            self.reseeded.append(iteration)
            worst = statistics.log_likelihoods.argsort()[: int(empty.sum())]
            self.parameters = _with_new(
                self.parameters,
                unit_values(self.x[worst.to(self.x.device)][:, self.varying]),
                pixel_variances(self.x, pixel_means(self.x))[self.varying.cpu()],
                self.isotropic,
                self.noise_floor,
                self.generator,
            )

    def fit(self, near: Prepared, components: int, max_iterations: int, tolerance: float) -> Fit:
        """What `fit_em` returns, once its caller was told of what went wrong."""
        image = unit_values(self.x[0])
        parameters = _with_constant(self.parameters, image, self.varying, self.noise_floor)
        density, exact = near.fitted(parameters, self.workspace.device)
        if self.converged:
            self.converged = self._is_sound(exact, tolerance, near.found)
        else:
            self._warn(
                f"EM stopped after {max_iterations} iterations before its relative improvement "
                f"fell below {tolerance:g}: raise max_iterations."
            )
        left = len(self.parameters.weights)
        if left < components:
            self._warn(
                f"{components - left} of {components} components stayed empty and were dropped: "
                "ask for fewer."
            )
        return Fit(density, self.history, self.reseeded, self.dropped, self.converged, exact)

    def _is_sound(self, exact: float, tolerance: float, found: Range) -> bool:
        """Whether rounding did not end the fit, nor spoil the log-likelihood that it ended at."""
        before, last = self.history[-2:]
        allowed = allowed_rounding(exact, self.x.shape[1], tolerance)
        if before - last <= allowed and abs(last - exact) <= allowed:
            return True
        what_to_do = remedies(found, self.noise_floor, self.workspace.dtype)
        self._warn(
            f"EM stopped and has not converged: its log-likelihood went from {before:.6g} to "
            f"{last:.6g} nats, which rounding has spoilt (the density's is {exact:.6g}); "
            f"{what_to_do}",
            stacklevel=5,
        )
        return False

    def _warn(self, message: str, stacklevel: int = 4) -> None:
        """Warn the caller of `fit_em`, which called `fit`, which called this."""
        warnings.warn(message, ConvergenceWarning, stacklevel=stacklevel)


def expectation(
    x: Float[Tensor, "n pixels"] | UInt8[Tensor, "n pixels"],
    varying: Int[Tensor, " d"],
    parameters: Parameters,
    workspace: Float[Tensor, "2 chunk d"],
) -> tuple[Statistics, Whitening]:
    """The E-step: responsibilities of all components for all images, summed up chunk by chunk.

    Args:
        x: The images, flattened.
        varying: Indices of the pixels that are seen.
        parameters: The mixture of those pixels.
        workspace: Memory for a chunk of images and their squares. It says how many images a chunk
            has, and where and in which dtype the products run. It outlives the call because the
            page faults of a new one would cost as much as a product.

    Returns:
        The statistics, and the float64 whitening that they are relative to.
    """
    exact = whiten(parameters.means, parameters.factors, parameters.noise)
    whitening = Whitening(*(tensor.to(workspace) for tensor in exact))
    log_weights = parameters.weights.log().to(workspace)[:, None]
    components, latent = whitening.shifts.shape[0], whitening.shifts.shape[1] - 1
    dimension = len(varying)
    outer = torch.zeros(components, latent + 1, latent + 1, dtype=torch.float64)
    cross = torch.zeros(components * (latent + 1), dimension, dtype=torch.float64)
    square = torch.zeros(components, dimension, dtype=torch.float64)
    log_likelihoods = []
    for images in torch.split(x, workspace.shape[1]):
        centred, squared = workspace[:, : len(images)]
        if dimension < images.shape[1]:
            images = images.index_select(1, varying)
        if is_levels(images) and squared.dtype == torch.float32:  # no new memory, as said above
            images = squared.copy_(images).div_(255)
        torch.sub(unit_values(images).to(workspace), whitening.centre, out=centred)
        torch.mul(centred, centred, out=squared)
        log_prob, u = score(centred, squared, whitening)
        joint = log_prob + log_weights
        peak = joint.amax(dim=0)
        responsibilities = (joint - peak).clamp_(min=NEGLIGIBLE).exp_()
        total = responsibilities.sum(dim=0)
        responsibilities /= total
        # ũ carries a 1, so that its products with r give the counts and the plain sums too.
        u[:, -1] = 1
        weighted = u * responsibilities[:, None]
        outer += (weighted @ u.mT).cpu()
        cross += (weighted.flatten(0, 1) @ centred).cpu()
        square += (responsibilities @ squared).cpu()
        log_likelihoods.append((peak + total.log()).double().cpu())
    counts = outer[:, -1, -1].clone()
    outer[:, :latent, :latent] += counts[:, None, None] * torch.eye(latent, dtype=torch.float64)
    cross = cross.reshape(components, latent + 1, dimension)
    return Statistics(outer, cross, square, torch.cat(log_likelihoods)), exact


def maximisation(
    statistics: Statistics, whitening: Whitening, *, isotropic: bool, noise_floor: float
) -> Parameters:
    """The M-step: [A mu] by one joint regression on ũ, then D from what it leaves, in float64.

    Args:
        statistics: What the E-step summed up.
        whitening: What the statistics are relative to.
        isotropic: Whether a component has one noise variance instead of one a pixel.
        noise_floor: The smallest noise variance.
    """
    outer, cross, square, _ = statistics
    counts = outer[:, -1, -1]
    regression = torch.linalg.solve(outer, cross)
    noise = (square - (regression * cross).sum(dim=1)) / counts[:, None]
    if isotropic:
        noise = noise.mean(dim=1, keepdim=True).expand_as(noise)
    return Parameters(
        weights=counts / counts.sum(),
        means=whitening.centre + regression[:, -1],
        factors=(whitening.cholesky @ regression[:, :-1]).mT,  # A z = (A L⁻ᵀ) u
        noise=noise.clamp(min=noise_floor),
    )


def _without(
    empty: Tensor, statistics: Statistics, whitening: Whitening
) -> tuple[Statistics, Whitening]:
    if not empty.any():
        return statistics, whitening
    outer, cross, square, log_likelihoods = statistics
    kept = Statistics(outer[~empty], cross[~empty], square[~empty], log_likelihoods)
    return kept, Whitening(whitening.centre, *(tensor[~empty] for tensor in whitening[1:]))


def varying_pixels(
    x: Float[Tensor, "n pixels"] | UInt8[Tensor, "n pixels"], isotropic: bool
) -> Int[Tensor, " d"]:
    """The pixels that a fit has to see: with a D of their own, those with two values or more.

    Args:
        x: The images, flattened.
        isotropic: Whether a component has one noise variance instead of one a pixel; then, as
            where no pixel varies, all have to be seen.
    """
    varies = x.amax(dim=0) != x.amin(dim=0)
    if isotropic or not varies.any():
        varies[:] = True
    return varies.nonzero().flatten()


def _with_constant(
    parameters: Parameters, image: Float[Tensor, " pixels"], varying: Tensor, noise_floor: float
) -> Parameters:
    """Put back the pixels that never vary, at their likelihood's maximum: A = 0, D at its floor."""
    components, latent, pixels = len(parameters.weights), parameters.factors.shape[2], len(image)
    means = image.double().cpu().repeat(components, 1)
    factors = torch.zeros(components, pixels, latent, dtype=torch.float64)
    noise = torch.full((components, pixels), noise_floor, dtype=torch.float64)
    varying = varying.cpu()
    means[:, varying], factors[:, varying] = parameters.means, parameters.factors
    noise[:, varying] = parameters.noise
    return Parameters(parameters.weights, means, factors, noise)


def _with_new(
    parameters: Parameters,
    images: Float[Tensor, "e d"],
    variance: Float[Tensor, " d"],
    isotropic: bool,
    noise_floor: float,
    generator: torch.Generator,
) -> Parameters:
    """Add a broad component around each of the images, at an average weight."""
    old = len(parameters.weights)
    new, dimension = images.shape
    latent = parameters.factors.shape[2]
    if isotropic:
        variance = variance.mean().expand_as(variance)
    factors = torch.randn(new, dimension, latent, generator=generator, dtype=torch.float64)
    share = 1 / (old + new)
    return Parameters(
        torch.cat([parameters.weights * (1 - new * share), torch.full((new,), share).double()]),
        torch.cat([parameters.means, images.double().cpu()]),
        torch.cat([parameters.factors, SMALLEST_FACTOR * noise_floor**0.5 * factors]),
        torch.cat([parameters.noise, variance.clamp(min=noise_floor).expand(new, dimension)]),
    )
