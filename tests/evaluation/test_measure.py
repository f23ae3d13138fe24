import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bayesgap.classifiers.module import decisions
from bayesgap.errors import BayesgapError
from bayesgap.estimates import UNKNOWN, Estimate
from bayesgap.evaluation.measure import (
    Gap,
    Outcome,
    attack_decisions,
    best_outcome,
    gap_to_optimum,
    pixel_changes,
    size_table,
    summarise,
)
from bayesgap.evaluation.statistics import mean_with_interval, ratio_with_interval
from bayesgap.norms import L2
from linf import LINF
from toys import SEEDS, Returns, from_gap, normal, present, property_settings

INF = np.inf


def outcome(before, after, sizes, **norm):
    n = len(before)
    images = torch.arange(n).double().reshape(n, 1, 1, 1) + torch.as_tensor(sum(before) / 100)
    return Outcome(
        torch.tensor(before),
        torch.tensor(after),
        torch.tensor(sizes).double(),
        images.double(),
        **norm,
    )


def first_pixel():
    """Decided 0 where the first pixel is not negative."""
    return from_gap(lambda x: x[:, 0, 0, 0])


def mirrored(x):
    z = x.clone()
    z[:, 0, 0, 0] *= -2
    return z


def test_the_decision_is_attacked_on_every_point_correct_or_not():
    x = normal(0, 12, 1, 1, 2)
    found = attack_decisions(first_pixel(), Returns(mirrored), x)
    before = (x[:, 0, 0, 0] < 0).long()
    assert torch.equal(found.before, before)
    assert torch.equal(found.after, 1 - before)
    torch.testing.assert_close(found.sizes, 3 * x[:, 0, 0, 0].abs())
    assert torch.equal(found.images, mirrored(x))


def test_where_an_attack_fails_the_decision_stays_and_the_size_is_infinite():
    x = normal(0, 6, 1, 1, 2)
    found = attack_decisions(first_pixel(), Returns(lambda x: 2 * x), x)
    assert torch.equal(found.after, found.before)
    assert torch.isposinf(found.sizes).all()
    assert torch.equal(found.images, x)


def test_a_classifier_left_in_training_mode_is_measured_in_evaluation_mode():
    weight = normal(0, 2, 16).float()
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 2))
    network[2].weight.data, network[2].bias.data = weight, torch.zeros(2)
    x = normal(1, 60, 1, 4, 4).float()
    expected = (x.flatten(1) @ weight.T).argmax(dim=1)
    network.train()
    found = attack_decisions(network, Returns(lambda x: x), x)
    assert torch.equal(found.before, expected)
    assert torch.equal(found.after, expected)


def test_clean_and_adversarial_accuracy_add_up_to_1_when_every_attack_on_two_classes_succeeds():
    x = normal(0, 40, 1, 1, 2)
    y = (x[:, 0, 0, 0] + 0.5 * normal(1, 40) < 0).long()
    found = summarise([attack_decisions(first_pixel(), Returns(mirrored), x)], y)
    clean, adversarial = present(found.clean_accuracy), present(found.adversarial_accuracy)
    assert 0 < clean < 1
    assert clean + adversarial == pytest.approx(1, abs=1e-15)
    assert found.success_rate == 1
    assert found.robust_accuracy == 0
    assert found.unbroken == 0


# Five points of two classes under one seed: broken, unbroken, wrong and broken, wrong and
# unbroken, broken.
ONE = outcome([0, 0, 1, 0, 1], [1, 0, 0, 0, 0], [2.0, INF, 7.0, INF, 4.0])
Y = torch.tensor([0, 0, 0, 1, 1])


def test_a_summary_by_hand():
    found = summarise([ONE], Y)
    _, low, high = mean_with_interval(torch.tensor([[2.0, np.nan, np.nan, np.nan, 4.0]]))
    assert found.record() == {
        "norm": "L2",
        "seeds": 1,
        "points": 5,
        "clean_accuracy": pytest.approx(3 / 5),
        "robust_accuracy": pytest.approx(1 / 5),
        # The unbroken point, and the wrong one that the attack turned into its label.
        "adversarial_accuracy": pytest.approx(2 / 5),
        "success_rate": pytest.approx(2 / 3),
        "unbroken": 1,
        "mean_l2": pytest.approx(3.0),  # without the 7 of a misclassified point
        "mean_l2_low": low,
        "mean_l2_high": high,
    }


def test_a_summary_of_two_seeds_pools_them():
    two = outcome([0, 0, 0, 1, 0], [1, 1, 1, 0, 1], [1.0, 3.0, 5.0, 9.0, 8.0])
    found = summarise([ONE, two], Y)
    assert found.seeds == 2
    assert found.points == 5
    assert found.clean_accuracy == pytest.approx(7 / 10)
    assert found.robust_accuracy == pytest.approx(1 / 10)
    assert found.adversarial_accuracy == pytest.approx(3 / 10)
    assert found.success_rate == pytest.approx(6 / 7)
    assert found.unbroken == 1
    mean, low, high = present(found.mean)
    assert mean == pytest.approx((2 + 4 + 1 + 3 + 5 + 9) / 6)
    assert low < mean < high


@pytest.mark.parametrize(("norm", "order"), [(L2, 2), (LINF, np.inf)])
def test_sizes_are_of_the_norm_that_was_asked_for(norm, order):
    x = normal(0, 12, 1, 1, 2)
    aside = torch.tensor([0.0, 0.4]).double()
    found = attack_decisions(first_pixel(), Returns(lambda x: mirrored(x) + aside), x, norm=norm)
    assert found.norm == norm
    change = (found.images - x).flatten(1).numpy()
    expected = np.linalg.norm(change, order, axis=1)
    np.testing.assert_allclose(found.sizes, expected, rtol=1e-14)


def test_a_summary_names_its_norm_in_its_keys():
    one = outcome([0, 0], [1, 1], [0.1, 0.3], norm=LINF)
    found = summarise([one], torch.tensor([0, 0]))
    assert found.norm == LINF
    record = found.record()
    assert record["norm"] == "Linf"
    assert record["mean_linf"] == pytest.approx(0.2)
    assert {"mean_linf_low", "mean_linf_high"} <= record.keys()
    assert not any("l2" in key for key in record)
    assert best_outcome([one, one]).norm == LINF


@pytest.mark.parametrize(
    ("sizes", "complete"), [([1.0] * 100, True), ([1.0] * 99 + [INF], True), ([1.0, INF], False)]
)
def test_a_summary_is_complete_where_99_of_100_points_were_broken(sizes, complete):
    after = [int(np.isfinite(size)) for size in sizes]
    y = torch.zeros(len(sizes), dtype=torch.int64)
    assert summarise([outcome([0] * len(sizes), after, sizes)], y).complete == complete


def test_where_nothing_is_decided_correctly_a_summary_is_not_complete():
    assert not summarise([outcome([1], [0], [1.0])], torch.tensor([0])).complete


def test_the_interval_of_a_mean_ends_at_0():
    """Student's, over two trainings as different as these, would reach below."""
    several = [outcome([0] * 4, [1] * 4, [size] * 4) for size in (0.1, 3.0)]
    found = present(summarise(several, torch.zeros(4, dtype=torch.int64)).mean)
    assert present(mean_with_interval(torch.tensor([[0.1] * 4, [3.0] * 4]).double())).low < 0
    assert found.low == 0
    assert found.high > 10


def test_of_three_classes_a_wrong_point_may_stay_wrong_after_its_attack():
    found = summarise([outcome([0, 1, 2], [1, 2, 0], [1.0, 1.0, 1.0])], torch.tensor([0, 0, 0]))
    assert found.clean_accuracy == pytest.approx(1 / 3)
    assert found.adversarial_accuracy == pytest.approx(1 / 3)
    assert found.mean.value == 1


@given(st.integers(**SEEDS))
@property_settings(30)
def test_a_summary_counts_what_a_loop_counts(seed):
    random = np.random.default_rng(seed)
    y, before = random.integers(3, size=8), random.integers(3, size=(2, 8))
    broken = random.random((2, 8)) < 0.6
    after = np.where(broken, (before + random.integers(1, 3, size=(2, 8))) % 3, before)
    l2 = np.where(broken, random.random((2, 8)), INF)
    among = random.random(8) < 0.7
    outcomes = [outcome(*(part[k].tolist() for part in (before, after, l2))) for k in range(2)]
    found = summarise(outcomes, torch.from_numpy(y), among=torch.from_numpy(among))
    cells = [(k, i) for k in range(2) for i in range(8) if among[i]]
    right = [(k, i) for k, i in cells if before[k, i] == y[i]]
    won = [l2[k, i] for k, i in right if broken[k, i]]

    def share(count, total):
        return pytest.approx(count / total) if total else None

    assert found.points == among.sum()
    assert found.clean_accuracy == share(len(right), len(cells))
    assert found.robust_accuracy == share(len(right) - len(won), len(cells))
    assert found.adversarial_accuracy == share(
        sum(after[k, i] == y[i] for k, i in cells), len(cells)
    )
    assert found.success_rate == share(len(won), len(right))
    assert found.unbroken == len(right) - len(won)
    assert found.mean.value == (pytest.approx(np.mean(won)) if won else None)


def test_among_counts_only_the_points_chosen():
    chosen = torch.tensor([True, False, True, False, False])
    found = summarise([ONE], Y, among=chosen)
    assert found.points == 2
    assert found.clean_accuracy == 0.5
    assert found.mean.value == 2
    assert found.unbroken == 0


def test_without_a_correct_point_there_is_no_success_rate_and_no_mean():
    found = summarise([outcome([1, 1], [0, 1], [1.0, INF])], torch.tensor([0, 0]))
    assert found.clean_accuracy == 0
    assert found.success_rate is None
    assert found.mean == UNKNOWN


def test_without_points_there_is_nothing_to_tell():
    found = summarise([ONE], Y, among=torch.zeros(5, dtype=torch.bool))
    assert found.points == found.unbroken == 0
    assert found.clean_accuracy is found.adversarial_accuracy is found.mean.value is None


def test_the_table_of_sizes_holds_correct_and_broken_points_only():
    two = outcome([0, 0, 0, 1, 0], [1, 1, 1, 0, 1], [1.0, 3.0, 5.0, 9.0, 8.0])
    expected = [[2, np.nan, np.nan, np.nan, 4], [1, 3, 5, 9, np.nan]]
    np.testing.assert_array_equal(size_table([ONE, two], Y).numpy(), expected)


def test_the_best_outcome_takes_each_points_nearest_success():
    first = outcome([0, 0, 1, 1], [1, 0, 0, 1], [2.0, INF, 3.0, INF])
    second = outcome([0, 0, 1, 1], [0, 1, 0, 1], [INF, 5.0, 1.0, INF])
    second.images.neg_()
    best = best_outcome([first, second])
    assert best.before.tolist() == [0, 0, 1, 1]
    assert best.after.tolist() == [1, 1, 0, 1]
    assert best.sizes.tolist() == [2.0, 5.0, 1.0, INF]
    chosen = [first.images[0], second.images[1], second.images[2], first.images[3]]
    assert torch.equal(best.images, torch.stack(chosen))
    assert first.sizes.tolist() == [2.0, INF, 3.0, INF]  # left as it was
    assert first.after.tolist() == [1, 0, 0, 1]


def test_an_attack_that_saw_only_the_first_points_counts_for_those():
    first = outcome([0, 0, 1, 1], [1, 0, 0, 0], [2.0, INF, 3.0, 4.0])
    short = outcome([0, 0], [2, 2], [1.0, 6.0])
    third = outcome([0, 0, 1], [1, 1, 2], [1.5, 5.0, 2.5])
    best = best_outcome([first, short, third])
    assert best.sizes.tolist() == [1.0, 5.0, 2.5, 4.0]
    assert best.after.tolist() == [2, 1, 2, 0]
    chosen = [short.images[0], third.images[1], third.images[2], first.images[3]]
    assert torch.equal(best.images, torch.stack(chosen))


def test_one_outcome_is_its_own_best():
    best = best_outcome([ONE])
    for name in ("before", "after", "sizes", "images"):
        assert torch.equal(getattr(best, name), getattr(ONE, name))


# The gap to the optimum.

SIZES = torch.tensor([[1.0, 2.0, torch.nan, 3.0], [2.0, torch.nan, 1.0, 4.0]]).double()
LOWER = torch.tensor([4.0, 8.0, 6.0, torch.nan]).double()


def test_the_gap_is_1_less_the_ratio_of_the_means_over_points_that_both_have():
    found = gap_to_optimum(SIZES, LOWER, 1.0)
    ratio, low, high = present(ratio_with_interval(SIZES, LOWER[None]))
    assert ratio == pytest.approx((1 + 2 + 2 + 1) / (4 + 8 + 4 + 6))
    assert found == Gap(Estimate(1 - ratio, 1 - high, 1 - low))
    assert 1 - high < 1 - ratio < 1 - low
    assert found.record() == {
        "gap": 1 - ratio,
        "gap_low": 1 - high,
        "gap_high": 1 - low,
        "no_gap": None,
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"norm": LINF}, "certificates are of L2, the sizes of Linf"),
        ({"lower": None}, "the optimum is not known"),
        ({"lower": None, "unknown": "nobody knows"}, "nobody knows"),
        ({"success_rate": None}, "the classifier decides no point correctly"),
        ({"success_rate": 0.9899}, "only 99.0% of the points were broken, not 99%"),
        ({"lower": torch.full_like(LOWER, torch.nan)}, "no point is decided correctly by both"),
    ],
)
def test_where_there_is_no_gap_the_reason_is_said(changes, reason):
    given = {"lower": LOWER, "success_rate": 1.0, **changes}
    found = gap_to_optimum(SIZES, **given)
    assert found == Gap(UNKNOWN, reason)
    assert found.record() == {"gap": None, "gap_low": None, "gap_high": None, "no_gap": reason}


def test_success_of_99_percent_is_enough_for_a_gap():
    assert gap_to_optimum(SIZES, LOWER, 0.99) == gap_to_optimum(SIZES, LOWER, 1.0)


# What changed of the pixels.


@given(st.integers(**SEEDS), st.sampled_from([0.01, 0.1, 1.0]))
@property_settings(20)
def test_pixel_changes_are_numpys_histogram_with_what_lies_beyond_in_the_outermost_bins(seed, size):
    random = np.random.default_rng(seed)
    x = random.random((3, 1, 4, 4))
    z = x + size * random.normal(size=x.shape)
    found = pixel_changes(torch.from_numpy(x), torch.from_numpy(z))
    units = (z - x).ravel() * 255
    edges = np.array(found.edges)
    assert (edges == np.arange(-101, 102, 2)).all()
    expected = [((units >= low) & (units < low + 2)).sum() for low in edges[:-1]]
    expected[0] += (units < -101).sum()
    expected[-1] += (units >= 101).sum()
    assert found.counts == expected
    assert found.share_within_5.value == pytest.approx((np.abs(units) <= 5).mean(), abs=1e-15)


def test_pixel_changes_have_their_keys_in_the_results():
    x = normal(0, 3, 1, 2, 2)
    found = pixel_changes(x, x + 0.01)
    assert found.record() == {
        "share_within_5": 1.0,
        "share_within_5_low": 1.0,
        "share_within_5_high": 1.0,
        "pixel_histogram": {"edges": found.edges, "counts": found.counts},
    }


def counts(x, z):
    return pixel_changes(x, z).counts


def test_large_changes_are_counted_in_the_outermost_bins():
    x = torch.zeros(1, 1, 1, 6).double()
    z = torch.tensor([-3.0, -101 / 255, -99 / 255, 99 / 255, 101 / 255, 3.0]).double()
    z = z.reshape(x.shape)
    assert (counts(x, z)[0], counts(x, z)[-1]) == (3, 3)
    assert sum(counts(x, z)) == 6
    assert pixel_changes(x, z).share_within_5.value == 0


def test_an_image_that_did_not_change_lies_within_5_units():
    x = normal(0, 2, 1, 2, 2)
    assert pixel_changes(x, x.clone()).share_within_5.value == 1
    assert counts(x, x.clone())[50] == 8  # the bin from 0 to 2


def test_images_may_be_of_another_dtype_than_the_points():
    x = normal(0, 2, 1, 2, 2)
    assert counts(x, (x + 0.01).float())[51] == 8  # 2.55 units


def test_a_change_of_5_eight_bit_levels_is_within_5_units():
    levels = torch.arange(251).double().reshape(1, 1, 1, 251)
    assert pixel_changes(levels / 255, (levels + 5) / 255).share_within_5.value == 1


def test_the_share_of_small_changes_has_the_interval_of_a_mean_over_images():
    x = torch.zeros(12, 1, 2, 2)
    shares = torch.arange(12).double() % 5 / 4
    z = torch.zeros(12, 4)
    for i in range(12):
        z[i, : 4 - int(4 * shares[i])] = 0.5
    found = pixel_changes(x, z.reshape(x.shape))
    assert found.share_within_5 == mean_with_interval(shares[None])


def test_the_share_of_several_trainings_has_the_interval_over_trainings_and_points():
    at = torch.tensor([[True, True, False, True], [True, False, True, True]])
    shares = torch.tensor([1.0, 0.5, 0.0, 0.25, 0.75, 1.0], dtype=torch.float64)
    z = torch.where(torch.arange(4) < 4 * (1 - shares)[:, None], 0.5, 0.0).reshape(6, 1, 2, 2)
    found = pixel_changes(torch.zeros(6, 1, 2, 2), z, at=at)
    nan = torch.nan
    table = torch.tensor([[1.0, 0.5, nan, 0.0], [0.25, nan, 0.75, 1.0]], dtype=torch.float64)
    assert found.share_within_5 == mean_with_interval(table)


def test_decisions_after_an_attack_are_those_on_its_images():
    x = normal(3, 9, 1, 1, 2)
    found = attack_decisions(first_pixel(), Returns(mirrored), x)
    assert torch.equal(decisions(first_pixel(), found.images), found.after)


def test_unchanged_pixels_lie_in_the_middle_of_a_bin():
    x = torch.rand(2, 1, 3, 3).double()
    found = pixel_changes(x, x)
    (bin_,) = np.flatnonzero(found.counts)
    assert (found.edges[bin_], found.edges[bin_ + 1]) == (-1, 1)


@pytest.mark.parametrize("box", [None, (-5.0, 5.0)])
def test_an_attack_that_does_not_give_adversarials_is_refused(box):
    class Own(Returns):
        name = "own"

        def __call__(self, classifier, x, y, *, norm=L2):
            return x

    x = normal(0, 4, 1, 1, 2)
    with pytest.raises(BayesgapError, match=r"attack own gives Adversarials; .* a Tensor: leave"):
        attack_decisions(first_pixel(), Own(mirrored), x, box=box)
