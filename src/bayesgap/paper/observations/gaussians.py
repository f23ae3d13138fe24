"""Observations 1 and 2 (section 2 of the paper): Gaussians of which some are narrow along d.

The decision boundary along d, derived. Write x = (t, s) with t along d, a unit vector, and s
orthogonal to it. Under class 1, t and s are independent and t is N(t₁, σ₁²). Under class 2, t
given s is N(τ(s), ω²), where ω² = 1/(dᵀΣ₂⁻¹d) does not depend on s. With δ = t − t₁ and
g = (t₁ − τ(s))/ω² = dᵀΣ₂⁻¹((t₁, s) − μ₂), twice the log odds of class 1 over class 2 are

    L(s) + 2gδ − aδ²,    a = 1/σ₁² − 1/ω²,    L(s) = 2 log [P(1) p₁(t₁, s) / P(2) p₂(t₁, s)].

This is exact, no term was dropped. Where L(s) > 0 and σ₁ < ω, it changes sign on either side of
t₁, at the distances

    L / (√(g² + aL) ∓ g) = σ₁√L ± σ₁²g + O(σ₁³).

With L(s) = log(σ₂²/σ₁²) + C(s), where σ₂² = dᵀΣ₂d and, for equal priors,

    C(s) = 2 log p₁(s) − 2 log p₂(s | t₁) + (t₁ − t₂)²/σ₂²,

the boundary is at σ₁√(log(σ₂²/σ₁²) + C(s)) from t₁ but for a relative error σ₁g/√L. A sample is
itself |t − t₁| away from t₁, of the order of σ₁, so that the distance from it to the boundary
along d is σ₁√L − |t − t₁|. Motion along d alone bounds the radius from above; the boundary's
slope in s is of the order of σ₁, so that nothing shorter than 1 − O(σ₁²) of it exists.

Of equation 1 of the paper, the right side should be 2(log p₁(s) − log p₂(s | t)), that is, −2
times what is printed. Equations 2 and 4 lack the factor 1/σ₂² on Σ₂ˢᵗ(t − t₂), and "σ₂ = dᵀΣ₂d"
defines σ₂². Equation 6 freezes t = t₁ in p₂(s | t), but not in the terms of N(t; t₂, σ₂²) beside
it: its root is right in the limit, but of its terms in t those of class 2 are not, so they may as
well be dropped. In C(s) of mixtures, weights count: 2 log (π₁ₖ/π₂ⱼ) is part of it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.radius.certify import certify
from bayesgap.tasks.symmetry import OUTLIER_VARIANCE, OUTLIER_WEIGHT
from bayesgap.tasks.task import Task

DIMENSION = 10
GAP = 1.0  # between neighbouring components along d, ten times the largest σ₁
OUTLIER_MOVE = 0.5  # of each outlier's mean from the middle of the data
BEYOND = 1e-6  # relative: how far behind a crossing the decision is looked at
DISTANCES = ("lower", "upper", "along", "rate")
RATIOS = (
    ("upper", "lower"),
    ("upper", "along"),
    ("along", "predicted"),
    ("upper", "predicted"),
    ("upper", "rate"),
)
NEAR = 2  # a radius within so many times the distance along d goes to 0 with it
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Scene:
    """A task of two classes, of which the first has components that are narrow along d.

    Attributes:
        task: A task of two mixtures, as images (1, 1, d).
        direction: d, a unit vector.
        sigma: σ₁, the standard deviation of the narrow components along d, in units of x.
        narrow: The number of class 1's narrow components, which come first.
    """

    task: Task
    direction: Float[Tensor, " d"]
    sigma: float
    narrow: int


@dataclass(frozen=True)
class Along:
    """The boundary along d as seen from points of class 1.

    Attributes:
        offset: t − t₁ of each point, in units of x.
        level: L(s) of each point, in nats; class 2 is its component that is reached first.
        constant: C(s) of each point, in nats; class 2 is its component that is reached first.
        up: The distance of the crossing in the direction of d from t₁, in units of x.
        down: The distance of the crossing in the opposite direction from t₁, in units of x.
        move: The signed distance along d from each point to its nearer crossing, in units of x.
    """

    offset: Float[Tensor, " n"]
    level: Float[Tensor, " n"]
    constant: Float[Tensor, " n"]
    up: Float[Tensor, " n"]
    down: Float[Tensor, " n"]
    move: Float[Tensor, " n"]


@dataclass(frozen=True)
class _Part:
    """One component.

    Attributes:
        weight: The component's share of its class.
        mean: The component's mean, in units of x.
        factors: The component's factors, one in each column, in units of x.
        variance: The variance that its noise has along every axis.
    """

    weight: float
    mean: Float[Tensor, " d"]
    factors: Float[Tensor, "d l"]
    variance: float


def two_gaussians(sigma: float, *, seed: int, symmetric: bool = False) -> Scene:
    """Observation 1: N(μ₁, Σ₁) of variance σ₁² along d against N(μ₂, Σ₂) of full rank.

    Args:
        sigma: σ₁, the standard deviation of class 1 along d, below 0.3.
        seed: The seed of means and covariances, which but for σ₁ itself are the same at every σ₁.
        symmetric: Whether class 2 has the same variance σ₁² along d, 1 away from class 1.
    """
    generator = torch.Generator().manual_seed(seed)
    basis = _rotation(DIMENSION, generator)
    own, twin = (_narrow(1.0, basis, place, sigma, generator) for place in (0.0, GAP))
    mean = basis @ torch.cat([torch.tensor([GAP / 2]).double(), _centre(generator)])
    factors = 0.4 * _normal(generator, DIMENSION, DIMENSION - 1)
    other = twin if symmetric else _Part(1.0, mean, factors, 0.3**2)
    return _scene([own], [other], basis, sigma)


def two_mixtures(sigma: float, *, seed: int, outliers: tuple[bool, bool] = (False, True)) -> Scene:
    """Observation 2: mixtures of narrow components, and an outlier much broader than they are.

    Each class has two components of variance σ₁² along d, stacked 1 apart in turn. By default
    class 2 also has the outlier; that is what the Observation assumes. With one in each class
    the task is that of figure 2h and of the paper's asymmetric tasks.

    Args:
        sigma: σ₁, the standard deviation of narrow components along d, below 0.3.
        seed: The seed of means and covariances, which but for σ₁ itself are the same at every σ₁.
        outliers: For each class, whether it has an outlier.
    """
    generator = torch.Generator().manual_seed(seed)
    basis = _rotation(DIMENSION, generator)
    shares = [(1 - OUTLIER_WEIGHT * has) / 2 for has in outliers]
    classes = [
        [_narrow(share, basis, GAP * place, sigma, generator) for place in (label, label + 2)]
        for label, share in enumerate(shares)
    ]
    middle = torch.stack([part.mean for parts in classes for part in parts]).mean(dim=0)
    factors = torch.zeros(DIMENSION, DIMENSION - 1, dtype=torch.float64)
    for parts, has, side in zip(classes, outliers, (OUTLIER_MOVE, -OUTLIER_MOVE), strict=True):
        if has:
            mean = middle + side * basis[:, 1]
            parts.append(_Part(OUTLIER_WEIGHT, mean, factors, OUTLIER_VARIANCE))
    return _scene(classes[0], classes[1], basis, sigma)


def _narrow(
    weight: float,
    basis: Float[Tensor, "d d"],
    place: float,
    sigma: float,
    generator: torch.Generator,
) -> _Part:
    """A Gaussian around t = place whose covariance of s is random, and the same for every σ₁."""
    centre = _centre(generator)
    deviations = 0.3 + 0.7 * torch.rand(DIMENSION - 1, generator=generator, dtype=torch.float64)
    axes = basis[:, 1:] @ _rotation(DIMENSION - 1, generator)
    factors = axes * (deviations.square() - sigma**2).sqrt()  # the noise adds σ₁² along all axes
    return _Part(weight, place * basis[:, 0] + basis[:, 1:] @ centre, factors, sigma**2)


def _scene(
    own: Sequence[_Part], other: Sequence[_Part], basis: Float[Tensor, "d d"], sigma: float
) -> Scene:
    densities = [
        MixtureOfFactorAnalyzers(
            torch.tensor([part.weight for part in parts], dtype=torch.float64),
            torch.stack([part.mean for part in parts]),
            torch.stack([part.factors for part in parts]),
            torch.tensor([[part.variance] * DIMENSION for part in parts], dtype=torch.float64),
        )
        for parts in (own, other)
    ]
    narrow = sum(part.variance == sigma**2 for part in own)
    return Scene(Task(densities, image_shape=(1, 1, DIMENSION)), basis[:, 0], sigma, narrow)


def _centre(generator: torch.Generator) -> Float[Tensor, " s"]:
    return 0.5 * _normal(generator, DIMENSION - 1)


def _rotation(size: int, generator: torch.Generator) -> Float[Tensor, "size size"]:
    rotation: Tensor = torch.linalg.qr(_normal(generator, size, size))[0]
    return rotation


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def points_of(scene: Scene, n: int, *, seed: int) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
    """Points of class 1's narrow components, and which of them each came from.

    Args:
        scene: The task that the points are drawn from.
        n: The number of points.
        seed: The seed of the points.

    Returns:
        The points, (n, d), and for each the index of its component.
    """
    generator = torch.Generator().manual_seed(seed)
    x, component = scene.task.mixtures[0].sample_with_components(2 * n, generator=generator)
    chosen = (component < scene.narrow).nonzero().flatten()[:n]
    return x[chosen], component[chosen]


def along(scene: Scene, x: Float[Tensor, "n d"], component: Int[Tensor, " n"]) -> Along:
    """The nearest boundary along d between the own component and one of class 2, in closed form.

    Exact for two Gaussians. For mixtures it neglects the other components of class 1, and of
    class 2 all but the one that is reached first, which well separated components allow; whether
    the decision has indeed changed there is to be checked (`approach` does).

    Args:
        scene: The task that the points are of; along d no component of class 2 may be narrower
            than those that the points came from.
        x: Points that are decided correctly; of others the distances are meaningless.
        component: The index of the component of class 1 that each point came from.
    """
    own, other = scene.task.mixtures
    d = scene.direction
    offset = (x - own.means[component]) @ d
    foot = x - offset[:, None] * d  # (t₁, s)
    height = own.component_log_prob(foot).gather(1, component[:, None])
    odds = scene.task.priors.log() @ torch.tensor([1.0, -1.0]).double()
    level = 2 * (height - other.component_log_prob(foot) + odds)  # (n, components of class 2)
    loadings = other.whitening.projections[:, :-1]
    inverse = d / other.noise - (loadings.mT @ (loadings @ d[:, None])).squeeze(2)  # Σ₂⁻¹d
    slope = ((foot[:, None] - other.means) * inverse).sum(dim=2)  # g
    curvature = 1 / scene.sigma**2 - inverse @ d  # a
    root = (slope.square() + curvature * level).clamp(min=0).sqrt()
    up, down = (
        torch.where(reach > 0, level / reach, torch.inf) for reach in (root - slope, root + slope)
    )
    ahead, behind = up - offset[:, None], down + offset[:, None]
    first = torch.minimum(ahead, behind).argmin(dim=1, keepdim=True)
    variance = other.noise @ d.square() + (other.factors.mT @ d).square().sum(dim=1)  # σ₂²
    constant = level - (variance / scene.sigma**2).log()
    level, constant, up, down, ahead, behind = (
        table.gather(1, first).squeeze(1) for table in (level, constant, up, down, ahead, behind)
    )
    move = torch.where(ahead < behind, ahead, -behind)
    return Along(offset, level, constant, up, down, move)


def approach(
    scene_of: Callable[[float], Scene], sigmas: Sequence[float], n: int, *, seed: int
) -> dict[str, Tensor]:
    """Observations 1 and 2: the radius of points of class 1 as σ₁ → 0, beside what is predicted.

    Args:
        scene_of: Gives the task at a σ₁.
        sigmas: The values of σ₁, in units of x.
        n: The number of points; they are made of the same random numbers at every σ₁.
        seed: The seed of the points.

    Returns:
        Tables (sigmas, n), NaN for points that are not decided correctly: "lower" and "upper",
        the certified bracket of the radius; "along", the distance to the boundary along d;
        "rate", σ₁√L(s); "predicted", σ₁√L(s) − |t − t₁| (all of these in units of x);
        "constant", C(s) in nats; "flips", 1 where the decision has changed just behind the
        boundary along d, else 0; "residual", how many nats the true log odds are away from 0
        upon that boundary.
    """
    rows = []
    for sigma in sigmas:
        scene = scene_of(sigma)
        x, component = points_of(scene, n, seed=seed)
        images = x.reshape(-1, *scene.task.image_shape)
        bracket = certify(scene.task, images, torch.zeros(n, dtype=torch.int64))
        line = along(scene, x, component)
        rate = sigma * line.level.clamp(min=0).sqrt()
        row = {
            "lower": bracket.lower,
            "upper": bracket.upper,
            "along": line.move.abs(),
            "rate": rate,
            "predicted": rate - line.offset.abs(),
            "constant": line.constant,
            "flips": (_log_odds(scene, x, (1 + BEYOND) * line.move) < 0).double(),
            "residual": _log_odds(scene, x, line.move).abs(),
        }
        rows.append({k: torch.where(bracket.correct, v, torch.nan) for k, v in row.items()})
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _log_odds(
    scene: Scene, x: Float[Tensor, "n d"], move: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    moved = x + move[:, None] * scene.direction
    own, other = scene.task.log_posterior(moved.reshape(-1, *scene.task.image_shape)).unbind(dim=1)
    return own - other


def summary(sigmas: Sequence[float], tables: Mapping[str, Tensor]) -> dict[str, Any]:
    """What an approach's tables say, as numbers.

    Args:
        sigmas: The values of σ₁, in units of x.
        tables: What `approach` found at these σ₁, by name; each table is (sigmas, points).

    Returns:
        A record for each σ₁, over the points that are decided correctly: quantiles of distances,
        of their ratios and of C(s), None where infinite; "flipped_along", the share whose
        decision changes along d where predicted, and of these the shares for which that bounds
        the radius's bracket from above; "near", the share with a radius of at most twice the
        distance along d. And "slopes", of the medians' logarithms over that of σ₁: 1 but for the
        logarithm in the rate.
    """
    records: list[dict[str, Any]] = []
    for row, sigma in enumerate(sigmas):
        good = tables["along"][row].isfinite()
        at = {name: table[row][good] for name, table in tables.items()}
        flips = at["flips"] > 0
        reached = (1 + 2 * BEYOND) * at["along"][flips]
        ratios = {
            f"{above}_over_{below}": _quantiles(at[above] / at[below]) for above, below in RATIOS
        }
        records.append(
            {
                "sigma": sigma,
                "correct": int(good.sum()),
                **{name: _quantiles(at[name]) for name in (*DISTANCES, "constant")},
                **ratios,
                "flipped_along": _share(flips),
                "lower_within_along": _share(at["lower"][flips] <= reached),
                "upper_within_along": _share(at["upper"][flips] <= reached),
                "near": _share(at["upper"] <= NEAR * at["along"]),
                "residual_nats": at["residual"].max().item() if good.any() else None,
            }
        )
    return {
        "records": records,
        "slopes": {
            name: slope(sigmas, [record[name][1] for record in records]) for name in DISTANCES
        },
    }


def slope(sigmas: Sequence[float], distances: Sequence[float | None]) -> float | None:
    """The least-squares slope of log distance over log σ₁; None where a distance is."""
    if None in distances:
        return None
    x, y = (torch.tensor(v, dtype=torch.float64).log() for v in (sigmas, distances))
    x, y = x - x.mean(), y - y.mean()
    return ((x @ y) / (x @ x)).item()


def _share(which: Bool[Tensor, " n"]) -> float | None:
    return which.double().mean().item() if len(which) else None


def _quantiles(values: Float[Tensor, " n"]) -> list[float | None]:
    """None where there are no values, or infinite ones, which JSON cannot hold."""
    if not len(values):
        return [None] * len(QUANTILES)
    found = torch.quantile(values, torch.tensor(QUANTILES, dtype=values.dtype)).tolist()
    return [value if math.isfinite(value) else None for value in found]
