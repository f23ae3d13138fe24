import math

import pytest
import torch

from bayesgap.attacks.library import deepfool
from bayesgap.attacks.superdeepfool import SuperDeepFool
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.exam import certified_points, exam
from bayesgap.tasks.catalog import load_task
from toys import (
    from_gap,
    linear_with_distances,
    normal,
    present,
)

# A segment is halved 12 times; on a hyperplane it is 2 % longer than the distance.
BISECTED = 2.0**-12 * 1.03


@pytest.fixture(scope="module", params=["mnist-0-6/symmetric", "mnist-0-6/asymmetric"])
def digits(request):
    task = load_task(request.param)
    return task, certified_points(task, per_class=15)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("classes", [5, 11])
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


def test_a_far_side_without_a_gradient_is_still_a_success():
    plateau = from_gap(lambda x: torch.where(x[:, 0, 0, 0] > 0, x[:, 0, 0, 0], -1.0))
    x = torch.tensor([[[[0.5, 0.0]]], [[[2.0, 1.0]]]]).double()
    found = SuperDeepFool()(plateau, x, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(found.sizes, x[:, 0, 0, 0], rtol=BISECTED, atol=0)


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
