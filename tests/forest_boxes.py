"""The exact minimal perturbation against a small tree or forest, by looking at every box.

The thresholds of all trees cut space into a grid of boxes, on each of which the forest decides
one way. So the distance from a point to another decision is that to the nearest box with one.
"""

import math
from collections.abc import Iterator

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

MOST_BOXES = 2_000_000


def exact_distances(
    forest: RandomForestClassifier | DecisionTreeClassifier, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """The L2 distance from each point to the nearest one that `forest.predict` calls otherwise.

    It is an infimum: the nearest point itself may lie on a box's open side. Infinite where the
    forest says y everywhere, 0 where it does not say y of the point.

    Args:
        forest: A fitted tree or forest, of few features and few leaves.
        x: The points, of shape (n, d).
        y: As which each of them is decided, of shape (n,).
    """
    cuts, inside = zip(*_cuts(forest), strict=True)
    shape = [len(values) for values in inside]
    if math.prod(shape) > MOST_BOXES:
        raise ValueError(f"{math.prod(shape)} boxes are too many to look at: grow smaller trees.")
    corners = np.stack(np.meshgrid(*inside, indexing="ij"), axis=-1).reshape(-1, len(inside))
    decided = forest.predict(corners).reshape(shape)
    distances = []
    for point, label in zip(x.astype(float), y, strict=True):
        squares = np.zeros(())
        for value, edges in zip(point, cuts, strict=True):
            lower, upper = np.append(-np.inf, edges), np.append(edges, np.inf)
            squares = (
                squares[..., None] + np.maximum(0, np.maximum(lower - value, value - upper)) ** 2
            )
        distances.append(np.sqrt(squares[decided != label].min(initial=np.inf)))
    return np.array(distances)


def _cuts(
    forest: RandomForestClassifier | DecisionTreeClassifier,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each feature the values where decisions change, and one value in each interval between.

    scikit-learn rounds points to float32 and sends those not above a threshold to the left. So a
    change lies half-way between the float32 below a threshold and the one above it.
    """
    trees = [tree.tree_ for tree in getattr(forest, "estimators_", [forest])]
    features = np.concatenate([tree.feature for tree in trees])
    thresholds = np.concatenate([tree.threshold for tree in trees])
    for feature in range(forest.n_features_in_):
        exact = thresholds[features == feature]
        below = exact.astype(np.float32)
        below = np.where(below > exact, np.nextafter(below, np.float32(-np.inf)), below)
        below = np.unique(below)
        above = np.nextafter(below, np.float32(np.inf))
        last = above[-1:] if len(below) else np.zeros(1, np.float32)
        yield (below.astype(float) + above) / 2, np.append(below, last)
