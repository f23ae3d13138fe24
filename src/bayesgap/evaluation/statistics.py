"""Intervals: bootstrap for means over seeds and points, Clopper and Pearson for shares.

A bootstrap over a handful of trainings is too narrow: it never draws one worse than the worst it
has seen. Where several trainings are averaged, the interval is therefore at least Student's over
the trainings.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Float
from scipy.stats import beta
from scipy.stats import t as student
from torch import Tensor

from bayesgap.estimates import UNKNOWN, Estimate

REPLICATES = 2_000
TAILS = (0.025, 0.975)  # of a 95 % interval


def mean_with_interval(
    values: Float[Tensor, "seeds points"],
    *,
    weights: Float[Tensor, " points"] | None = None,
    seed: int = 0,
) -> Estimate:
    """The mean of all values that are there, and its 95 % interval over seeds and points.

    The wider of two: a two-level bootstrap, each of whose replicates draws training seeds and,
    independently, points, with replacement (the same points were attacked under every seed, so
    the two levels are crossed), and Student's over the means of the seeds.

    Args:
        values: One for each seed and point; NaN where there is none.
        weights: What each point counts for, positive; by default all count alike.
        seed: Seed of the random generator that draws the replicates.

    Returns:
        Mean, lower and upper end; None where there are no values.
    """
    table = values.double().numpy()
    there = np.isfinite(table)
    if not there.any():
        return UNKNOWN
    share = np.ones(table.shape[1]) if weights is None else weights.double().numpy()
    filled, there = np.where(there, table, 0.0) * share, there * share
    rows, columns = _draws(len(table), seed, 1), _draws(table.shape[1], seed, 0)
    with np.errstate(invalid="ignore"):
        means = ((rows @ filled) * columns).sum(axis=1) / ((rows @ there) * columns).sum(axis=1)
    low, high = np.quantile(means[np.isfinite(means)], TAILS)
    with np.errstate(invalid="ignore"):
        by_seed = filled.sum(axis=1) / there.sum(axis=1)
    return Estimate(float(filled.sum() / there.sum()), *_widened(low, high, by_seed))


def ratio_with_interval(
    numerator: Float[Tensor, "seeds points"],
    denominator: Float[Tensor, "more_seeds points"],
    *,
    weights: Float[Tensor, " points"] | None = None,
    seed: int = 0,
) -> Estimate:
    """The ratio of two means over the points where both have a value, and its 95 % interval.

    Of sizes, which are not negative: the interval is cut off at 0. Each seed of the one is paired
    with each of the other, and a point counts for a pair only where both have a value, so that
    the two means are over the same points. Each replicate draws the points once for both, and the
    seeds of either side separately. The interval is no narrower than Student's over the ratios of
    either side's seeds, nor than Welch's over both.

    Args:
        numerator: The values above, NaN where there is none.
        denominator: The values below, at the same points, NaN where there is none.
        weights: What each point counts for, positive; by default all count alike.
        seed: Seed of the random generator that draws the replicates.

    Returns:
        Ratio, lower and upper end; None where no point has both values.
    """
    share = np.ones(numerator.shape[1]) if weights is None else weights.double().numpy()
    sides = []
    for table in (numerator.double().numpy(), denominator.double().numpy()):
        there = np.isfinite(table)
        sides.append((np.where(there, table, 0.0), there.astype(float)))
    (top, top_there), (bottom, bottom_there) = sides

    def ratios(rows: np.ndarray, others: np.ndarray, points: np.ndarray) -> np.ndarray:
        points = points * share
        above = (points * (rows @ top) * (others @ bottom_there)).sum(axis=1)
        below = (points * (rows @ top_there) * (others @ bottom)).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            quotients: np.ndarray = above / below
        return quotients

    once = [np.ones((1, size)) for size in (len(top), len(bottom), top.shape[1])]
    ratio = float(ratios(once[0], once[1], once[2])[0])
    if not np.isfinite(ratio):
        return UNKNOWN
    replicates = ratios(
        _draws(len(top), seed, 1), _draws(len(bottom), seed, 2), _draws(top.shape[1], seed, 0)
    )
    low, high = np.quantile(replicates[np.isfinite(replicates)], TAILS)
    sides_alone = (
        ratios(np.eye(len(top)), once[1], once[2]),
        ratios(once[0], np.eye(len(bottom)), once[2]),
    )
    for by_seed in sides_alone:
        low, high = _widened(low, high, by_seed)
    low, high = _widened_by_both(low, high, ratio, *sides_alone)
    return Estimate(ratio, max(0.0, low), high)


def paired_ratio_with_interval(
    numerator: Float[Tensor, "seeds points"],
    denominator: Float[Tensor, "more_seeds points"],
    *,
    seed: int = 0,
) -> Estimate:
    """The ratio of two means where seed i of either side was trained on the same images.

    Of sizes, as in `ratio_with_interval`. What differs from training to training in both alike
    does not widen the interval: seeds are drawn for both at once, and Student's is over the ratios
    of the pairs. Of the side with more seeds the first count.
    """
    pairs = min(len(numerator), len(denominator))
    top, bottom = (table[:pairs].double().numpy() for table in (numerator, denominator))
    there = np.isfinite(top) & np.isfinite(bottom)
    if not there.any():
        return UNKNOWN
    top, bottom = (np.where(there, table, 0.0) for table in (top, bottom))
    rows, columns = _draws(pairs, seed, 1), _draws(top.shape[1], seed, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = ((rows @ top) * columns).sum(axis=1) / ((rows @ bottom) * columns).sum(axis=1)
        by_pair = top.sum(axis=1) / bottom.sum(axis=1)
    low, high = np.quantile(replicates[np.isfinite(replicates)], TAILS)
    low, high = _widened(low, high, by_pair)
    return Estimate(float(top.sum() / bottom.sum()), max(0.0, low), high)


def _widened(low: float, high: float, by_seed: np.ndarray) -> tuple[float, float]:
    """An interval that holds Student's 95 % interval over what each training gave."""
    known = by_seed[np.isfinite(by_seed)]
    if len(known) > 1:
        reach = student.ppf(TAILS[1], len(known) - 1) * known.std(ddof=1) / len(known) ** 0.5
        low, high = min(low, known.mean() - reach), max(high, known.mean() + reach)
    return float(low), float(high)


def _widened_by_both(
    low: float, high: float, ratio: float, *sides: np.ndarray
) -> tuple[float, float]:
    """An interval that holds Welch's 95 % interval, where both sides vary with their seeds.

    To first order the ratio varies by the sum of what it varies by with either side's seeds; the
    degrees of freedom are those of Welch and Satterthwaite.
    """
    known = [side[np.isfinite(side)] for side in sides]
    if min(map(len, known)) < 2:
        return low, high
    squares = np.array([side.var(ddof=1) / len(side) for side in known])
    if not squares.sum() > 0:
        return low, high
    freedom = squares.sum() ** 2 / sum(
        square**2 / (len(side) - 1) for square, side in zip(squares, known, strict=True)
    )
    reach = float(student.ppf(TAILS[1], freedom) * squares.sum() ** 0.5)
    return min(low, ratio - reach), max(high, ratio + reach)


@cache
def _draws(count: int, seed: int, stream: int) -> np.ndarray:
    """How often each of `count` things falls in each replicate; one array for all who ask."""
    generator = np.random.default_rng([seed, stream])
    draws = generator.multinomial(count, np.full(count, 1 / count), size=REPLICATES)
    draws.setflags(write=False)
    return draws


def share_with_interval(successes: Sequence[int], trials: int) -> Estimate:
    """A share over several trainings with its 95 % interval.

    The wider of two: the binomial one of all trials together, and Student's over the trainings,
    whose shares may differ by more than chance.

    Args:
        successes: How many trials of each training succeeded.
        trials: How many trials each training had, on fresh images each time.
    """
    pooled = sum(successes), trials * len(successes)
    low, high = binomial_interval(*pooled)
    low, high = _widened(low, high, np.array(successes) / trials)
    return Estimate(pooled[0] / pooled[1], max(0.0, low), min(1.0, high))


def table_share_with_interval(
    successes: Float[Tensor, "seeds points"],
) -> Estimate:
    """The share of successes, 1 and not 0, over seeds and points, with its 95 % interval.

    The wider of `mean_with_interval` and the binomial one of as many points, since where all
    succeed nothing can be resampled that failed. NaN where there is no value.
    """
    mean, low, high = mean_with_interval(successes)
    if mean is None or low is None or high is None:
        return UNKNOWN
    points = int(successes.isfinite().any(dim=0).sum())
    least, most = binomial_interval(round(mean * points), points)
    return Estimate(mean, max(0.0, min(low, least)), min(1.0, max(high, most)))


def binomial_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson for a share."""
    low, high = 0.0, 1.0
    if successes > 0:
        low = beta.ppf(TAILS[0], successes, trials - successes + 1)
    if successes < trials:
        high = beta.ppf(TAILS[1], successes + 1, trials - successes)
    return float(low), float(high)
