import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayesgap.attacks.base import Attack
from bayesgap.attacks.named import named_attack
from bayesgap.errors import BayesgapError
from bayesgap.estimates import UNKNOWN
from bayesgap.evaluation.counting import CountingOptimum
from bayesgap.evaluation.exam import certified_points, exam
from bayesgap.evaluation.statistics import share_with_interval
from bayesgap.experiment.exam_table import COLUMNS
from strategies import without_shape_checks
from toys import (
    SEEDS,
    Returns,
    mixture_task,
    present,
    property_settings,
    spherical_radius,
    spherical_task,
)

MEANS, VARIANCE = np.array([[0.0, 0, 0], [1, 1, 0]]), 0.25


def task():
    return spherical_task(MEANS, VARIANCE)


def onto_the_plane(factor):
    """The exact nearest point on the plane between two spheres, overstepped by a factor."""
    axis = torch.from_numpy((MEANS[1] - MEANS[0]) / np.linalg.norm(MEANS[1] - MEANS[0]))
    middle = np.sqrt(2) / 2

    def attack(classifier, x, y):
        along = x.flatten(1) @ axis - middle
        return x - factor * along[:, None, None, None] * axis.reshape(1, 1, 1, 3)

    return attack


def test_an_exact_attack_is_graded_1_and_one_that_oversteps_by_its_factor():
    for factor in (1 + 1e-6, 1.25):
        held = exam(onto_the_plane(factor), task(), per_class=30)
        assert held.success.value == 1
        # Certificates keep 1e-9, and their shift 1e-8 of the square, in reserve.
        np.testing.assert_allclose(held.ratios, factor, rtol=2e-8)
        mean, low, high = present(held.mean_ratio)
        assert mean == pytest.approx(factor, rel=2e-8)
        assert held.median_ratio == pytest.approx(factor, rel=2e-8)
        assert held.high_ratio == pytest.approx(factor, rel=2e-8)
        assert low <= mean <= high
        assert held.found == (factor < 1.01)
        assert held.below == 0


def test_only_points_that_the_optimum_decides_correctly_are_taken():
    points = certified_points(task(), per_class=50, seed=2)
    y = torch.arange(2).repeat(50)
    x, _ = task().sample_given(y, seed=2)
    radius = spherical_radius(x, y, MEANS, VARIANCE, (0.5, 0.5))
    assert (radius <= 0).sum() > 0
    assert torch.equal(points.x, x[radius > 0])
    np.testing.assert_allclose(points.lower, radius[radius > 0], rtol=2e-8)


def test_an_attack_that_does_nothing_breaks_nothing_and_has_no_ratio():
    held = exam(Returns(lambda x: x), task(), per_class=5)
    assert held.successes == held.success.value == held.success.low == held.found == 0
    assert present(held.success).high < 0.5
    assert held.mean_ratio == UNKNOWN
    assert held.median_ratio is held.high_ratio is None
    assert held.ratios.isinf().all()
    json.dumps(held.record(), allow_nan=False)


def test_a_record_has_the_numbers_under_the_keys_of_the_table_and_no_single_points():
    held = exam("ld-grad", task(), per_class=5)
    record = held.record()
    assert tuple(record) == COLUMNS
    estimates = (
        ("success_rate", "success_low", "success_high"),
        (
            "mean_ratio",
            "mean_ratio_low",
            "mean_ratio_high",
        ),
    )
    for names, estimate in zip(estimates, (held.success, held.mean_ratio), strict=True):
        assert tuple(record.pop(name) for name in names) == estimate
    for passes, success, ratio in held.within:
        assert record.pop(f"success_{passes}") == success
        assert record.pop(f"ratio_{passes}") == ratio
    assert all(getattr(held, name) == value for name, value in record.items())


def test_an_attack_is_graded_within_fewer_passes():
    class Steps(Attack):
        """Overshoots by a share that halves with every forward pass."""

        def run(self, classifier, x, y):
            for step in range(300):
                z = onto_the_plane(1 + 0.5 ** (1 + step // 20))(classifier, x, y)
                classifier(z)
            return z

    held = exam(Steps(), task(), per_class=20)
    # One forward pass comes before the first step, that of the decisions.
    ratios = {each.passes: each.mean_ratio for each in held.within}
    assert ratios[50] == pytest.approx(1 + 0.5**3, abs=2e-3)
    assert ratios[200] == pytest.approx(1 + 0.5**10, abs=1e-3)
    assert ratios[1_000] == ratios[2_000] == pytest.approx(held.mean_ratio.value)
    assert all(each.success == 1 for each in held.within)


def test_gradients_count_as_passes():
    class Gradients(Attack):
        """25 forward and 25 backward passes, then the truth: too late for the first budget."""

        def run(self, classifier, x, y):
            for _ in range(25):
                z = x.detach().requires_grad_()
                torch.autograd.grad(classifier(z)[:, 0].sum(), z)
            z = onto_the_plane(1 + 1e-6)(classifier, x, y)
            classifier(z)
            return z

    first, second, *_ = exam(Gradients(), task(), per_class=20).within
    assert (first.success, first.mean_ratio) == (0, None)
    assert second.success == 1


def test_the_share_of_success_has_the_binomial_interval_of_the_points():
    half = Returns(lambda x: torch.where(torch.arange(len(x))[:, None, None, None] % 2 == 0, 9, x))
    held = exam(half, task(), per_class=20)
    assert 0 < present(held.success).value < 1
    assert held.success == share_with_interval([held.successes], held.points)
    assert held.ratios.isfinite().sum() == held.successes


def test_passes_are_counted_by_the_image():
    class ThreeSteps(Attack):
        def run(self, classifier, x, y):
            z = x
            for _ in range(3):
                z = z.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(classifier(z)[:, 0].sum(), z)
                z = z - 0.1 * gradient
            classifier(z.detach())
            return z.detach()

    held = exam(ThreeSteps(), task(), per_class=10)
    assert held.backwards == 3
    # 3 with gradients and 1 without, the decisions before and after; and one image for its shape.
    assert held.forwards == pytest.approx(3 + 1 + 2 + 1 / held.points)


def test_counting_changes_no_logit():
    known = mixture_task(0, 4)
    x, y = known.sample(20, seed=0)
    plain = known.bayes_classifier(temperature=3.0)
    assert torch.equal(CountingOptimum(known, 3.0, x, y)(x), plain(x))


def test_the_temperature_is_a_multiple_of_the_default():
    seen = []

    def look(classifier, x, y):
        seen.append(classifier.temperature)
        return x

    for factor in (1.0, 100.0):
        exam(look, task(), per_class=3, temperature=factor)
    default = task().bayes_classifier().temperature
    assert seen == [default, pytest.approx(100 * default)]


@given(seed=st.integers(**SEEDS), classes=st.integers(2, 3))
@property_settings(8)
def test_no_attack_lands_below_the_certified_lower_bound(seed, classes):
    known = mixture_task(seed, 3, classes=classes)
    points = certified_points(known, per_class=10)
    names = ("ld-grad", "ld-grad-tight", "deepfool", "superdeepfool", "ddn", "fmn", "pgd")
    for name in (*names, "boundary-walk"):
        held = exam(name, known, points=points)
        assert held.below == 0, name
        assert held.attack == name


def test_the_released_tasks_are_no_exception():
    import bayesgap as bg

    for name in ("mnist-0-6/symmetric", "mnist-4-5/asymmetric"):
        known = bg.load_task(name)
        points = certified_points(known, per_class=5)
        for attack in ("ld-grad-tight", "ddn", "boundary-walk", named_attack("deepfool")):
            held = exam(attack, known, points=points)
            assert held.below == 0
            assert held.points == 10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "mnist-0-6/symmetric"}, "got a str"),
        ({"per_class": 0}, "got 0"),
        ({"attack": 3}, "got 3"),
        ({"seed": 2**64}, "seed must be an integer, 0 to 9223372036854775807; got 18446744"),
        ({"temperature": "1"}, "A temperature is positive and finite; got '1'"),
        ({"temperature": float("nan")}, "positive and finite; got nan"),
        ({"points": (torch.zeros(1, 1, 1, 3), torch.zeros(1))}, "certified_points gives, .* tuple"),
        ({"attack": "nosuch"}, "no attack 'nosuch'"),
    ],
)
def test_what_cannot_be_examined_is_refused(changes, said):
    arguments = {"attack": "ld-grad", "task": task(), "per_class": 2, **changes}
    with without_shape_checks(), pytest.raises(BayesgapError, match=said):
        exam(**arguments)
