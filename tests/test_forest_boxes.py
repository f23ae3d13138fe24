import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from forest_boxes import exact_distances


def problem(seed, d, classes=2, n=150):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d))
    y = (x.sum(axis=1) + 0.7 * random.normal(size=n) > 0).astype(int)
    return x, y + (classes == 3) * (x[:, 0] > 1)


def forest_of(seed, d, *, classes=2, trees=4, leaves=5):
    x, y = problem(seed, d, classes)
    return RandomForestClassifier(trees, max_leaf_nodes=leaves, random_state=seed).fit(x, y)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("d", [1, 2])
def test_the_distance_is_that_to_the_nearest_point_of_a_fine_grid(d, classes):
    forest = forest_of(d, d, classes=classes)
    x, _ = problem(10 + d, d, n=30)
    y = forest.predict(x)
    # A grid that reaches beyond the last threshold, and its step.
    axis, step = np.linspace(-4, 4, 1_001 if d == 2 else 100_001, retstep=True)
    grid = np.stack(np.meshgrid(*[axis] * d), axis=-1).reshape(-1, d)
    decided = forest.predict(grid)
    found = exact_distances(forest, x, y)
    for i in range(len(x)):
        nearest = cdist(x[i : i + 1], grid[decided != y[i]]).min()
        assert nearest - step * np.sqrt(d) <= found[i] <= nearest


@pytest.mark.parametrize("d", [3, 4])
def test_no_random_search_comes_nearer_and_a_dense_one_comes_near(d):
    forest = forest_of(d, d, trees=3)
    x, _ = problem(20 + d, d, n=20)
    y = forest.predict(x)
    found = exact_distances(forest, x, y)
    random = np.random.default_rng(0)
    for i in range(len(x)):
        directions = random.normal(size=(20_000, d))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        inner = x[i] + found[i] * (1 - 1e-6) * directions * random.uniform(size=(20_000, 1))
        assert (forest.predict(inner) == y[i]).all()
        # A box may have a corner alone within reach, so outwards the ball is searched with room.
        outer = x[i] + (1.3 * found[i] + 1e-6) * directions
        assert (forest.predict(outer) != y[i]).any()


def test_of_one_stump_it_is_the_distance_to_its_threshold_in_float64():
    x = np.array([[0.1], [0.30000001]])
    stump = DecisionTreeClassifier(max_depth=1).fit(x, [0, 1])
    points = np.array([[-3.0], [0.1999], [0.2], [0.7]])
    y = stump.predict(points)
    found = exact_distances(stump, points, y)
    np.testing.assert_allclose(found, np.abs(points[:, 0] - 0.2), atol=1e-7)
    # Exactly where decisions change, although the tree sees float32.
    for beyond, changed in ((-1e-12, False), (1e-12, True)):
        moved = points[:, 0] + np.where(y == 0, 1, -1) * (found + beyond)
        assert ((stump.predict(moved[:, None]) != y) == changed).all()


def test_a_forest_that_never_changes_its_decision_is_infinitely_far_and_a_wrong_label_at_0():
    x, _ = problem(0, 2)
    constant = RandomForestClassifier(2, random_state=0).fit(x, np.zeros(len(x), dtype=int))
    assert exact_distances(constant, x[:3], np.zeros(3)).tolist() == [np.inf] * 3
    forest = forest_of(0, 2)
    assert exact_distances(forest, x[:9], 1 - forest.predict(x[:9])).tolist() == [0] * 9
    assert set(forest.predict(x[:9])) == {0, 1}


def test_labels_are_those_that_the_forest_was_fitted_with():
    x, y = problem(1, 2)
    named = DecisionTreeClassifier(max_leaf_nodes=6, random_state=0).fit(x, np.array(["a", "b"])[y])
    plain = DecisionTreeClassifier(max_leaf_nodes=6, random_state=0).fit(x, y)
    np.testing.assert_array_equal(
        exact_distances(named, x, named.predict(x)), exact_distances(plain, x, plain.predict(x))
    )


def test_too_many_boxes_are_refused():
    with pytest.raises(ValueError, match="boxes are too many"):
        exact_distances(forest_of(0, 4, trees=60, leaves=40), np.zeros((1, 4)), np.zeros(1))
