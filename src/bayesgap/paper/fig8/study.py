"""The stage of figure 8: a noisy helix, and a mixture of factor analyzers fitted to it.

The caption gives the latent dimension alone; the helix is ours. Its density is known up to one
integral.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from bayesgap.densities.em import fit_em
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.runs.stage import seed_of
from bayesgap.runs.store import Result

LATENT = 2  # figure 8
TURNS = 2.0  # of a helix of radius 1
RISE = 1.0  # from one turn to the next
NOISE_STD = 0.05  # along each axis
MIDPOINTS = 4_000  # of the integral along the helix: 6 of them to one standard deviation
CHUNK = 500  # points at a time
POINTS_SHOWN = 1_000


def curve(angle: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """The helix at angles in radians, from 0 to 2π TURNS."""
    return torch.stack([angle.cos(), angle.sin(), RISE * angle / (2 * math.pi)], dim=1)


def sample_helix(n: int, *, seed: int) -> Float[Tensor, "n 3"]:
    """Points along the helix, uniformly, with spherical noise.

    Args:
        n: The number of points.
        seed: The seed of the points.
    """
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * TURNS * torch.rand(n, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return curve(angle) + NOISE_STD * noise


def helix_log_prob(x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """log p(x) in nats of what `sample_helix` draws, by the midpoint rule along the helix."""
    angle = 2 * math.pi * TURNS * (torch.arange(MIDPOINTS).double() + 0.5) / MIDPOINTS
    constant = 1.5 * math.log(2 * math.pi * NOISE_STD**2) + math.log(MIDPOINTS)
    squared = [torch.cdist(part, curve(angle)).square() for part in x.split(CHUNK)]
    return torch.cat([(-s / (2 * NOISE_STD**2)).logsumexp(dim=1) for s in squared]) - constant


def ellipses(density: MixtureOfFactorAnalyzers, corners: int = 48) -> Float[Tensor, "K corners 3"]:
    """Outlines of all components: 2 standard deviations on the plane of the factors.

    Within its plane a component has the covariance UᵀΣU, where the columns of U are an
    orthonormal basis of the factors' span.

    Args:
        density: A mixture of points in space.
        corners: The number of points of each outline, the first of which is also the last.
    """
    turns = torch.linspace(0, 2 * math.pi, corners, dtype=torch.float64)
    circle = torch.stack([turns.cos(), turns.sin()], dim=1)
    outlines = []
    for k, (mean, factors) in enumerate(zip(density.means, density.factors, strict=True)):
        basis = torch.linalg.qr(factors)[0]
        values, axes = torch.linalg.eigh(basis.mT @ density.covariance(k) @ basis)
        outlines.append(mean + 2 * (circle * values.sqrt()) @ (basis @ axes).mT)
    return torch.stack(outlines)


def study_helix(
    *, components: int, images: int, held_out: int, sample_seed: int, seed: int
) -> Result:
    """Fit by EM, and compare with the helix's own density on held-out points.

    Points depend on `sample_seed` alone: all fits are to the same ones.

    Args:
        components: The number of components to fit.
        images: The number of points to fit to.
        held_out: The number of points to compare on.
        sample_seed: The seed of the run's samples.
        seed: The stage's seed, which the fit begins with.

    Returns:
        As tensors, the log-densities "fit" and "truth" of the held-out points (held_out,), in
        nats, the first of the points that were fitted to, "x" (n, 3), and the outlines of all
        components, "ellipses" (components, corners, 3). As values, the number of "components"
        that the fit has, and the number of "iterations" that it took.
    """
    x = sample_helix(images, seed=seed_of("helix", sample_seed))
    unseen = sample_helix(held_out, seed=seed_of("held out", sample_seed))
    fit = fit_em(x, components, LATENT, seed=seed, dtype=torch.float64, max_iterations=1_000)
    return Result(
        {
            "fit": fit.density.log_prob(unseen),
            "truth": helix_log_prob(unseen),
            "x": x[:POINTS_SHOWN],
            "ellipses": ellipses(fit.density),
        },
        {"components": fit.density.components, "iterations": len(fit.log_likelihoods)},
    )
