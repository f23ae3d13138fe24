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
from bayesgap.progress import progress

NEGLIGIBLE = -80.0  # log of a responsibility below any rounding; exp is slow where it underflows
EMPTY = 1.0  # a component that answers for less than one image is empty
RESEEDINGS = 10  # after as many iterations with a re-seeding, empty components are dropped


class Statistics(NamedTuple):
    """Expected sufficient statistics, with ũ = [u; 1] of width w = l + 1.

    Images x are relative to the whitening's centre. `outer` is Σ r E[ũũᵀ], `cross` Σ r E[ũ]xᵀ,
    `square` Σ r x², each sum over images with responsibilities r.
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
        x: Images (n, …) in [0, 1], flattened to (n, d); or torch.uint8, levels from 0 to 255
            that mean 255ths, which are converted a chunk at a time and may lie in a file that is
            mapped into memory.
        components: K.
        latent: l, factors a component.
        seed: Of the k-means start and of re-seedings.
        isotropic: One noise variance a component instead of one a pixel.
        noise_floor: Smallest noise variance; by default that of 8-bit quantisation.
        max_iterations: Iterations at most; reaching them warns.
        tolerance: Stop when an iteration improves the log-likelihood by less, relatively.
        dtype: Of the products with the images. In float32 rounding may end a fit some iterations
            early, a few nats below where float64 gets.
        device: Where those products run.
        chunk: Images at a time; bounds the working memory.

    Raises:
        BayesgapError: images or settings that no density can be fitted to.
    """
    check_schedule(max_iterations, chunk, dtype, device)
    x = check_images(x, components, latent, noise_floor)
    generator = torch.Generator().manual_seed(seed)
    varying = varying_pixels(x, isotropic)
    constant = x.shape[1] - len(varying)
    constant_log_prob = -0.5 * constant * math.log(2 * math.pi * noise_floor)
    parameters = initialise(
        x, components, latent, isotropic=isotropic, noise_floor=noise_floor, seed=seed
    ).at(varying)
    workspace = torch.empty(2, min(chunk, len(x)), len(varying), dtype=dtype, device=device)
    history: list[float] = []
    reseeded: list[int] = []
    dropped: list[int] = []
    converged = False
    with progress("fitting by EM", max_iterations) as advance:
        for iteration in range(max_iterations):
            statistics, whitening = expectation(x, varying, parameters, workspace)
            history.append(statistics.log_likelihoods.mean().item() + constant_log_prob)
            advance(note=f"log-likelihood {history[-1]:.3f}")
            if len(history) > 1 and iteration - 1 not in {*reseeded, *dropped}:
                converged = history[-1] - history[-2] <= tolerance * abs(history[-1])
            if converged:
                break
            empty = statistics.outer[:, -1, -1] < EMPTY
            statistics, whitening = _without(empty, statistics, whitening)
            parameters = maximisation(
                statistics, whitening, isotropic=isotropic, noise_floor=noise_floor
            )
            if empty.any() and len(reseeded) >= RESEEDINGS:
                dropped.append(iteration)
            elif empty.any():
                reseeded.append(iteration)
                worst = statistics.log_likelihoods.argsort()[: int(empty.sum())]
                parameters = _with_new(
                    parameters,
                    unit_values(x[worst.to(x.device)][:, varying]),
                    pixel_variances(x, pixel_means(x))[varying.cpu()],
                    isotropic,
                    noise_floor,
                    generator,
                )
    if not converged:
        warnings.warn(
            f"EM stopped after {max_iterations} iterations before its relative improvement fell "
            f"below {tolerance:g}: raise max_iterations.",
            ConvergenceWarning,
            stacklevel=2,
        )
    if len(parameters.weights) < components:
        warnings.warn(
            f"{components - len(parameters.weights)} of {components} components stayed empty "
            "and were dropped: ask for fewer.",
            ConvergenceWarning,
            stacklevel=2,
        )
    parameters = _with_constant(parameters, unit_values(x[0]), varying, noise_floor)
    return Fit(parameters.density(), history, reseeded, dropped, converged)


def expectation(
    x: Float[Tensor, "n pixels"] | UInt8[Tensor, "n pixels"],
    varying: Int[Tensor, " d"],
    parameters: Parameters,
    workspace: Float[Tensor, "2 chunk d"],
) -> tuple[Statistics, Whitening]:
    """The E-step: responsibilities of all components for all images, summed up chunk by chunk.

    Of each image the pixels `varying` are seen; the parameters are theirs. The workspace says
    how many images a chunk has, and where and in which dtype the products run. It outlives the
    call because the page faults of a new one would cost as much as a product.
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
    for images in x.split(workspace.shape[1]):
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
    """The M-step: [A mu] by one joint regression on ũ, then D from what it leaves, in float64."""
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
    """The pixels that a fit has to see: with a D of their own, those with two values or more."""
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
