import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayesgap.attacks.library import deepfool
from bayesgap.attacks.superdeepfool import SuperDeepFool
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

# A segment is halved 12 times; on a hyperplane it is 2 % longer than the distance.
BISECTED = 2.0**-12 * 1.03


@pytest.fixture(scope="module", params=["mnist-0-6/symmetric", "mnist-0-6/asymmetric"])
def digits(request):
    task = load_task(request.param)
    return task, certified_points(task, per_class=15)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("classes", [2, 5, 11])
def test_the_nearest_of_many_hyperplanes_is_met(classes, scale):
    machine, x, y, exact = linear_with_distances(0, classes, scale=scale)
    found = SuperDeepFool()(machine, x, y)
    assert found.success.all()
    assert (found.sizes >= exact * (1 - 1e-9)).all()
    torch.testing.assert_close(found.sizes, exact, rtol=BISECTED, atol=1e-12)


def test_with_few_candidates_the_nearest_hyperplane_may_be_another():
    machine, x, y, exact = linear_with_distances(0, 30)
    few, all_ = (SuperDeepFool(candidates=count)(machine, x, y) for count in (1, 29))
    torch.testing.assert_close(all_.sizes, exact, rtol=BISECTED, atol=0)
    assert few.success.all()
    assert (few.sizes >= exact * (1 - 1e-9)).all()
    assert (few.sizes > 1.05 * exact).any()


def test_it_comes_within_three_percent_of_the_optimums_certified_distance(digits):
    task, points = digits
    held = exam("superdeepfool", task, points=points)
    assert held.success.value == 1.0
    assert held.below == 0
    assert 1 <= present(held.mean_ratio.value) < 1.03
    assert held.backwards < 30
    before = exam("deepfool", task, points=points)
    assert present(held.mean_ratio.value) - 1 < (present(before.mean_ratio.value) - 1) / 2


def test_the_temperature_does_not_matter(digits):
    task, points = digits
    one, other = (
        exam("superdeepfool", task, points=points, temperature=t).ratios for t in (0.01, 100.0)
    )
    torch.testing.assert_close(one, other, rtol=1e-4, atol=0)


def test_what_it_finds_for_an_image_does_not_depend_on_the_others(digits):
    task, points = digits
    optimum, attack = task.bayes_classifier(), SuperDeepFool()
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
    found = SuperDeepFool()(ball, x, torch.zeros(len(x), dtype=torch.int64))
    assert found.images.dtype == dtype
    assert (found.sizes >= exact * (1 - 1e-5)).all()
    torch.testing.assert_close(found.sizes, exact, rtol=1e-3, atol=1e-5)


def ellipse(seed):
    """Decided 1 beyond an ellipse; images inside, and their distances from it by brute force."""
    axes, inside = torch.tensor([2.0, 1.0]).double(), 0.6 * normal(seed, 20, 2)
    inside = inside[(inside / axes).square().sum(dim=1) < 0.9]
    angles = torch.linspace(0, 2 * math.pi, 20_001).double()
    border = axes * torch.stack([angles.cos(), angles.sin()], dim=1)
    machine = from_gap(lambda x: 1 - (x.flatten(1) / axes).square().sum(dim=1))
    return machine, inside.reshape(-1, 1, 1, 2), torch.cdist(inside, border).amin(dim=1)


def test_projection_turns_deepfools_end_towards_the_nearest_point_of_an_ellipse():
    machine, x, exact = ellipse(0)
    y = torch.zeros(len(x), dtype=torch.int64)
    before, found = deepfool()(machine, x, y), SuperDeepFool()(machine, x, y)
    assert found.success.all()
    assert (found.sizes >= exact * (1 - 1e-6)).all()
    assert (found.sizes / exact).median() < 1.005
    assert (before.sizes / exact).median() > 1.02
    assert (found.sizes <= before.sizes * (1 + 1e-9)).all()


def test_two_spheres_of_any_priors_are_told_apart_by_a_plane():
    means, priors = np.array([[0.0, 0, 0], [3, 1, 0]]), [0.2, 0.8]
    task = spherical_task(means, 0.25, priors=priors)
    x, y = task.sample(40, seed=0)
    radius = spherical_radius(x, y, means, 0.25, priors)
    right = radius > 0
    found = SuperDeepFool()(task.bayes_classifier(), x, y).sizes.numpy()[right]
    assert (found >= radius[right] * (1 - 1e-9)).all()
    np.testing.assert_allclose(found, radius[right], rtol=BISECTED, atol=1e-12)


@given(st.integers(**SEEDS), st.integers(2, 4), st.sampled_from([1, 2, 50]))
@property_settings(10)
def test_nothing_it_saw_is_nearer_than_what_it_returns(seed, classes, steps):
    optimum = mixture_task(seed, 4, classes=classes).bayes_classifier()
    x = normal(seed % 1000, 1, 1, 1, 4)
    y = decisions(optimum, x)
    seen = []

    def watched(z):
        logits = optimum(z)
        seen.extend((z[logits.argmax(dim=1) != y].detach() - x).flatten(1).norm(dim=1).tolist())
        return logits

    found = SuperDeepFool(steps)(Function(watched), x, y)
    assert found.success.item() == bool(seen)
    assert not seen or found.sizes.item() <= min(seen) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("gradient", [0.0, math.nan, math.inf])
def test_an_image_without_a_gradient_fails_alone(gradient):
    x = torch.tensor([[0.5, 1.0], [0.5, -1.0], [2.5, 1.0], [2.5, -1.0]]).double()
    x = x.reshape(4, 1, 1, 2)
    machine, y = with_broken_gradient(gradient), torch.zeros(4, dtype=torch.int64)
    found = SuperDeepFool()(machine, x, y)
    assert found.success.tolist() == [False, True, False, True]
    torch.testing.assert_close(found.sizes[1::2], x[1::2, 0, 0, 0], rtol=BISECTED, atol=0)
    assert torch.equal(found.images[::2], x[::2])


def test_a_far_side_without_a_gradient_is_still_a_success():
    plateau = from_gap(lambda x: torch.where(x[:, 0, 0, 0] > 0, x[:, 0, 0, 0], -1.0))
    x = torch.tensor([[[[0.5, 0.0]]], [[[2.0, 1.0]]]]).double()
    found = SuperDeepFool()(plateau, x, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(found.sizes, x[:, 0, 0, 0], rtol=BISECTED, atol=0)


def test_where_there_is_no_other_decision_it_ends_without_success():
    never = from_gap(lambda x: x.flatten(1).sum(dim=1).square() + 1)
    x = normal(0, 3, 1, 2, 2)
    found = SuperDeepFool()(never, x, torch.zeros(3).long())
    assert not found.success.any()
    assert torch.equal(found.images, x)


def test_equal_logits_are_decided_as_the_first_of_them():
    def clipped(x):
        return torch.stack([torch.zeros(len(x)).to(x), (x[:, 0, 0, 0] - 0.5).relu()], dim=1)

    x = torch.ones(3, 1, 1, 2, dtype=torch.float64)
    found = SuperDeepFool()(Function(clipped), x, torch.ones(3).long())
    assert found.success.all()
    torch.testing.assert_close(found.sizes, torch.full((3,), 0.5).double(), rtol=0.021, atol=0)


def test_an_image_on_the_boundary_itself_is_broken():
    machine = LinearSVM(normal(0, 1, 4), torch.zeros(1).double())
    x = torch.zeros(1, 1, 2, 2).double()
    found = SuperDeepFool()(machine, x, decisions(machine, x))
    assert found.success.all()
    assert found.sizes.item() < 1e-12


def test_a_classifier_without_gradients_is_refused():
    hidden = from_gap(lambda x: (x.detach().flatten(1) - 0.1).sum(dim=1))
    x = normal(1, 4, 1, 2, 2)
    with pytest.raises(BayesgapError, match="follows gradients"):
        SuperDeepFool()(hidden, x, decisions(hidden, x))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("candidates", 0),
        ("overshoot", -0.1),
        ("overshoot", math.nan),
        ("bisections", -1),
    ],
)
def test_settings_that_are_none_are_refused(name, value):
    with pytest.raises(BayesgapError, match=f"SuperDeepFool needs .*{value}"):
        SuperDeepFool(**{name: value})
