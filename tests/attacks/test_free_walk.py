"""What both walks without gradients have in common."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from bayesgap.attacks.boundary_walk import BoundaryWalk
from bayesgap.attacks.decision_walk import DecisionWalk
from bayesgap.attacks.free_walk import shorten
from bayesgap.attacks.queries import Queries
from bayesgap.attacks.score_walk import ScoreWalk
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.errors import BayesgapError
from toys import Function, from_gap, normal, threshold_svm, uniform

WALKS = (ScoreWalk, DecisionWalk)
both = pytest.mark.parametrize("walk", WALKS)


def linear(seed=0, d=64):
    return LinearSVM(normal(seed, 1, d), normal(seed + 1, 1))


def distances(machine, x):
    return (2 * machine(x)[:, 1]).abs() / machine.weight.norm()


class Forest(nn.Module):
    """A forest of scikit-learn, in float64 because of its buffer."""

    def __init__(self, d, trees, depth, seed):
        super().__init__()
        random = np.random.default_rng(seed)
        points = random.uniform(size=(300, d))
        height = np.sin(5 * points).sum(axis=1) + 0.3 * random.normal(size=300)
        labels = (height > np.median(height)).astype(int)
        self.forest = RandomForestClassifier(trees, max_depth=depth, random_state=seed)
        self.forest.fit(points, labels)
        self.pool = torch.from_numpy(points).reshape(-1, 1, 1, d)
        self.register_buffer("place", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        # As predict_proba does, without what it checks each time.
        points = x.detach().flatten(1).numpy().astype(np.float32)
        shares = [each.tree_.predict(points) for each in self.forest.estimators_]
        return torch.from_numpy(np.mean(shares, axis=0))

    def radius(self, x, y):
        """The distance to the nearest box of another decision, over all boxes of the partition."""
        trees = [each.tree_ for each in self.forest.estimators_]
        edges = [
            np.unique(np.concatenate([tree.threshold[tree.feature == j] for tree in trees]))
            for j in range(x[0].numel())
        ]
        lows = list(itertools.product(*[[-np.inf, *edge] for edge in edges]))
        highs = list(itertools.product(*[[*edge, np.inf] for edge in edges]))
        low, high = np.array(lows), np.array(highs)
        inner = (np.clip(low, -9, 9) + np.clip(high, -9, 9)) / 2
        decided = self.forest.predict_proba(inner).argmax(axis=1)
        nearest = [
            np.linalg.norm(np.clip(point, low, high) - point, axis=1)[decided != label].min()
            for point, label in zip(x.flatten(1).numpy(), y.numpy(), strict=True)
        ]
        return torch.tensor(nearest)


@pytest.mark.parametrize(
    ("walk", "side", "queries", "within"),
    [
        (ScoreWalk, 2, 2_000, 1e-5),
        (ScoreWalk, 8, 2_000, 1e-5),
        (DecisionWalk, 2, 2_000, 1e-3),
        (DecisionWalk, 8, 4_000, 0.01),
    ],
)
def test_the_hyperplane_of_a_linear_machine_is_found(walk, side, queries, within):
    machine, x = linear(d=side**2), normal(2, 20, 1, side, side)
    y = decisions(machine, x)
    found = walk(normal(3, 30, 1, side, side), queries=queries)(machine, x, y)
    expected = distances(machine, x)
    assert (found.sizes >= expected * (1 - 1e-12)).all()
    torch.testing.assert_close(found.sizes, expected, rtol=within, atol=0)


@pytest.mark.parametrize(
    ("walk", "gamma", "queries"),
    [(ScoreWalk, 20.0, 2_000), (DecisionWalk, 2.0, 3_000), (DecisionWalk, 20.0, 3_000)],
)
def test_a_kernel_is_broken_at_every_point_as_by_the_walk_with_gradients(walk, gamma, queries):
    machine, pool = threshold_svm(gamma)
    x = uniform(5, 30, 1, 2, 2)
    y = decisions(machine, x)
    walked = BoundaryWalk(pool, samples=5)(machine, x, y)
    found = walk(pool, queries=queries)(machine, x, y)
    assert found.success.all()
    assert found.sizes.mean() <= 1.01 * walked.sizes.mean()


@both
@pytest.mark.parametrize(("d", "trees", "depth"), [(2, 10, 4), (4, 3, 3)])
def test_the_nearest_box_of_a_forest_is_found(walk, d, trees, depth):
    forest = Forest(d, trees, depth, seed=d)
    x = uniform(9, 12, 1, 1, d)
    y = decisions(forest, x)
    expected = forest.radius(x, y)
    found = walk(forest.pool, queries=5_000)(forest, x, y)
    assert found.success.all()
    # scikit-learn rounds points to float32.
    assert (found.sizes >= expected - 1e-6).all()
    assert found.sizes.sum() <= 1.05 * expected.sum()
    assert (found.sizes <= 1.02 * expected).double().mean() >= 0.7


@both
@pytest.mark.parametrize("d", [6, 30])
def test_pixels_that_do_not_matter_go_back_whatever_the_dimension(walk, d):
    """The other decision is a box of half the pixels, without any slope."""
    inside = d // 2
    box = from_gap(lambda x: -(x.flatten(1)[:, :inside] > 0.25).all(dim=1).double() + 0.5)
    x, pool = torch.zeros(3, 1, 1, d).double(), 0.6 + 0.4 * uniform(0, 9, 1, 1, d)
    found = walk(pool, queries=3_000)(box, x, torch.zeros(3).long())
    assert found.success.all()
    expected = torch.full((3,), 0.25 * inside**0.5).double()
    torch.testing.assert_close(found.sizes, expected, rtol=0.02, atol=0)


@both
@pytest.mark.parametrize("budget", [1, 2, 13, 40, 150, 400, 1_000])
def test_no_more_images_are_asked_about_than_the_budget_and_more_are_never_worse(walk, budget):
    shown = []

    def logits(x):
        shown.append(len(x))
        return torch.stack([x.flatten(1).square().sum(dim=1), torch.full((len(x),), 9.0)], dim=1)

    x, pool = normal(0, 4, 1, 4, 4), normal(1, 20, 1, 4, 4)
    x, pool = 2 * x / x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1), 4 * pool
    y = torch.ones(4).long()
    attack = walk(pool, queries=budget, milestones=(1, 40, budget))
    found = attack(Function(logits), x, y)
    # Labels, decisions and verification of the images, and the pool's decisions, come on top.
    assert sum(shown) <= 4 * budget + 1 + 2 * 4 + 20
    torch.testing.assert_close(found.curve[:, -1], found.sizes, rtol=1e-9, atol=0)
    assert found.milestones == (1, 40, budget)
    if budget >= 13:
        assert found.success.all()
        assert (found.curve[:, 0] >= found.sizes).all()


@both
def test_the_curve_falls_and_does_not_depend_on_what_is_asked_later(walk):
    machine, x, pool = linear(), normal(2, 5, 1, 8, 8), normal(3, 30, 1, 8, 8)
    y = decisions(machine, x)
    y[3] = 1 - y[3]  # is decided otherwise to begin with
    found = walk(pool, queries=2_000, milestones=(10, 300, 900, 2_000))(machine, x, y)
    assert (found.curve.diff(dim=1) <= 0).all()
    assert (found.curve[3] == 0).all()
    assert found.sizes[3] == 0
    others = torch.tensor([0, 1, 2, 4])
    assert (found.curve[others, 1] < 0.9 * found.curve[others, 0]).all()
    torch.testing.assert_close(found.curve[:, -1], found.sizes, rtol=1e-9, atol=0)


@both
def test_the_result_of_an_image_does_not_depend_on_the_others(walk):
    def gap(x):  # row by row, so that no batch rounds it otherwise
        points = x.flatten(1)
        return (points * slope).sum(dim=1) + 0.3 * (3 * points).sin().sum(dim=1)

    slope = normal(0, 16)
    machine, x, pool = from_gap(gap), normal(1, 7, 1, 4, 4), normal(2, 30, 1, 4, 4)
    y = decisions(machine, x)
    attack = walk(pool, queries=1_500)
    together = attack(machine, x, y)
    assert together.success.all()
    for rows in ([0], [6, 2], [1, 3, 4, 5]):
        alone = attack(machine, x[rows], y[rows])
        assert torch.equal(alone.images, together.images[rows])
        assert torch.equal(alone.sizes, together.sizes[rows])
        assert torch.equal(alone.curve, together.curve[rows])


@both
def test_groups_that_keep_memory_bounded_change_nothing(walk, monkeypatch):
    forest, x = Forest(3, 3, 3, seed=0), uniform(1, 5, 1, 1, 3)
    y = decisions(forest, x)
    attack = walk(forest.pool, queries=200)
    whole = attack(forest, x, y)
    monkeypatch.setattr("bayesgap.attacks.free_walk.MEMORY", 2 * 3 * 3)
    again = attack(forest, x, y)
    assert torch.equal(whole.images, again.images)
    assert torch.equal(whole.curve, again.curve)


@both
def test_no_gradient_is_ever_asked_for(walk):
    class Opaque(LinearSVM):
        def forward(self, x):
            assert not torch.is_grad_enabled()
            assert not x.requires_grad
            return super().forward(x.detach())

    machine = Opaque(normal(0, 1, 16), normal(1, 1))
    x = normal(2, 4, 1, 4, 4)
    found = walk(normal(3, 20, 1, 4, 4), queries=500)(machine, x, decisions(machine, x))
    assert found.success.all()


@both
def test_images_far_beyond_any_box_are_not_clipped(walk):
    machine, x = linear(d=16), 50 * normal(2, 5, 1, 4, 4)
    y = decisions(machine, x)
    found = walk(50 * normal(3, 30, 1, 4, 4), queries=3_000)(machine, x, y)
    expected = distances(machine, x)
    assert (found.sizes >= expected * (1 - 1e-12)).all()
    assert (found.sizes <= 1.01 * expected).all()


@both
def test_several_classes_and_channels(walk):
    machine, x = LinearSVM(normal(0, 4, 27), normal(1, 4)), normal(2, 12, 3, 3, 3)
    y = decisions(machine, x)
    assert len(y.unique()) == 4
    logits, weight = machine(x), machine.weight
    gaps = logits.gather(1, y[:, None]) - logits
    lengths = (weight[y][:, None] - weight).norm(dim=2)
    expected = (gaps / lengths).nan_to_num(torch.inf).amin(dim=1)
    found = walk(normal(3, 40, 3, 3, 3), queries=4_000)(machine, x, y)
    assert (found.sizes >= expected * (1 - 1e-12)).all()
    # A walk ends at one of several faces, not always the nearest one.
    assert found.sizes.sum() <= 1.1 * expected.sum()


@both
def test_a_pool_without_another_decision_is_an_honest_failure(walk):
    machine = LinearSVM(torch.tensor([[1.0, 0, 0]]), torch.tensor([-1.0]))
    pool = uniform(0, 9, 1, 1, 3) - 1
    found = walk(pool, queries=300)(machine, pool[:4], decisions(machine, pool[:4]))
    assert not found.success.any()
    assert found.curve.isposinf().all()


@both
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"queries": 0}, "needs queries of 1 or more; got 0"),
        ({"samples": 0}, "needs samples of 1 or more; got 0"),
        ({"directions": -1}, "needs directions of 1 or more; got -1"),
    ],
)
def test_numbers_that_are_none_are_refused(walk, settings, said):
    with pytest.raises(BayesgapError, match=f"{walk.name} {said}"):
        walk(normal(0, 3, 1, 2, 2), **settings)


@both
def test_an_empty_pool_is_refused(walk):
    machine, x = linear(d=4), normal(0, 2, 1, 2, 2)
    with pytest.raises(BayesgapError, match="its pool holds none"):
        walk(x[:0])(machine, x, decisions(machine, x))


def test_rays_are_shortened_to_the_nearest_crossing_of_any():
    plane = LinearSVM(torch.tensor([[1.0, 0]]), torch.tensor([-1.0]))
    x = torch.zeros(2, 1, 1, 2).double()
    asked = Queries(plane, x, torch.zeros(2).long(), budget=100, milestones=())
    rows = torch.arange(2)
    asked.far(rows, torch.tensor([3.0, 4.0]).double().expand(2, 1, 1, 1, 2))
    rays = torch.tensor([[[3.0, 4], [1, 1], [-1, 0]], [[3.0, 4], [-1, 1], [-1, 0]]]).double()
    taken = shorten(asked, rows, rays.reshape(2, 3, 1, 1, 2))
    assert taken.tolist() == [1, 0]
    # The crossing at 2^0.5 and at 5/3; 16 queries find it within a share of its length.
    assert ((asked.size / torch.tensor([2**0.5, 5 / 3])).sub(1).abs() < 2e-3).all()
    assert (asked.left >= 100 - 1 - 3 * 16).all()


def test_the_curve_of_many_images_is_in_their_order():
    plane = LinearSVM(torch.tensor([[1.0, 0]]), torch.tensor([0.0]))
    x = torch.zeros(600, 1, 1, 2).double()
    x[:, 0, 0, 0] = -torch.arange(600) - 1
    x[::7] *= -1  # are decided otherwise to begin with
    pool = torch.tensor([[5.0, 0]]).reshape(1, 1, 1, 2)
    found = DecisionWalk(pool, queries=150, milestones=(150,))(plane, x, torch.zeros(600).long())
    expected = torch.where(x[:, 0, 0, 0] > 0, 0, -x[:, 0, 0, 0])
    torch.testing.assert_close(found.curve[:, 0], expected, rtol=1e-2, atol=0)
