import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayesgap.attacks.boundary import (
    BoundaryWalk,
    bisect,
    gaps,
    nearest_of_each,
    norms,
    value_and_gradient,
    walk,
)
from bayesgap.attacks.library import ddn
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from toys import (
    SEEDS,
    Function,
    Returns,
    from_gap,
    mixture_task,
    normal,
    property_settings,
    threshold_svm,
    uniform,
)


def wavy(seed, d=3):
    """A smooth random gap: a plane with waves on it, computed row by row."""
    random = np.random.default_rng(seed)
    slope, waves = (torch.from_numpy(random.normal(size=shape)) for shape in ((d,), (4, d)))
    phase, height = (torch.from_numpy(random.uniform(size=4)) for _ in range(2))

    def gap(x):
        points = x.flatten(1)
        angles = 2 * (points[:, None] * waves).sum(dim=2) + 6 * phase
        return (points * slope).sum(dim=1) + (height * angles.sin()).sum(dim=1)

    return gap


def pairs_across(gap, seed, n=8, d=3):
    """Images with a positive gap, and others with a negative one."""
    x = 3 * normal(seed % 1000, 400, 1, 1, d)
    value = gap(x)
    inside, outside = x[value > 0][:n], x[value < 0][:n]
    n = min(len(inside), len(outside))
    return inside[:n], outside[:n]


def ball(centre, radius, far):
    """Decided 1 inside a ball (far = "inside") or outside it."""
    sign = 1 if far == "inside" else -1
    return from_gap(lambda x: sign * ((x - centre).flatten(1).square().sum(dim=1) - radius**2))


def test_value_and_gradient_are_those_of_the_function():
    x = normal(0, 5, 1, 2, 2)
    with torch.no_grad():
        value, gradient = value_and_gradient(lambda z: z.flatten(1).pow(3).sum(dim=1), x)
    torch.testing.assert_close(value, x.flatten(1).pow(3).sum(dim=1))
    torch.testing.assert_close(gradient, 3 * x.square())
    assert not value.requires_grad
    assert not x.requires_grad


def test_the_gap_is_negative_where_the_decision_is_another():
    machine, x = LinearSVM(normal(0, 3, 4), normal(1, 3)), normal(2, 30, 1, 2, 2)
    y = torch.arange(30) % 3
    assert torch.equal(gaps(machine, y)(x) < 0, decisions(machine, x) != y)


@given(st.integers(**SEEDS), st.sampled_from([1, 5, 12, 40]))
@property_settings(25)
def test_bisection_ends_on_the_far_side_just_beyond_a_crossing(seed, steps):
    gap = wavy(seed)
    x, z = pairs_across(gap, seed)
    end = bisect(gap, x, z, steps)
    assert (gap(end) < 0).all()
    # Its place on the segment is a whole number of parts; one part before it is the near side.
    parts = 2.0**steps
    place = ((end - x) * (z - x)).flatten(1).sum(dim=1) / norms(z - x).square()
    place = (place * parts).round() / parts
    assert ((place > 0) & (place <= 1)).all()
    torch.testing.assert_close(end, x + place[:, None, None, None] * (z - x), rtol=0, atol=1e-13)
    before = (place - 1 / parts)[:, None, None, None]
    assert (gap(x + before * (z - x)) >= 0).all()


def test_bisection_reaches_a_millionth_of_a_millionth_of_the_segment():
    machine = LinearSVM(torch.tensor([[1.0, 0, 0]]), torch.tensor([-1 / 3], dtype=torch.float64))
    x, z = torch.zeros(1, 1, 1, 3).double(), torch.ones(1, 1, 1, 3).double()
    end = bisect(gaps(machine, torch.tensor([0])), x, z)
    assert 0 < end[0, 0, 0, 0].item() - 1 / 3 <= 2.0**-40 + 1e-16


def test_bisection_leaves_a_segment_that_never_crosses_as_it_is():
    x, z = normal(0, 4, 1, 1, 3), normal(1, 4, 1, 1, 3)
    assert torch.equal(bisect(lambda points: torch.ones(len(points)).double(), x, z), z)


@given(st.integers(**SEEDS), st.integers(0, 20))
@property_settings(25)
def test_a_walk_stays_on_the_far_side_and_never_gets_farther(seed, steps):
    gap = wavy(seed)
    x, z = pairs_across(gap, seed)
    z = bisect(gap, x, z, 12)
    before = z.clone()
    end = walk(from_gap(gap), x, torch.zeros(len(x), dtype=torch.int64), z, steps)
    assert torch.equal(z, before)
    assert (gap(end) < 0).all()
    assert (norms(end - x) <= norms(z - x) * (1 + 1e-14)).all()  # a rounded norm


def test_a_longer_walk_is_never_worse():
    gap = wavy(3)
    x, z = pairs_across(gap, 3)
    y = torch.zeros(len(x), dtype=torch.int64)
    lengths = [norms(walk(from_gap(gap), x, y, z, steps) - x) for steps in (0, 1, 3, 10, 30)]
    for shorter, longer in itertools.pairwise(lengths):
        assert (longer <= shorter * (1 + 1e-14)).all()
    assert torch.equal(lengths[0], norms(z - x))
    assert (lengths[-1] < 0.9 * lengths[0]).any()


@pytest.mark.parametrize("far", ["inside", "outside"])
def test_a_walk_finds_the_nearest_point_of_a_ball(far):
    centre, radius = torch.tensor([[[0.3, -0.2, 0.1]]]).double(), 1.0
    machine = ball(centre, radius, far)
    unit = normal(0, 40, 1, 1, 3)
    unit = unit / norms(unit)[:, None, None, None]
    distance = (2.0 if far == "inside" else 0.4) * torch.linspace(1, 1.5, 40).double()
    x = centre + distance[:, None, None, None] * unit
    start = normal(1, 40, 1, 1, 3)
    reach = 0.9 if far == "inside" else 1.5
    start = centre + reach * start / norms(start)[:, None, None, None]
    y = torch.zeros(40, dtype=torch.int64)
    z = walk(machine, x, y, bisect(gaps(machine, y), x, start), 50)
    expected = (distance - radius).abs()
    assert (norms(z - x) >= expected * (1 - 1e-14)).all()
    # A ray is left where a turn shortens it by less than 1e-5 of its length: turns that are
    # short may leave some hundred times that.
    torch.testing.assert_close(norms(z - x), expected, rtol=5e-3, atol=0)


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


def test_the_nearest_of_each_other_decision_comes_from_near_to_far():
    machine = Function(lambda x: -(x[:, :, 0, 0] - torch.tensor([[0.0, 1.0, 2.0]])).square())
    pool = torch.tensor([0.1, 0.9, 1.2, 1.8, 2.2], dtype=torch.float64)[:, None, None, None]
    x = torch.tensor([0.0, 2.1], dtype=torch.float64)[:, None, None, None]
    found = list(nearest_of_each(machine, x, torch.tensor([0, 2]), pool, 5))
    assert [each.flatten().tolist() for each in found] == [[0.9, 1.2], [1.8, 0.1]]
    (only,) = nearest_of_each(machine, x, torch.tensor([0, 2]), pool, 1)
    assert torch.equal(only, found[0])
    assert list(nearest_of_each(machine, x, torch.tensor([0, 2]), pool[:0], 1)) == []
