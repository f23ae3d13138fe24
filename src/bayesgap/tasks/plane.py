"""The Gaussian tasks of figure 2: two features, so that a picture shows all there is to see.

The paper gives drawings; layouts and sizes are ours. A task of the top row is symmetric: the
smallest variance is the same everywhere. The one below it, its sibling, keeps the means and
changes nothing but variances, or adds a rare component. Units are those of the features; classes
are about 1 apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.tasks.symmetry import OUTLIER_WEIGHT
from bayesgap.tasks.task import Task

IMAGE_SHAPE = (1, 1, 2)
NARROW = 0.005  # standard deviations
ROUND = 0.1
LONG = 0.15
BROAD = 0.3
TILT = math.radians(20)  # of the narrow direction in b and f
OUTLIER_STD = 1.0
OUTLIER_MOVE = 0.35  # of each outlier's mean from the middle, along both features


@dataclass(frozen=True)
class Ellipse:
    """A Gaussian of the plane.

    Attributes:
        mean: Its mean, one value for each feature.
        narrow: Its smaller standard deviation, in the units of the features.
        wide: Its larger standard deviation, across the narrow direction.
        angle: The angle between its narrow direction and the first feature, in radians.
        weight: Its share of its class, as one component of a mixture.
    """

    mean: tuple[float, float]
    narrow: float
    wide: float
    angle: float = 0.0
    weight: float = 1.0


def plane_task(classes: Sequence[Sequence[Ellipse]], name: str, *, outliers: bool = False) -> Task:
    """A task of mixtures in the plane, images (1, 1, 2), equal priors.

    Args:
        classes: The components of each class.
        name: What results call the task.
        outliers: Whether the last component of each class is its outlier.

    Raises:
        BayesgapError: fewer than two classes, or deviations or weights that are none.
    """
    return Task(
        [_density(parts) for parts in classes],
        image_shape=IMAGE_SHAPE,
        name=name,
        outliers=[len(parts) - 1 for parts in classes] if outliers else None,
    )


def spheres(first: float = ROUND, second: float = ROUND, *, name: str = "plane/a") -> Task:
    """Figures 2a and 2e: two spherical Gaussians, their means 1 apart.

    Args:
        first: The standard deviation of the first class along any direction.
        second: The standard deviation of the second class along any direction.
        name: What results call the task.
    """
    places = ((-0.5, 0.0), (0.5, 0.0))
    stds = (first, second)
    parts = [[Ellipse(place, std, std)] for place, std in zip(places, stds, strict=True)]
    return plane_task(parts, name)


def bars(*, broad: bool = False, tilt: float = TILT, name: str = "plane/b") -> Task:
    """Figures 2b and 2f: a Gaussian narrow along one direction, and another 1 away.

    Args:
        broad: Whether that other one is spherical and broad, instead of equally narrow.
        tilt: The angle between the narrow direction and the line between the means, in radians.
        name: What results call the task.
    """
    own = Ellipse((-0.5, 0.0), NARROW, LONG, tilt)
    twin = Ellipse((0.5, 0.0), NARROW, LONG, tilt)
    other = Ellipse((0.5, 0.0), BROAD, BROAD)
    return plane_task([[own], [other if broad else twin]], name)


def mixtures(outlier_move: float | None = None, *, name: str = "plane/d") -> Task:
    """Figures 2d and 2h: mixtures of two bars a class, the four sides of a square.

    The first class has the top and the right side, the second the bottom and the left one. With
    an outlier in each class, points near one of a class's bars are decided by whose outlier is
    likelier there. Only where that is the other class's is the boundary close; by default it is
    so for all bars of both classes.

    Args:
        outlier_move: Where given, each class gets a rare broad spherical Gaussian, its mean this
            far from the middle along both features: towards the other class where positive,
            towards its own where negative.
        name: What results call the task.
    """
    side, share = math.pi / 2, 0.5 if outlier_move is None else (1 - OUTLIER_WEIGHT) / 2
    classes = []
    for sign in (1, -1):
        upright = Ellipse((0.5 * sign, 0.0), NARROW, LONG, 0.0, share)
        lying = Ellipse((0.0, 0.5 * sign), NARROW, LONG, side, share)
        parts = [lying, upright]
        if outlier_move is not None:
            place = -sign * outlier_move
            parts.append(Ellipse((place, place), OUTLIER_STD, OUTLIER_STD, weight=OUTLIER_WEIGHT))
        classes.append(parts)
    return plane_task(classes, name, outliers=outlier_move is not None)


def plane_tasks() -> dict[str, Task]:
    """The Gaussian tasks of figure 2, under the letters of its panels; c and g are tables."""
    return {
        "a": spheres(),
        "b": bars(),
        "d": mixtures(),
        "e": spheres(NARROW, BROAD, name="plane/e"),
        "f": bars(broad=True, name="plane/f"),
        "h": mixtures(OUTLIER_MOVE, name="plane/h"),
    }


def _density(parts: Sequence[Ellipse]) -> MixtureOfFactorAnalyzers:
    """One factor lengthens each component across its narrow direction."""
    across = [(-math.sin(part.angle), math.cos(part.angle)) for part in parts]
    lengths = [math.sqrt(part.wide**2 - part.narrow**2) for part in parts]
    return MixtureOfFactorAnalyzers(
        torch.tensor([part.weight for part in parts], dtype=torch.float64),
        torch.tensor([part.mean for part in parts], dtype=torch.float64),
        torch.tensor(
            [[[length * x], [length * y]] for length, (x, y) in zip(lengths, across, strict=True)],
            dtype=torch.float64,
        ),
        torch.tensor([[part.narrow**2] * 2 for part in parts], dtype=torch.float64),
    )
