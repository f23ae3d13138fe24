import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, ttest_1samp, ttest_ind

from bayesgap.estimates import UNKNOWN
from bayesgap.evaluation.statistics import (
    binomial_interval,
    mean_with_interval,
    paired_ratio_with_interval,
    ratio_with_interval,
    share_with_interval,
    table_share_with_interval,
)
from toys import SEEDS, normal, present, property_settings


def table(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def drawn_by_hand(values, replicates, seed):
    """The crossed bootstrap as its definition says: rows and columns drawn one by one."""
    random = np.random.default_rng(seed)
    rows, columns = values.shape
    means = []
    for _ in range(replicates):
        drawn = values[random.integers(rows, size=rows)][:, random.integers(columns, size=columns)]
        if np.isfinite(drawn).any():
            means.append(np.nanmean(drawn))
    return np.array(means)


def students(by_seed):
    """scipy's interval over what each training gave."""
    return ttest_1samp(by_seed, 0).confidence_interval(0.95)


def width(interval):
    return interval[2] - interval[1]


@pytest.mark.parametrize("points", [50, 400])
def test_for_one_seed_the_interval_is_that_of_normal_theory(points):
    widths, ends = [], []
    for seed in range(20):
        values = 3 + 2 * normal(seed, 1, points)
        mean, low, high = present(mean_with_interval(values, seed=seed))
        deviation = values.std(correction=0).item() / np.sqrt(points)
        assert mean == pytest.approx(values.mean().item(), rel=1e-12)
        widths.append((high - low) / (2 * norm.ppf(0.975) * deviation))
        ends.append(((high + low) / 2 - mean) / deviation)
    # 2000 replicates place each end within 3 %, and 20 intervals average that out.
    assert np.mean(widths) == pytest.approx(1, abs=0.02)
    assert max(abs(np.array(widths) - 1)) < 0.1
    assert np.mean(ends) == pytest.approx(0, abs=0.05)


def test_the_interval_covers_the_true_mean_nineteen_times_of_twenty():
    covered = 0
    for seed in range(200):
        _, low, high = present(mean_with_interval(normal(seed, 1, 100), seed=seed))
        covered += low <= 0 <= high
    # The bootstrap of 100 values covers 94.5 %; 200 trials have a standard error of 1.6 %.
    assert 0.895 <= covered / 200 <= 0.985


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_interval_is_that_of_a_bootstrap_crossed_over_seeds_and_points(missing):
    random = np.random.default_rng(0)
    # Points differ much more than seeds: Student's interval over the latter is the narrower.
    values = random.normal(size=(4, 1)) / 9 + random.normal(size=(1, 12)) + random.random((4, 12))
    values[random.random(values.shape) < missing] = np.nan
    mean, low, high = mean_with_interval(torch.from_numpy(values))
    replicates = drawn_by_hand(values, 8000, seed=1)
    assert mean == pytest.approx(np.nanmean(values), rel=1e-12)
    # Quantiles of 2000 and of 8000 replicates differ by 6 % of their deviation or so.
    tolerance = 0.25 * replicates.std()
    assert low == pytest.approx(np.quantile(replicates, 0.025), abs=tolerance)
    assert high == pytest.approx(np.quantile(replicates, 0.975), abs=tolerance)
    if not missing:
        assert low < students(values.mean(axis=1)).low


def test_where_seeds_differ_more_than_points_the_interval_is_students():
    values = table([11.0] * 30, [12.0] * 30, [13.0] * 30)
    assert mean_with_interval(values)[1:] == pytest.approx(students([11, 12, 13]), rel=1e-12)
    for numerator, denominator in ((values, values[:1]), (values[:1], values)):
        by_seed = (numerator / denominator)[:, 0].numpy()
        ratio = ratio_with_interval(numerator, denominator)
        assert ratio[1:] == pytest.approx(students(by_seed), rel=1e-12)


def test_a_seed_without_values_does_not_count_among_the_trainings():
    values = table([1.0] * 30, [2.0] * 30, [np.nan] * 30)
    assert mean_with_interval(values)[1:] == pytest.approx(students([1, 2]), rel=1e-12)


def test_values_that_are_equal_have_no_width():
    assert mean_with_interval(torch.full((3, 5), 0.25)) == (0.25, 0.25, 0.25)


@given(st.integers(**SEEDS), st.just(1), st.integers(1, 24))
@property_settings(25)
def test_missing_values_count_neither_in_the_mean_nor_in_its_interval(seed, seeds, points):
    random = np.random.default_rng(seed)
    values = random.normal(size=(seeds, points))
    values[random.random(values.shape) < 0.5] = np.nan
    estimate = mean_with_interval(torch.from_numpy(values))
    if np.isnan(values).all():
        assert estimate == UNKNOWN
    else:
        mean, low, high = present(estimate)
        assert mean == pytest.approx(np.nanmean(values), rel=1e-12, abs=1e-15)
        assert np.nanmin(values) - 1e-12 <= low <= high <= np.nanmax(values) + 1e-12


def test_infinite_values_are_missing_too():
    values = table([1.0, np.inf, 2.0, 4.0])
    assert mean_with_interval(values) == mean_with_interval(table([1.0, np.nan, 2.0, 4.0]))


@pytest.mark.parametrize("shape", [(1, 0), (2, 3)])
def test_without_values_there_is_neither_mean_nor_interval(shape):
    nothing = torch.full(shape, torch.nan)
    assert mean_with_interval(nothing) == UNKNOWN
    assert ratio_with_interval(nothing, nothing) == UNKNOWN


def test_intervals_follow_their_seed_alone():
    values = normal(0, 12, 40)
    np.random.seed(1)  # noqa: NPY002 (the global generator must not matter)
    first, ratio = mean_with_interval(values, seed=4), ratio_with_interval(values, values[:1] + 9)
    np.random.seed(2)  # noqa: NPY002
    assert mean_with_interval(values, seed=4) == first
    assert ratio_with_interval(values, values[:1] + 9) == ratio
    assert mean_with_interval(values, seed=5) != first
    row = values[:1]  # of which only points can be drawn
    assert mean_with_interval(row, seed=5) != mean_with_interval(row, seed=4)
    assert ratio_with_interval(values, values[:1] + 9, seed=1) != ratio


@given(st.integers(**SEEDS), st.integers(1, 9))
@property_settings(25)
def test_the_ratio_of_a_row_to_itself_is_exactly_1_without_width(seed, points):
    values = 1 + normal(seed % 2**31, 1, points).abs()
    values[0, 1::3] = torch.nan
    assert ratio_with_interval(values, values) == (1.0, 1.0, 1.0)


def test_a_ratio_is_taken_over_the_points_that_both_have():
    numerator = table([2.0, np.nan, 6.0, 8.0, 99.0])
    denominator = table([1.0, 50.0, 2.0, 5.0, np.nan])
    ratio, low, high = present(ratio_with_interval(numerator, denominator))
    assert ratio == pytest.approx(16 / 8, rel=1e-14)
    assert 8 / 5 - 1e-12 <= low < high <= 6 / 2 + 1e-12


def test_a_ratio_without_common_points_is_none():
    assert ratio_with_interval(table([1.0, np.nan]), table([np.nan, 1.0])) == UNKNOWN


def test_points_are_drawn_once_for_both_sides_of_a_ratio():
    values = 1 + normal(0, 1, 50).abs()
    # Numerator and denominator rise and fall together.
    _, low, high = present(ratio_with_interval(3 * values, values))
    assert (low, high) == (pytest.approx(3, rel=1e-12), pytest.approx(3, rel=1e-12))


def test_a_ratio_has_the_interval_of_the_delta_method():
    numerator, denominator = 5 + normal(0, 1, 400), 2 + 0.3 * normal(1, 1, 400)
    top, bottom = numerator.numpy()[0], denominator.numpy()[0]
    ratio = top.mean() / bottom.mean()
    deviation = np.std(top - ratio * bottom) / bottom.mean() / np.sqrt(400)
    got = ratio_with_interval(numerator, denominator)
    assert got[0] == pytest.approx(ratio, rel=1e-12)
    # 2000 replicates place an end within 3 %.
    assert width(got) == pytest.approx(2 * norm.ppf(0.975) * deviation, rel=0.08)


def test_seeds_are_drawn_separately_for_the_two_sides_of_a_ratio():
    random = np.random.default_rng(0)
    numerator = 2 + 0.3 * random.normal(size=(30, 1)) + np.zeros((1, 20))
    # Its networks are other ones: that seed 1 was good there says nothing about seed 1 here.
    denominator = numerator.copy()
    tops = drawn_by_hand(numerator, 6000, seed=1)
    bottoms = drawn_by_hand(denominator, 6000, seed=2)
    expected = np.quantile(tops / bottoms, 0.975) - np.quantile(tops / bottoms, 0.025)
    got = ratio_with_interval(torch.from_numpy(numerator), torch.from_numpy(denominator))
    assert width(got) == pytest.approx(expected, rel=0.15)  # both ends by simulation


def test_the_two_sides_of_a_ratio_may_have_different_numbers_of_seeds():
    numerator = table(*([value] * 9 for value in (2.0, 2.4, 2.6, 3.0)))
    ratio, low, high = ratio_with_interval(numerator, table([1.5] * 9))
    assert ratio == pytest.approx(2.5 / 1.5)
    expected = students(np.array([2.0, 2.4, 2.6, 3.0]) / 1.5)
    assert (low, high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("seeds", [(3, 3), (5, 10), (2, 30)])
def test_where_both_sides_vary_with_their_seeds_the_interval_is_at_least_welchs(seeds):
    # So little that the ratio is linear in what the seeds do.
    tops, bottoms = (1e-6 * normal(i, n, 1).numpy() for i, n in enumerate(seeds))
    numerator, denominator = (torch.from_numpy(1 + one).expand(-1, 9) for one in (tops, bottoms))
    ratio, low, high = present(ratio_with_interval(numerator, denominator))
    expected = ttest_ind(tops[:, 0], bottoms[:, 0], equal_var=False).confidence_interval(0.95)
    one_sided = [students(side[:, 0]) for side in (tops, bottoms)]
    reach = max((one.high - one.low) / 2 for one in one_sided)
    welch = (expected.high - expected.low) / 2
    slack = 1e-4 * welch  # the ratio's second order, and its rounding
    assert high - ratio >= max(welch, reach) - slack
    assert ratio - low >= max(welch, reach) - slack
    if welch > reach:
        assert (ratio - low, high - ratio) == pytest.approx((welch, welch), rel=1e-4)


def test_the_interval_of_a_ratio_of_sizes_ends_at_0():
    numerator, denominator = table([0.1] * 4, [3.0] * 4), table([1.0] * 4, [1.0] * 4)
    for interval in (ratio_with_interval, paired_ratio_with_interval):
        ratio, low, high = present(interval(numerator, denominator))
        assert (ratio, low) == (pytest.approx(1.55), 0)
        assert high > 10  # Student's, with one degree of freedom


def test_ratios_of_two_sets_of_trainings_cover():
    random = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        sides = [torch.from_numpy(1 + 0.05 * random.normal(size=(8, 1))) for _ in range(2)]
        _, low, high = present(ratio_with_interval(*(side.expand(-1, 3) for side in sides)))
        covered.append(low <= 1 <= high)
    assert np.mean(covered) > 0.93  # 0.95 less two standard errors of 300 draws: 0.925


@given(st.integers(**SEEDS), st.integers(1, 3), st.integers(1, 3))
@property_settings(25)
def test_a_point_counts_for_a_pair_of_seeds_only_where_both_have_it(seed, tops, bottoms):
    random = np.random.default_rng(seed)
    numerator, denominator = 1 + random.random((tops, 6)), 1 + random.random((bottoms, 6))
    for table in (numerator, denominator):
        table[random.random(table.shape) < 0.4] = np.nan
    pairs = [
        (above, below)
        for top in numerator
        for bottom in denominator
        for above, below in zip(top, bottom, strict=True)
        if np.isfinite(above) and np.isfinite(below)
    ]
    estimate = ratio_with_interval(*map(torch.from_numpy, (numerator, denominator)))
    if pairs:
        ratio, low, high = present(estimate)
        above, below = zip(*pairs, strict=True)
        assert ratio == pytest.approx(sum(above) / sum(below), rel=1e-12)
        assert low <= high
    else:
        assert estimate == UNKNOWN


@pytest.mark.filterwarnings("error")
def test_a_ratio_to_nothing_is_none():
    assert ratio_with_interval(table([1.0, 2.0]), table([0.0, 0.0])) == UNKNOWN
    assert ratio_with_interval(table([0.0, 0.0]), table([0.0, 0.0])) == UNKNOWN


@given(st.integers(1, 60), st.data())
@property_settings(30)
def test_the_share_of_one_training_has_the_binomial_interval(trials, data):
    successes = data.draw(st.integers(0, trials))
    share, *interval = share_with_interval([successes], trials)
    assert share == pytest.approx(successes / trials)
    assert tuple(interval) == binomial_interval(successes, trials)


def test_trainings_that_agree_have_the_binomial_interval_of_all_trials():
    assert present(share_with_interval([40, 40, 40], 50)) == (
        pytest.approx(0.8),
        *(pytest.approx(end, rel=1e-12) for end in binomial_interval(120, 150)),
    )


def test_trainings_that_differ_by_more_than_chance_have_students_interval():
    successes = [400, 480, 520, 600]
    share, low, high = present(share_with_interval(successes, 1000))
    expected = ttest_1samp(np.array(successes) / 1000, 0).confidence_interval(0.95)
    assert share == pytest.approx(0.5)
    assert (low, high) == pytest.approx(tuple(expected), rel=1e-12)
    assert high - low > 3 * width((0, *binomial_interval(2000, 4000)))


def test_the_interval_of_a_share_stays_within_0_and_1():
    assert share_with_interval([0, 50], 50) == (0.5, 0.0, 1.0)


@given(st.integers(1, 400), st.data())
@property_settings(60)
def test_a_binomial_interval_is_scipys_exact_one(trials, data):
    successes = data.draw(st.integers(0, trials))
    expected = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    # scipy finds the ends by other means.
    assert binomial_interval(successes, trials) == pytest.approx(tuple(expected), abs=1e-9)


@pytest.mark.parametrize("trials", [1, 50, 100])
def test_a_share_of_nothing_or_of_all_ends_at_0_or_1(trials):
    tail = 0.025 ** (1 / trials)
    assert present(binomial_interval(0, trials)) == (0.0, pytest.approx(1 - tail, rel=1e-12))
    assert present(binomial_interval(trials, trials)) == (pytest.approx(tail, rel=1e-12), 1.0)


def test_no_trials_tell_nothing():
    assert binomial_interval(0, 0) == (0.0, 1.0)


def test_a_share_of_all_points_has_the_width_of_their_number():
    ones = torch.ones(3, 10, dtype=torch.float64)
    expected = binomtest(10, 10).proportion_ci(method="exact")
    assert table_share_with_interval(ones) == pytest.approx((1.0, expected.low, 1.0))
    ones[:, 4:] = torch.nan
    expected = binomtest(4, 4).proportion_ci(method="exact")
    assert table_share_with_interval(ones) == pytest.approx((1.0, expected.low, 1.0))
    assert table_share_with_interval(ones[:, 4:]) == UNKNOWN


def test_a_share_that_scatters_over_trainings_is_as_wide_as_they_are():
    values = torch.zeros(3, 400, dtype=torch.float64)
    for seed, share in enumerate((0.4, 0.5, 0.6)):
        values[seed, : round(400 * share)] = 1
    expected = students([0.4, 0.5, 0.6])
    assert table_share_with_interval(values) == pytest.approx((0.5, expected.low, expected.high))


def test_what_pairs_of_trainings_share_does_not_widen_their_ratio():
    random = np.random.default_rng(0)
    luck = random.uniform(0.5, 1.5, size=(4, 1))
    denominator = torch.from_numpy(luck * random.uniform(1.9, 2.1, size=(4, 60)))
    numerator = denominator * torch.tensor([[1.1], [1.2], [1.2], [1.3]])
    paired = paired_ratio_with_interval(numerator, denominator)
    assert paired[0] == pytest.approx(ratio_with_interval(numerator, denominator)[0])
    assert paired[1:] == pytest.approx(students([1.1, 1.2, 1.2, 1.3]), rel=1e-6)
    assert width(paired) < width(ratio_with_interval(numerator, denominator)) / 3


def test_a_pair_counts_only_where_both_have_a_value():
    numerator = table([2.0, np.nan, 6.0], [2.0, 4.0, np.nan])
    denominator = table([1.0, 9.0, 3.0], [1.0, np.nan, 9.0], [5.0, 5.0, 5.0])
    assert paired_ratio_with_interval(numerator, denominator) == pytest.approx((2.0, 2.0, 2.0))
    nothing = torch.full((2, 3), torch.nan)
    assert paired_ratio_with_interval(nothing, denominator) == UNKNOWN


def test_for_one_pair_the_interval_is_that_of_the_points():
    numerator, denominator = (1 + normal(seed, 1, 80).abs() for seed in (1, 2))
    paired = paired_ratio_with_interval(numerator, denominator)
    assert paired == pytest.approx(ratio_with_interval(numerator, denominator))
