"""Figure 8: a mixture of factor analyzers fitted to a noisy helix.

Every component is a Gaussian on a learned plane with noise along the axes added (equation 11).
The caption gives the latent dimension alone; the helix and the numbers of components are ours.
Of this helix the density is known up to one integral, so that what the fits lack of it is too:
the mean of log p − log q over held-out points estimates the divergence KL(p, q).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bayesgap.densities.em import fit_em
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.paper.claim import Interval
from bayesgap.paper.exhibit import Exhibit, Setting
from bayesgap.runs.stage import Stage, seed_of
from bayesgap.runs.store import Result

LATENT = 2  # figure 8
TURNS = 2.0  # of a helix of radius 1
RISE = 1.0  # from one turn to the next
NOISE_STD = 0.05  # along each axis
MIDPOINTS = 4_000  # of the integral along the helix: 6 of them to one standard deviation
CHUNK = 500  # points at a time
SHOWN = 12  # components in the picture
POINTS_SHOWN = 1_000
SIZES: dict[str, dict[str, Any]] = {
    "quick": {"images": 1_000, "held_out": 1_000, "components": (1, 4, SHOWN)},
    "default": {"images": 5_000, "held_out": 5_000, "components": (1, 2, 4, 8, SHOWN, 16, 24, 32)},
    "paper": {
        "images": 50_000,
        "held_out": 20_000,
        "components": (1, 2, 4, 8, SHOWN, 16, 24, 32, 64),
    },
}


def curve(angle: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """The helix at angles in radians, from 0 to 2π TURNS."""
    return torch.stack([angle.cos(), angle.sin(), RISE * angle / (2 * math.pi)], dim=1)


def sample_helix(n: int, *, seed: int) -> Float[Tensor, "n 3"]:
    """Points along the helix, uniformly, with spherical noise."""
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

    Returns:
        As tensors, "fit" and "truth" (held_out,), log-densities in nats, the first training
        points "x" and the outlines "ellipses" of `ellipses`. As values, the number of
        "components" that the fit has and of "iterations".
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


def log_likelihood(result: Result, name: str = "fit") -> Interval:
    """Mean log-density of the held-out points, of a "fit" or the "truth"."""
    return mean_with_interval(result.tensors[name][None])


def divergence(result: Result) -> Interval:
    """KL(p, q) in nats of a fit q from the helix's own density p."""
    return mean_with_interval((result.tensors["truth"] - result.tensors["fit"])[None])


def stages(setting: Setting) -> dict[str, Stage]:
    """One fit for each number of components."""
    size = dict(SIZES[setting.scale])
    numbers = size.pop("components")
    draw = {**size, "sample_seed": seed_of("fig8", setting.seed)}
    return {
        str(number): Stage(
            "helix",
            study_helix,
            {"components": number, **draw},
            label=f"figure 8, {number} components",
        )
        for number in numbers
    }


def fits(found: Mapping[str, Result]) -> list[Result]:
    """In order of the number of components that was asked for."""
    return [found[name] for name in sorted(found, key=int)]


EXHIBIT = Exhibit(
    name="fig8",
    title="A mixture of factor analyzers fitted to a helix",
    needs="nothing but the package",
    stages=stages,
)
