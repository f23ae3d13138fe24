import pytest
import torch

from bayesgap.attacks.boundary_walk import BoundaryWalk
from bayesgap.attacks.library import ddn
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from toys import (
    Returns,
    mixture_task,
    normal,
    threshold_svm,
    uniform,
)


def test_a_boundary_walk_breaks_every_point_of_a_narrow_kernel_where_ddn_alone_does_not():
    machine, pool = threshold_svm(20.0)
    x = uniform(5, 40, 1, 2, 2)
    y = decisions(machine, x)
    assert 5 < y.sum() < 35
    alone = ddn()(machine, x, y)
    walked = BoundaryWalk(pool)(machine, x, y)
    both = BoundaryWalk(pool, attacks=[ddn()])(machine, x, y)
    assert alone.success.double().mean() < 0.9
    assert walked.success.all()
    assert both.success.all()
    assert (both.sizes <= torch.minimum(alone.sizes, walked.sizes) * (1 + 1e-9)).all()


@pytest.mark.parametrize("gamma", [500.0, 2000.0])
def test_no_start_is_lost_to_the_rounding_of_a_very_narrow_kernel(gamma):
    machine, pool = threshold_svm(gamma)
    x = uniform(5, 500, 1, 2, 2)
    assert BoundaryWalk(pool)(machine, x, decisions(machine, x)).success.all()


def test_more_starts_are_never_worse():
    task = mixture_task(0, 3)
    optimal = task.bayes_classifier()
    (x, _), (pool, _) = task.sample(15, seed=0), task.sample(60, seed=1)
    y = decisions(optimal, x)
    one, five = (BoundaryWalk(pool, samples=n)(optimal, x, y).sizes for n in (1, 5))
    assert (five <= one * (1 + 1e-9)).all()
    assert (five < 0.99 * one).any()


def test_points_near_the_boundary_are_broken_though_the_start_is_far_away():
    d, n = 11, 200
    unit = normal(0, d) / normal(0, d).norm()
    machine = LinearSVM(unit[None], torch.tensor([0.3]))
    distance = torch.logspace(-5, 0, n).double()
    x = normal(1, n, d)
    x = x + (distance - x @ unit - machine.bias)[:, None] * unit
    pool = (torch.tensor([[-100.0], [100.0]]) * unit).reshape(2, 1, 1, d)
    found = BoundaryWalk(pool)(machine, x.reshape(n, 1, 1, d), torch.ones(n, dtype=torch.int64))
    assert found.success.all()
    # x's own distance is known to 1e-15 or so.
    torch.testing.assert_close(found.sizes, distance, rtol=1e-9, atol=1e-13)


def test_a_pool_without_another_class_is_an_honest_failure():
    machine = LinearSVM(torch.tensor([[1.0, 0, 0]]), torch.tensor([-1.0]))
    pool = uniform(0, 9, 1, 1, 3) - 1
    x = pool[:4] - 0.5
    found = BoundaryWalk(pool, samples=3)(machine, x, decisions(machine, x))
    assert not found.success.any()
    assert torch.isposinf(found.sizes).all()
    assert torch.equal(found.images, x)


def test_a_pool_may_lack_another_class_where_an_attack_finds_one():
    machine = LinearSVM(torch.tensor([[1.0, 0, 0]]), torch.tensor([-1.0]))
    x = torch.zeros(2, 1, 1, 3).double()
    far = torch.tensor([2.0, 1.0, 0.0]).double()
    found = BoundaryWalk(x, attacks=[Returns(lambda x: x + far)])(machine, x, decisions(machine, x))
    torch.testing.assert_close(found.sizes, torch.ones(2).double(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("size", [0, 2])
def test_of_a_pool_smaller_than_the_samples_asked_for_all_are_tried(size):
    machine = LinearSVM(torch.tensor([[1.0, 0, 0]]), torch.tensor([0.0]))
    pool = torch.tensor([[[[-1.0, 0, 0]]], [[[1.0, 0, 0]]]])[:size]
    x = torch.full((1, 1, 1, 3), 0.5)
    found = BoundaryWalk(pool, samples=3)(machine, x, decisions(machine, x))
    assert found.success.item() == (size > 0)
