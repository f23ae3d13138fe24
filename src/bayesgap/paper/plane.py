"""Windows of the plane, and what an optimum decides in them, for pictures of two features."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from bayesgap.classifiers.module import decisions
from bayesgap.tasks.task import Task


def window_around(x: float, y: float, reach: float) -> list[float]:
    """A square window: its left, right, bottom and top.

    Args:
        x: The first feature in its middle.
        y: The second feature in its middle.
        reach: Half the length of its sides.
    """
    return [x - reach, x + reach, y - reach, y + reach]


def decisions_within(
    task: Task, window: Sequence[float], *, columns: int, rows: int
) -> Int[Tensor, "rows columns"]:
    """The classes that the optimum decides at the centres of the cells of a grid.

    Args:
        task: A task of two features, as images (1, 1, 2).
        window: The left, right, bottom and top of the grid, in units of the features.
        columns: The number of cells along the first feature.
        rows: The number of cells along the second feature, counted from the bottom.
    """
    left, right, bottom, top = window
    along, across = (
        (torch.arange(number, dtype=torch.float64) + 0.5) / number for number in (columns, rows)
    )
    points = torch.cartesian_prod(bottom + (top - bottom) * across, left + (right - left) * along)
    classifier = task.bayes_classifier(temperature=1.0)
    decided = decisions(classifier, points.flip(1).reshape(-1, *task.image_shape))
    return decided.reshape(rows, columns).to(torch.int8)
