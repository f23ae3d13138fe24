"""Medians and quotients with intervals, against tables and by coverage."""

import numpy as np
import torch

from bayesgap.estimates import UNKNOWN, Estimate
from bayesgap.paper.medians import median_with_interval, quotient
from exhibits import sure


def test_medians_have_the_interval_of_order_statistics():
    values = torch.arange(1.0, 101.0, dtype=torch.float64).flip(0)
    assert median_with_interval(values) == Estimate(50.5, 40.0, 61.0)  # as in tables
    assert median_with_interval(values[:5]) == UNKNOWN
    assert median_with_interval(values[:0]) == UNKNOWN


def test_intervals_of_medians_cover():
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(1_000, 30, generator=generator, dtype=torch.float64)
    covered = [low <= 0.5 <= high for _, low, high in map(sure, map(median_with_interval, draws))]
    assert np.mean(covered) > 0.94


def test_quotients_take_the_far_ends():
    one, other = Estimate(1.0, 0.5, 2.0), Estimate(4.0, 2.0, 8.0)
    assert quotient(one, other) == Estimate(0.25, 0.0625, 1.0)
    assert quotient(one, Estimate(4.0, 0.0, 8.0)) == UNKNOWN
    assert quotient(UNKNOWN, other) == quotient(one, UNKNOWN) == UNKNOWN
