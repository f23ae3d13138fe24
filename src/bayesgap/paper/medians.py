"""Medians and quotients of different samples, with intervals that assume no distribution."""

from jaxtyping import Float
from scipy.stats import binom
from torch import Tensor

from bayesgap.estimates import UNKNOWN, Estimate
from bayesgap.evaluation.statistics import TAILS


def median_with_interval(values: Float[Tensor, " n"]) -> Estimate:
    """The median and its 95 % interval between two order statistics, whatever the distribution.

    Args:
        values: The sample, in any order; below 6 values, too few for such an interval, the median
            is unknown.
    """
    rank = int(binom.ppf(TAILS[0], len(values), 0.5)) if len(values) else 0
    if not rank:
        return UNKNOWN
    ordered = values.sort().values
    low, high = ordered[rank - 1].item(), ordered[len(values) - rank].item()
    return Estimate(ordered.quantile(0.5).item(), low, high)


def quotient(above: Estimate, below: Estimate) -> Estimate:
    """The ratio of two positive numbers of different samples, from the ends of their intervals.

    That is wider than 95 %.

    Args:
        above: The number that is divided.
        below: The number that it is divided by; the ratio is unknown where this one's interval
            reaches 0.
    """
    (top, top_low, top_high), (bottom, low, high) = above, below
    if top is None or top_low is None or top_high is None:
        return UNKNOWN
    if bottom is None or low is None or high is None or low <= 0:
        return UNKNOWN
    return Estimate(top / bottom, top_low / high, top_high / low)
