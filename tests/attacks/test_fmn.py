import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayesgap.attacks.fmn import FMN
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.exam import certified_points, exam
from bayesgap.tasks.catalog import load_task
from toys import (
    SEEDS,
    Function,
    ball_with_distances,
    from_gap,
    linear_with_distances,
    mixture_task,
    normal,
    present,
    property_settings,
    spherical_radius,
    spherical_task,
    with_broken_gradient,
)


@pytest.fixture(scope="module")
def digits():
    task = load_task("mnist-0-6/symmetric")
    return task, certified_points(task, per_class=15)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_a_single_hyperplane_is_met_exactly(scale):
    machine, x, y, exact = linear_with_distances(0, 2, scale=scale)
    found = FMN()(machine, x, y)
    assert found.success.all()
    assert (found.sizes >= exact * (1 - 1e-9)).all()
    torch.testing.assert_close(found.sizes, exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("classes", [5, 30])
def test_of_many_classes_it_mostly_finds_the_nearest_one(classes):
    machine, x, y, exact = linear_with_distances(3, classes)
    found = FMN()(machine, x, y)
    assert found.success.all()
    assert (found.sizes >= exact * (1 - 1e-9)).all()
    # It follows the likeliest other class, which need not be the nearest.
    assert (found.sizes / exact).mean() < 1.05
    assert (found.sizes < exact * (1 + 1e-6)).double().mean() > 0.7


def test_it_comes_within_one_percent_of_the_optimums_certified_distance(digits):
    task, points = digits
    held = exam("fmn", task, points=points)
    assert held.success.value == 1.0
    assert held.below == 0
    assert 1 <= present(held.mean_ratio.value) < 1.01
    assert held.backwards == 100


def test_the_temperature_does_not_matter(digits):
    task, points = digits
    one, other = (exam(FMN(20), task, points=points, temperature=t).ratios for t in (0.01, 100.0))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=0)


def test_more_steps_come_nearer(digits):
    task, points = digits
    few, more, many = (
        present(exam(FMN(steps), task, points=points).mean_ratio.value) for steps in (5, 15, 45)
    )
    assert many < more < few


def test_what_it_finds_for_an_image_does_not_depend_on_the_others(digits):
    task, points = digits
    optimum, attack = task.bayes_classifier(), FMN(30)
    x, y = points.x[::5], points.y[::5]
    together = attack(optimum, x, y)
    for size in (1, 4):
        parts = list(zip(x.split(size), y.split(size), strict=True))
        sizes = torch.cat([attack(optimum, *part).sizes for part in parts])
        torch.testing.assert_close(sizes, together.sizes, rtol=1e-6, atol=0)
        again = torch.cat([optimum(part) for part in together.images.split(size)])
        assert (again.argmax(dim=1) != y).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", ["inside", "outside"])
def test_it_finds_the_nearest_point_of_a_ball_anywhere(far, dtype):
    ball, x, exact = ball_with_distances(far, dtype)
    found = FMN()(ball, x, torch.zeros(len(x), dtype=torch.int64))
    assert found.images.dtype == dtype
    assert (found.sizes >= exact * (1 - 1e-5)).all()
    torch.testing.assert_close(found.sizes, exact, rtol=2e-3, atol=1e-5)


def test_two_spheres_of_any_priors_are_told_apart_by_a_plane():
    means, priors = np.array([[0.0, 0, 0], [3, 1, 0]]), [0.2, 0.8]
    task = spherical_task(means, 0.25, priors=priors)
    x, y = task.sample(40, seed=0)
    radius = spherical_radius(x, y, means, 0.25, priors)
    right = radius > 0
    found = FMN()(task.bayes_classifier(), x, y)
    np.testing.assert_allclose(found.sizes.numpy()[right], radius[right], rtol=1e-9, atol=1e-12)


@given(st.integers(**SEEDS), st.integers(2, 4), st.sampled_from([2, 3, 10, 30]))
@property_settings(8)
def test_nothing_it_saw_is_nearer_than_what_it_returns(seed, classes, steps):
    optimum = mixture_task(seed, 4, classes=classes).bayes_classifier()
    x = normal(seed % 1000, 12, 1, 1, 4)
    y = decisions(optimum, x)
    nearest = torch.full((12,), math.inf, dtype=torch.float64)

    def watched(z):
        logits = optimum(z)
        other = logits.detach().argmax(dim=1) != y
        size = (z.detach() - x).flatten(1).norm(dim=1)
        if len(z) == len(x):  # else it is being asked how many classes there are
            nearest.copy_(torch.where(other, size.minimum(nearest), nearest))
        return logits

    found = FMN(steps)(Function(watched), x, y)
    assert torch.equal(found.success, nearest.isfinite())
    assert (found.sizes[found.success] <= nearest[found.success] * (1 + 1e-9) + 1e-12).all()


@pytest.mark.parametrize("gradient", [0.0, math.nan, math.inf])
def test_an_image_without_a_gradient_fails_alone(gradient):
    x = torch.tensor([[0.5, 1.0], [0.5, -1.0], [2.5, 1.0], [2.5, -1.0]]).double()
    x = x.reshape(4, 1, 1, 2)
    found = FMN()(with_broken_gradient(gradient), x, torch.zeros(4, dtype=torch.int64))
    assert found.success.tolist() == [False, True, False, True]
    torch.testing.assert_close(found.sizes[1::2], x[1::2, 0, 0, 0], rtol=1e-9, atol=0)
    assert torch.equal(found.images[::2], x[::2])


def test_logits_that_are_no_numbers_are_no_success():
    def nan_beyond_1(x):
        first = x[:, 0, 0, 0]
        return torch.where(first > 1, math.nan, 0.5 - first)

    x = torch.zeros(2, 1, 1, 2).double()
    found = FMN()(from_gap(nan_beyond_1), x, torch.zeros(2).long())
    torch.testing.assert_close(found.sizes, torch.full((2,), 0.5).double(), rtol=1e-9, atol=0)


def test_equal_logits_are_decided_as_the_first_of_them():
    def clipped(x):
        return torch.stack([torch.zeros(len(x)).to(x), (x[:, 0, 0, 0] - 0.5).relu()], dim=1)

    x = torch.ones(3, 1, 1, 2, dtype=torch.float64)
    found = FMN()(Function(clipped), x, torch.ones(3).long())
    assert found.success.all()
    assert (found.images[:, 0, 0, 0] <= 0.5).all()
    torch.testing.assert_close(found.sizes, torch.full((3,), 0.5).double(), rtol=1e-6, atol=0)


def test_an_image_on_the_boundary_itself_is_broken():
    machine = LinearSVM(normal(0, 1, 4), torch.zeros(1).double())
    x = torch.zeros(1, 1, 2, 2).double()
    found = FMN()(machine, x, decisions(machine, x))
    assert found.success.all()
    assert found.sizes.item() < 1e-12


def test_a_classifier_without_gradients_is_refused():
    hidden = from_gap(lambda x: (x.detach().flatten(1) - 0.1).sum(dim=1))
    x = normal(1, 4, 1, 2, 2)
    with pytest.raises(BayesgapError, match="follows gradients"):
        FMN()(hidden, x, decisions(hidden, x))


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 1},
        {"first_step": 0.0},
        {"first_step": math.nan},
        {"first_step": math.inf},
        {"first_change": 0.0},
        {"first_change": 1.0},
    ],
)
def test_settings_that_are_none_are_refused(settings):
    with pytest.raises(BayesgapError, match=f"FMN needs .*{next(iter(settings.values()))}"):
        FMN(**settings)
