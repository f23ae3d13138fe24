import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayesgap.attacks.boundary import (
    TINY,
    across,
    bisect,
    gaps,
    nearest_of_each,
    nearest_success,
    norms,
    settled,
    unit,
    value_and_gradient,
    walk,
)
from bayesgap.attacks.named import named_attack
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.errors import BayesgapError
from toys import (
    SEEDS,
    Function,
    from_gap,
    normal,
    property_settings,
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


def test_units_have_length_1_and_the_way_of_what_they_are_of():
    x = torch.cat([normal(0, 3, 1, 2, 2), torch.zeros(1, 1, 2, 2).double()])
    torch.testing.assert_close(norms(unit(x)), torch.tensor([1.0, 1.0, 1.0, 0.0]).double())
    assert torch.equal(unit(x), x / norms(x).clamp(min=TINY)[:, None, None, None])


def test_what_has_no_gradient_or_a_backward_that_fails_is_a_sentence():
    x = normal(0, 3, 1, 2, 2)
    with pytest.raises(BayesgapError, match="have none with respect to the images"):
        value_and_gradient(lambda z: z.detach().requires_grad_().flatten(1).sum(dim=1), x)
    with pytest.raises(BayesgapError, match="backward pass failed: NotImplementedError: "):
        value_and_gradient(lambda z: torch.unique(z, dim=0).flatten(1).sum(dim=1), x)


# A tie: where the second of two logits is 0 as the first is, the first decides.
CUT = Function(lambda x: torch.stack([0 * x[:, 0, 0, 0], (x[:, 0, 0, 0] - 0.5).relu()], dim=1))


def test_a_decision_by_a_tie_is_another_without_a_gradient_and_0_with_one():
    x, y = torch.tensor([0.2, 0.5, 0.7]).double().reshape(3, 1, 1, 1), torch.tensor([1, 1, 1])
    gap = gaps(CUT, y)
    assert gap(x).tolist() == [0.0, 0.0, (x[2] - 0.5).item()]
    with torch.no_grad():
        assert (gap(x) < 0).tolist() == [True, True, False]
        assert not across(gap(x)).any()
    own = gaps(CUT, torch.zeros(3).long())
    with torch.no_grad():  # the first of the largest decides as before
        assert (own(x) < 0).tolist() == [False, False, True]
        assert across(own(x)).tolist() == [False, False, True]


def test_a_success_by_a_tie_is_brought_near_the_boundary():
    x, y = torch.full((2, 1, 1, 2), 1.0).double(), torch.tensor([1, 1])
    far = nearest_success(CUT, x, y, [torch.tensor([[[[-3.0, 1.0]]], [[[1.0, 1.0]]]]).double()])
    end = settled(gaps(CUT, y), x, far)
    torch.testing.assert_close(norms(end - x), torch.tensor([0.5, 0.0]).double())
    assert decisions(CUT, end).tolist() == [0, 1]


@pytest.mark.parametrize(
    "name", ["closest", "boundary-walk", "fmn", "pgd", "score-walk", "decision-walk"]
)
def test_attacks_count_a_tie_as_another_decision(name):
    x, pool = torch.full((1, 1, 1, 2), 1.0), torch.tensor([[[[0.0, 1.0]]], [[[0.0, 0.0]]]])
    found = named_attack(name, pool=pool)(CUT, x, torch.tensor([1]))
    assert found.sizes.item() == pytest.approx(0.5, rel=0.01)


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


def test_the_nearest_of_each_other_decision_comes_from_near_to_far():
    machine = Function(lambda x: -(x[:, :, 0, 0] - torch.tensor([[0.0, 1.0, 2.0]])).square())
    pool = torch.tensor([0.1, 0.9, 1.2, 1.8, 2.2], dtype=torch.float64)[:, None, None, None]
    x = torch.tensor([0.0, 2.1], dtype=torch.float64)[:, None, None, None]
    found = list(nearest_of_each(machine, x, torch.tensor([0, 2]), pool, 5))
    assert [each.flatten().tolist() for each in found] == [[0.9, 1.2], [1.8, 0.1]]
    (only,) = nearest_of_each(machine, x, torch.tensor([0, 2]), pool, 1)
    assert torch.equal(only, found[0])
    assert list(nearest_of_each(machine, x, torch.tensor([0, 2]), pool[:0], 1)) == []
