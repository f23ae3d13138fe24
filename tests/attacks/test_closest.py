import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from bayesgap.attacks.base import Attack
from bayesgap.attacks.boundary import bisect, gaps, norms, slack
from bayesgap.attacks.boundary_walk import BoundaryWalk
from bayesgap.attacks.closest import PAIRS, Closest, _Pairs, descend
from bayesgap.attacks.named import named_attack
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM, train_rbf_svms
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError
from bayesgap.radius.certify import certify
from bayesgap.tasks.catalog import load_task
from bayesgap.tasks.task import Task
from toys import (
    SEEDS,
    from_gap,
    generator,
    mixture_task,
    normal,
    property_settings,
    threshold_svm,
    uniform,
)


def ellipsoid(scales, inside):
    """Decided 0 inside (or outside) the ellipsoid around 0 with these half-axes."""
    sign = 1 if inside else -1
    return from_gap(lambda x: sign * (1 - (x.flatten(1) / scales).square().sum(dim=1)))


def ellipsoid_distance(point, scales):
    """From a point to the ellipsoid: the secular equation of its nearest point's multiplier."""
    point, square = np.asarray(point), np.asarray(scales) ** 2

    def nearest(multiplier):
        return point * square / (square + multiplier)

    def excess(multiplier):
        return (nearest(multiplier) ** 2 / square).sum() - 1

    within = (point**2 / square).sum() < 1
    low, high = (-square.min() * (1 - 1e-13), 0.0) if within else (0.0, 1e6)
    return np.linalg.norm(point - nearest(brentq(excess, low, high, xtol=1e-16, rtol=1e-14)))


def unequal_task(seed, d=60):
    """Two Gaussians, half of whose pixels have a noise of 0.001 and the others up to 0.3."""
    random = np.random.default_rng(seed)
    densities = []
    for _ in range(2):
        std = np.where(random.random(d) < 0.5, 1e-3, random.uniform(0.01, 0.3, d))
        parts = (
            np.ones(1),
            random.uniform(0.3, 0.6, (1, d)),
            0.05 * random.normal(size=(1, d, 2)),
            std[None] ** 2,
        )
        densities.append(MixtureOfFactorAnalyzers(*map(torch.from_numpy, parts)))
    return Task(densities, image_shape=(1, 1, d))


@given(st.integers(**SEEDS))
@property_settings(15)
def test_the_remembered_pairs_solve_as_a_dense_bfgs_matrix_does(seed):
    """(7.16) and (7.17) of Nocedal and Wright, from the scaled identity."""
    random, d, multiplier = np.random.default_rng(seed), 6, 0.7
    root = random.normal(size=(d, d))
    curvature = root @ root.T - np.eye(d)
    steps = random.normal(size=(PAIRS + 2, d))
    pairs, kept = _Pairs(PAIRS), []
    for step in steps:
        change = curvature @ step
        pairs.add(
            torch.from_numpy(step)[None], torch.from_numpy(change)[None], torch.tensor([True])
        )
        kept.append((step, step + multiplier * change))
    kept = [(s, y) for s, y in kept[-PAIRS:] if s @ y > 1e-3 * s @ s]
    inverse = np.eye(d) * (min(1.0, kept[-1][0] @ kept[-1][1] / (kept[-1][1] @ kept[-1][1])))
    for s, y in kept:
        turn = np.eye(d) - np.outer(s, y) / (y @ s)
        inverse = turn @ inverse @ turn.T + np.outer(s, s) / (y @ s)
    right = random.normal(size=(2, 1, d))
    solved = pairs.solve(torch.tensor([multiplier]).double(), torch.from_numpy(right))
    np.testing.assert_allclose(solved, right @ inverse, rtol=1e-4, atol=1e-5)


def test_pairs_that_are_not_known_change_nothing():
    pairs, right = _Pairs(PAIRS), normal(0, 1, 3, 4)
    bad = torch.full((3, 4), torch.nan).double()
    pairs.add(bad, bad, torch.tensor([False] * 3))
    torch.testing.assert_close(pairs.solve(torch.ones(3).double(), right), right, rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_the_hyperplane_of_a_linear_machine_is_found_in_any_unit(scale):
    machine = LinearSVM(scale * normal(0, 1, 4), scale * normal(1, 1))
    x, pool = normal(2, 20, 1, 2, 2), normal(3, 30, 1, 2, 2)
    found = Closest(pool)(machine, x, decisions(machine, x))
    expected = (machine(x)[:, 1] * 2).abs() / machine.weight.norm()
    torch.testing.assert_close(found.sizes, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(
    "scales",
    [torch.logspace(-2, 0, 20), torch.cat([torch.full((10,), 1e-3), torch.linspace(0.3, 1, 10)])],
    ids=["1 : 100", "1 : 1000"],
)
def test_the_nearest_point_of_a_narrow_ellipsoid_is_found(inside, scales):
    d, n, scales = 20, 12, scales.double()
    machine = ellipsoid(scales, inside)
    unit = normal(0, n, d)
    unit = unit / unit.norm(dim=1, keepdim=True)
    reach = torch.linspace(0.2, 0.7, n) if inside else torch.linspace(1.5, 3.0, n)
    points = reach[:, None].double() * unit * (scales if inside else scales.sqrt())
    x, y = points.reshape(n, 1, 1, d), torch.zeros(n).long()
    assert (decisions(machine, x) == 0).all()
    pool = (torch.full((d,), 2.0) if inside else 1e-4 * scales).double().reshape(1, 1, 1, d)
    expected = torch.tensor([ellipsoid_distance(point, scales) for point in points])
    found = Closest(pool)(machine, x, y)
    assert (found.sizes >= expected * (1 - 1e-9)).all()
    torch.testing.assert_close(found.sizes, expected, rtol=2e-2, atol=0)
    if not inside:  # where turns in tangent planes miss the far side, however small
        assert (BoundaryWalk(pool)(machine, x, y).sizes / expected).mean() > 1.3


@pytest.mark.parametrize("seed", [0, 1])
def test_the_optimum_of_very_unequal_noise_is_broken_where_the_certificate_says(seed):
    task = unequal_task(seed)
    optimum = task.bayes_classifier()
    x, y = task.sample(24, seed=1)
    bracket = certify(task, x, y)
    pool, _ = task.sample(100, seed=2)
    found = Closest(pool)(optimum, x[bracket.correct], y[bracket.correct])
    lower, upper = bracket.lower[bracket.correct], bracket.upper[bracket.correct]
    assert found.success.all()
    assert (found.sizes >= lower * (1 - 1e-9)).all()
    assert (found.sizes / upper).mean() < 1.01


def test_the_optimum_of_an_asymmetric_task_is_broken_nearer_than_by_a_walk():
    task = load_task("mnist-4-5/asymmetric")
    x, y = task.sample(10, seed=0)
    pool, _ = task.sample(200, seed=1)
    bracket = certify(task, x, y)
    there = bracket.correct
    ratios = [
        (attack(task.bayes_classifier(), x[there], y[there]).sizes / bracket.lower[there]).mean()
        for attack in (Closest(pool), BoundaryWalk(pool, attacks=[named_attack("ddn")]))
    ]
    assert 1 - 1e-9 < ratios[0] < 1.01
    assert ratios[1] > 1.05


def test_more_gradients_are_never_worse_and_no_end_is_farther_than_its_start():
    task = mixture_task(0, 5)
    optimum = task.bayes_classifier()
    x, pool = task.sample(30, seed=0)[0], task.sample(200, seed=1)[0]
    y = decisions(optimum, x)
    start = torch.stack([pool[(decisions(optimum, pool) != label).nonzero()[0, 0]] for label in y])
    start = bisect(gaps(optimum, y), x, start, 12)
    ends = [descend(optimum, x, y, start, steps) for steps in (0, 1, 5, 10, 25, 60)]
    assert torch.equal(ends[0], start)
    # A crossing within rounding of the boundary may be decided otherwise in another batch.
    assert all((gaps(optimum, y)(end) < 1e-12).all() for end in ends)
    lengths = [norms(end - x) for end in ends]
    for shorter, longer in itertools.pairwise(lengths):
        assert (longer <= shorter * (1 + 1e-12)).all()
    assert lengths[-1].mean() < 0.95 * lengths[0].mean()


def test_a_success_at_the_end_of_a_descent_is_stationary_where_the_boundary_is_smooth():
    task = mixture_task(3, 4, components=1)
    optimum = task.bayes_classifier()
    x, pool = task.sample(30, seed=0)[0], task.sample(60, seed=1)[0]
    y = decisions(optimum, x)
    found = Closest(pool)(optimum, x, y)
    assert found.success.all()
    assert slack(optimum, x, y, found.images).max() < 1e-3


@pytest.mark.parametrize("gamma", [20.0, 500.0, 2000.0])
def test_every_point_of_a_narrow_kernel_is_broken(gamma):
    machine, pool = threshold_svm(gamma)
    x = uniform(5, 200, 1, 2, 2)
    assert Closest(pool)(machine, x, decisions(machine, x)).success.all()


def test_a_kernel_whose_gradients_vanish_is_broken_no_farther_than_by_a_boundary_walk():
    """Descents alone are sent off the boundary here, and end 1.6 % farther."""
    task = load_task("mnist-4-5/asymmetric")
    machine = train_rbf_svms(*task.sample(300, seed=7), gammas=[0.2], classes=2)[0]
    x, pool = task.sample(40, seed=3)[0], task.sample(500, seed=1)[0]
    y = decisions(machine, x)
    walked = BoundaryWalk(pool, attacks=[named_attack("ddn")])(machine, x, y)
    found = Closest(pool)(machine, x, y)
    assert found.success.all()
    assert found.sizes.mean() <= walked.sizes.mean() * 1.001


def test_plateaus_and_walls_leave_the_start_that_a_sample_gives():
    def steps(x):
        first = x[:, 0, 0, 0]
        return 0 * first + torch.where(first.detach() < 0.5, 1.0, -1.0)

    def wall(x):
        first = x[:, 0, 0, 0]
        return torch.where(first > 2, torch.inf, (0.5 - first))

    pool = torch.tensor([0.9, 0.2]).double()[:, None].reshape(2, 1, 1, 1)
    for gap in (steps, wall):
        machine, x = from_gap(gap), torch.tensor([0.1, 0.3, 0.45]).double().reshape(3, 1, 1, 1)
        found = Closest(pool)(machine, x, torch.zeros(3).long())
        torch.testing.assert_close(found.sizes, 0.5 - x.flatten(), rtol=1e-9, atol=1e-12)


def test_without_a_pool_or_another_decision_in_it_the_image_itself_is_the_start():
    machine = LinearSVM(torch.tensor([[1.0, 0, 0]]), torch.tensor([-1.0]))
    x = uniform(0, 4, 1, 1, 3) - 0.5
    for pool in (x[:0], x):
        found = Closest(pool, samples=3)(machine, x, decisions(machine, x))
        torch.testing.assert_close(found.sizes, 1 - x[:, 0, 0, 0], rtol=1e-9, atol=0)


def test_the_name_builds_the_attack():
    attack: Attack = named_attack("closest", pool=normal(0, 3, 1, 2, 2))
    assert isinstance(attack, Closest)
    with pytest.raises(BayesgapError, match="closest starts from samples"):
        named_attack("closest")


@given(st.integers(**SEEDS))
@property_settings(20)
def test_slack_is_what_the_distance_has_in_excess_of_the_hyperplane(seed):
    random = torch.randn(3, 1, 1, 5, generator=generator(seed), dtype=torch.float64)
    weight, bias = normal(seed % 97, 1, 5), normal(seed % 89, 1)
    machine = LinearSVM(weight, bias)
    y = decisions(machine, random)
    foot = -machine(random)[:, 1] * 2 / weight.square().sum()
    along = normal(seed % 83, 3, 5)
    along = along - (along @ weight.T) / weight.square().sum() * weight
    z = random + (foot[:, None] * weight + along).reshape(3, 1, 1, 5)
    expected = 1 - foot.abs() * weight.norm() / norms(z - random)
    torch.testing.assert_close(slack(machine, random, y, z), expected, rtol=1e-9, atol=1e-12)


def test_slack_at_the_image_without_gradient_and_where_the_margin_falls_towards_it():
    ball = from_gap(lambda x: 1 - x.flatten(1).square().sum(dim=1))
    x = torch.tensor([[0.5, 0], [0.5, 0], [0.5, 0], [3.0, 0]]).double().reshape(4, 1, 1, 2)
    z = torch.tensor([[1.0, 0], [0.5, 0], [0, 0], [1.0, 0]]).double().reshape(4, 1, 1, 2)
    expected = torch.tensor([0.0, 0, 1, 1]).double()
    torch.testing.assert_close(slack(ball, x, torch.zeros(4).long(), z), expected)


def dual_bound(weight, bias, change, x, reach=1.0):
    """A lower bound of the distance to weight · change(z) + bias = 0, by its Lagrangian dual.

    Without the constraint the pixels part, so that each is searched over a grid.
    """
    grid = torch.linspace(-reach, reach, 4001, dtype=torch.float64)
    bounds = []
    for point in x.double().flatten(1):
        sign = -1 if (weight @ change(point[None])[0] + bias) > 0 else 1
        gains = sign * weight[:, None] * change(point[:, None] + grid)
        costs, best = grid.square() / 2, 0.0
        for multiplier in torch.logspace(-3, 1, 200, dtype=torch.float64):
            least = (costs - multiplier * gains).min(dim=1).values.sum()
            best = max(best, (least - multiplier * sign * bias).item())
        bounds.append((2 * best) ** 0.5)
    return torch.tensor(bounds)


def test_restarts_come_near_the_nearest_of_many_local_minima():
    weight, bias = normal(0, 40).double(), 0.1

    def ripples(z):
        return z + 0.05 * (60 * z).sin()

    machine = from_gap(lambda z: ripples(z.flatten(1).double()) @ weight + bias)
    x, pool = 0.3 * normal(1, 24, 1, 5, 8).double(), 0.3 * normal(2, 50, 1, 5, 8).double()
    y = decisions(machine, x)
    once = Closest(pool)(machine, x, y).sizes
    again = Closest(pool, restarts=8)
    sizes = again(machine, x, y).sizes
    bound = dual_bound(weight, bias, ripples, x)
    assert again.name == "closest-restarts" != Closest(pool).name
    assert (sizes <= once * (1 + 1e-9)).all()
    assert (sizes >= bound * (1 - 1e-3)).all()  # the grid's
    assert (once / bound).mean() > 1.13  # 0.144 above, of which restarts leave two thirds
    assert (sizes / bound).mean() < 1.1
    assert (sizes / bound).median() < 1.01


@pytest.mark.parametrize("facets", [10, 30])
def test_restarts_find_facets_that_cross_no_way_to_a_sample(facets):
    """The margin is the least of linear functions of very unequal steepness: a convex polytope."""
    normals = normal(0, facets, 40).double()
    normals = normals / normals.norm(dim=1, keepdim=True)
    reach = 0.5 + 0.5 * uniform(1, facets).double()
    steepness = 10 ** (2 * uniform(2, facets).double() - 1)

    def gap(z):
        return (steepness * (reach - z.flatten(1) @ normals.mT)).amin(dim=1)

    machine = from_gap(gap)
    x, pool = 0.05 * normal(3, 20, 1, 5, 8).double(), 3 * normals[:1].reshape(1, 1, 5, 8)
    y = decisions(machine, x)
    truth = (reach - x.flatten(1) @ normals.mT).amin(dim=1)
    once = Closest(pool)(machine, x, y).sizes
    found = Closest(pool, restarts=8)(machine, x, y).sizes
    assert (found >= truth * (1 - 1e-9)).all()
    assert (once / truth).mean() > 1.05
    assert (found / truth).mean() < 1.02
