import math

import pytest
import torch

from bayesgap.attacks.fmn import FMN
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.exam import certified_points, exam
from bayesgap.tasks.catalog import load_task
from toys import (
    from_gap,
    linear_with_distances,
    present,
)


@pytest.fixture(scope="module")
def digits():
    task = load_task("mnist-0-6/symmetric")
    return task, certified_points(task, per_class=15)


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


def test_more_steps_come_nearer(digits):
    task, points = digits
    few, more, many = (
        present(exam(FMN(steps), task, points=points).mean_ratio.value) for steps in (5, 15, 45)
    )
    assert many < more < few


def test_logits_that_are_no_numbers_are_no_success():
    def nan_beyond_1(x):
        first = x[:, 0, 0, 0]
        return torch.where(first > 1, math.nan, 0.5 - first)

    x = torch.zeros(2, 1, 1, 2).double()
    found = FMN()(from_gap(nan_beyond_1), x, torch.zeros(2).long())
    torch.testing.assert_close(found.sizes, torch.full((2,), 0.5).double(), rtol=1e-9, atol=0)


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
