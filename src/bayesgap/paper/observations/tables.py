"""Observations 3 and 4 (section 2 of the paper): tables of two features of 100 levels each."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bayesgap.densities.categorical import Categorical, table_decisions, table_radius
from bayesgap.tasks.symmetry import OUTLIER_WEIGHT

LEVELS = 100  # of each of two features, as in figures 2c and 2g
SPREADS = tuple(10 ** (-k / 2) for k in range(13))  # 1 … 1e-6


def two_tables(spread: float, *, symmetric: bool = False) -> tuple[Categorical, Categorical]:
    """Observation 3: of class 1 the first feature is nearly always 35; of class 2, anything.

    Args:
        spread: ε, the probability with which class 1's first feature is drawn from a broad bell
            around 35 instead.
        symmetric: Whether class 2's first feature is nearly always 65 in the same way, so that
            the smallest probabilities of both classes are about equal.
    """
    own = narrow_table(35, 45.0, spread)
    other = narrow_table(65, 55.0, spread) if symmetric else broad_table(65.0, 55.0)
    return Categorical(own), Categorical(other)


def two_table_mixtures(
    spread: float, *, symmetric: bool = False
) -> tuple[Categorical, Categorical]:
    """Observation 4: classes of two narrow tables each; class 2 has a broad one as well.

    Args:
        spread: ε, the probability with which a narrow table's first feature is drawn from a
            broad bell around its level instead.
        symmetric: Whether class 2's broad table is left out.
    """
    own = (narrow_table(20, 45.0, spread) + narrow_table(60, 55.0, spread)) / 2
    other = (narrow_table(40, 55.0, spread) + narrow_table(80, 45.0, spread)) / 2
    if not symmetric:
        other = (1 - OUTLIER_WEIGHT) * other + OUTLIER_WEIGHT * broad_table(50.0, 50.0)
    return Categorical(own), Categorical(other)


def narrow_table(level: int, centre: float, spread: float) -> Float[Tensor, "rows columns"]:
    """The first feature is nearly always at one level; the second is a bell.

    Args:
        level: The level of the first feature.
        centre: The level around which the second feature's bell lies.
        spread: ε, the probability with which the first feature is drawn from a broad bell around
            its level instead.
    """
    first = spread * bell(float(level), 8.0)
    first[level] += 1 - spread
    return first[:, None] * bell(centre, 12.0)


def broad_table(level: float, centre: float) -> Float[Tensor, "rows columns"]:
    """Both features are broad bells; every cell has a positive probability.

    Args:
        level: The level around which the first feature's bell lies.
        centre: The level around which the second feature's bell lies.
    """
    return bell(level, 20.0)[:, None] * bell(centre, 20.0)


def bell(centre: float, deviation: float) -> Float[Tensor, " levels"]:
    """A normal distribution's density at the levels, normalised over them.

    Args:
        centre: The distribution's mean, in levels.
        deviation: Its standard deviation, in levels.
    """
    levels = torch.arange(LEVELS, dtype=torch.float64)
    weights = (-0.5 * ((levels - centre) / deviation).square()).exp()
    return weights / weights.sum()


def within_a_step(classes: Sequence[Categorical]) -> list[dict[str, float]]:
    """How much of each class is one step away from another decision; exact, as tables are known.

    Args:
        classes: The table of each class.

    Returns:
        For each class the share that is decided "correct", and of what is decided correctly the
        share "one_step" whose radius is at most one step, and the "median" radius in steps.
    """
    radius, decided = table_radius(classes), table_decisions(classes)
    order = radius.flatten().argsort()
    records = []
    for label, density in enumerate(classes):
        mass = torch.where(decided == label, density.table, 0)
        sums = mass.flatten()[order].cumsum(dim=0)
        middle = order[torch.searchsorted(sums, sums[-1:] / 2)]
        records.append(
            {
                "correct": mass.sum().item(),
                "one_step": (mass[radius <= 1].sum() / mass.sum()).item(),
                "median": radius.flatten()[middle].item(),
            }
        )
    return records
