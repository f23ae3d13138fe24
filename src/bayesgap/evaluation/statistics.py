"""Intervals: bootstrap for means over seeds and points, Clopper and Pearson for shares."""

import numpy as np
from jaxtyping import Float
from scipy.stats import beta
from torch import Tensor

REPLICATES = 2_000
LEVEL = 0.95


def mean_with_interval(
    values: Float[Tensor, "seeds points"], *, seed: int = 0
) -> tuple[float | None, float | None, float | None]:
    """The mean of all values that are there, and its 95 % interval by a two-level bootstrap.

    Each replicate draws training seeds and, independently, points, with replacement: the same
    points were attacked under every seed, so the two levels are crossed.

    Args:
        values: One for each seed and point; NaN where there is none.
        seed: Of the replicates.

    Returns:
        Mean, lower and upper end; None where there are no values.
    """
    table = values.double().numpy()
    there = np.isfinite(table)
    if not there.any():
        return None, None, None
    filled = np.where(there, table, 0.0)
    means = _replicated(filled, there, seed)
    low, high = np.quantile(means[np.isfinite(means)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(filled.sum() / there.sum()), float(low), float(high)


def ratio_with_interval(
    numerator: Float[Tensor, "seeds points"],
    denominator: Float[Tensor, "more_seeds points"],
    *,
    seed: int = 0,
) -> tuple[float | None, float | None, float | None]:
    """The ratio of two means over the same points, and its 95 % interval.

    Both means are taken over the points where both have a value, and each replicate uses one
    draw of points for both; seeds are drawn separately.
    """
    top, bottom = numerator.double().numpy(), denominator.double().numpy()
    common = np.isfinite(top).any(axis=0) & np.isfinite(bottom).any(axis=0)
    if not common.any():
        return None, None, None
    top, bottom = top[:, common], bottom[:, common]
    parts = [
        (np.where(np.isfinite(table), table, 0.0), np.isfinite(table)) for table in (top, bottom)
    ]
    ratios = _replicated(*parts[0], seed) / _replicated(*parts[1], seed, other_seeds=True)
    low, high = np.quantile(ratios[np.isfinite(ratios)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    means = [filled.sum() / there.sum() for filled, there in parts]
    return float(means[0] / means[1]), float(low), float(high)


def _replicated(
    filled: np.ndarray, there: np.ndarray, seed: int, *, other_seeds: bool = False
) -> np.ndarray:
    """The means of bootstrap replicates, as products with how often each row and column fell.

    Two tables with the same seed share the draws of points; `other_seeds` tells whether their
    rows are drawn anew.
    """
    seeds, points = filled.shape
    for_points = np.random.default_rng([seed, 0])
    for_seeds = np.random.default_rng([seed, 2 if other_seeds else 1])
    columns = for_points.multinomial(points, np.full(points, 1 / points), size=REPLICATES)
    rows = for_seeds.multinomial(seeds, np.full(seeds, 1 / seeds), size=REPLICATES)
    totals = ((rows @ filled) * columns).sum(axis=1)
    counts = ((rows @ there.astype(float)) * columns).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return totals / counts


def binomial_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson for a share."""
    tail = (1 - LEVEL) / 2
    low = 0.0 if successes == 0 else beta.ppf(tail, successes, trials - successes + 1)
    high = 1.0 if successes == trials else beta.ppf(1 - tail, successes + 1, trials - successes)
    return float(low), float(high)
