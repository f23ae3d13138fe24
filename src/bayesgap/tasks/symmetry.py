"""The paper's two variants of a task: equal minimal variances, or one broad outlier a class.

Appendix B.2 fixes the noise of the symmetric variant (a standard deviation of 0.001) and the
outliers' covariance and direction. It gives neither the outliers' weight nor how far their means
are moved: the defaults here, 1 % and one standard deviation of the data along that direction,
are ours.
"""

import warnings

import torch
from jaxtyping import Float, UInt8
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from bayesgap.densities.fitting import (
    CHUNK,
    ROUNDED,
    is_levels,
    pixel_means,
    principal_directions,
    unit_values,
)
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError
from bayesgap.tasks.checks import check_floating
from bayesgap.tasks.spread import Spread
from bayesgap.tasks.task import Task

NOISE_STD = 1e-3  # appendix B.2
OUTLIER_VARIANCE = 0.5  # appendix B.2: D = 0.5
OUTLIER_WEIGHT = 0.01  # ours
OUTLIER_MOVE = 1.0  # ours, in standard deviations of the data along the direction
DIRECTION_RANK = 50  # appendix B.2: the eigenvector of the 50th largest eigenvalue
DENSE = 5e10  # multiplications, up to which a full decomposition is affordable (all of MNIST: 4e10)


def symmetric(task: Task, *, noise_std: float = NOISE_STD) -> Task:
    """The task with every component's noise replaced by one small isotropic noise.

    Args:
        task: A task of mixtures of factor analyzers; its weights, means and factors are kept.
        noise_std: The standard deviation of every pixel's noise, in pixel units (0.001 in the
            paper).

    Raises:
        BayesgapError: a noise that is not positive, a task that has outliers already, or one of
            other densities.

    Example:
        >>> task = bayesgap.symmetric(bayesgap.load_task("mnist-0-6/fitted"), noise_std=0.5)
        >>> task.densities[0].noise.unique().tolist()
        [0.25]
    """
    if task.outliers is not None:
        raise BayesgapError(
            f"The task {task.name} has outliers already: make variants of the task without them."
        )
    if not noise_std > 0:
        raise BayesgapError(f"The noise's standard deviation must be positive; got {noise_std}.")
    densities = [
        MixtureOfFactorAnalyzers(
            density.weights,
            density.means,
            density.factors,
            torch.full_like(density.noise, noise_std**2),
        )
        for density in _mixtures(task)
    ]
    return _variant(task, "symmetric", densities, {"noise_std": noise_std})


def asymmetric(
    task: Task,
    *,
    noise_std: float = NOISE_STD,
    weight: float = OUTLIER_WEIGHT,
    variance: float = OUTLIER_VARIANCE,
    move: float = OUTLIER_MOVE,
) -> Task:
    """The symmetric variant plus one spherical outlier a class, N(m ± move · s · e, variance · I).

    Here m is the mean of the real images, e the direction of `task.spread` and s their standard
    deviation along it. Of two classes, the first gets the positive side; more are spaced evenly
    from +move to −move.

    Args:
        task: A task of mixtures of factor analyzers that knows its `spread`.
        noise_std: The standard deviation of every pixel's noise in all components but the
            outliers, in pixel units (0.001 in the paper).
        weight: The outlier's share of its class, between 0 and 1.
        variance: The outlier's variance of each pixel, in squared pixel units.
        move: How far the outliers' means are moved from m, in standard deviations of the data.

    Raises:
        BayesgapError: the task has no spread, has outliers already or has other densities, or an
            argument is out of range.

    Example:
        >>> task = bayesgap.asymmetric(bayesgap.load_task("mnist-0-6/fitted"), weight=0.125)
        >>> [density.weights[-1].item() for density in task.densities]
        [0.125, 0.125]
    """
    _mixtures(task)
    if task.spread is None:
        raise BayesgapError(
            f"The task {task.name} does not know its data's spread: give it one "
            "(principal_spread of its real images) before making it asymmetric."
        )
    if not 0 < weight < 1 or not variance > 0:
        raise BayesgapError(
            f"An outlier's weight lies between 0 and 1 and its variance is positive; "
            f"got {weight} and {variance}."
        )
    plain = symmetric(task, noise_std=noise_std)
    places = torch.linspace(move, -move, task.classes, dtype=torch.float64)
    densities = [
        _with_outlier(
            density,
            task.spread.mean + place * task.spread.deviation * task.spread.direction,
            weight,
            variance,
        )
        for density, place in zip(plain.mixtures, places, strict=True)
    ]
    settings = {"noise_std": noise_std, "weight": weight, "variance": variance, "move": move}
    outliers = [density.components for density in plain.mixtures]
    return _variant(task, "asymmetric", densities, settings, outliers)


def principal_spread(
    x: Float[Tensor, "n *image"] | UInt8[Tensor, "n *image"], *, rank: int = DIRECTION_RANK
) -> Spread:
    """The mean of images and the eigenvector of their covariance's rank-th largest eigenvalue.

    An eigenvector's sign means nothing; its largest entry is made positive.

    Args:
        x: Images (n, …): floats, or 8-bit levels from 0 to 255 that mean 255ths. Many images of
            many pixels are taken a chunk at a time, and may lie in a file that is mapped into
            memory.
        rank: Which eigenvalue, counted from the largest, which is number 1.

    Returns:
        The mean of the images, the direction, and the images' standard deviation along it.

    Raises:
        BayesgapError: fewer images or pixels than `rank`, or values that are no finite floats.

    Example:
        >>> x = torch.tensor([[-3.0, 0.0], [3.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
        >>> spread = bayesgap.principal_spread(x, rank=1)
        >>> spread.direction.round().tolist(), round(spread.deviation, 3)
        ([1.0, 0.0], 2.121)
    """
    if not (isinstance(x, Tensor) and is_levels(x)):
        check_floating(x)
    if not all(chunk.isfinite().all() for chunk in torch.split(x, CHUNK)):
        raise BayesgapError("Images with NaN or infinity have no principal directions.")
    points = x.detach().flatten(1)
    n, dimension = points.shape
    if not 1 <= rank <= min(n - 1, dimension):
        raise BayesgapError(f"{n} images of {dimension} values have no eigenvalue number {rank}.")
    if n * dimension * min(n, dimension) > DENSE:
        mean = pixel_means(points)
        directions, variances, residual = principal_directions(points, mean, rank)
        deviation = variances[-1].clamp(min=0).sqrt().item()
        if residual > ROUNDED:
            warnings.warn(
                f"The direction of eigenvalue number {rank} is not exact (its residual is "
                f"{residual:.1g} of the largest eigenvalue): its neighbours are too close to it.",
                ConvergenceWarning,
                stacklevel=2,
            )
    else:
        exact = unit_values(points).double()
        mean = exact.mean(dim=0)
        _, singular, directions = torch.linalg.svd(exact - mean, full_matrices=False)
        deviation = (singular[rank - 1] / n**0.5).item()
    direction = directions[rank - 1]
    direction = direction * direction[direction.abs().argmax()].sign()
    return Spread(mean, direction, deviation)


def _mixtures(task: Task) -> tuple[MixtureOfFactorAnalyzers, ...]:
    """The densities of a task that can have variants."""
    return task.mixtures_for("Variants exist", "give a task the densities that you mean")


def _with_outlier(
    density: MixtureOfFactorAnalyzers, mean: Float[Tensor, " d"], weight: float, variance: float
) -> MixtureOfFactorAnalyzers:
    return MixtureOfFactorAnalyzers(
        torch.cat([density.weights * (1 - weight), density.weights.new_tensor([weight])]),
        torch.cat([density.means, mean[None]]),
        torch.cat([density.factors, torch.zeros_like(density.factors[:1])]),
        torch.cat([density.noise, torch.full_like(density.noise[:1], variance)]),
    )


def _variant(
    task: Task,
    variant: str,
    densities: list[MixtureOfFactorAnalyzers],
    settings: dict[str, float],
    outliers: list[int] | None = None,
) -> Task:
    return Task(
        densities,
        image_shape=task.image_shape,
        priors=task.priors.tolist(),
        class_names=task.class_names,
        name=f"{task.name.rpartition('/')[0] or task.name}/{variant}",
        outliers=outliers,
        spread=task.spread,
        facts={**task.facts, "variant": settings},
    )
