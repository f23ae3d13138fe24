"""The stages of figure 2: regions and radii of pairs of densities in the plane.

The layouts are ours (`tasks.plane`, and for the tables `paper.observations.tables`).
"""

import math

import torch
from torch import Tensor

from bayesgap.densities.categorical import table_decisions, table_radius
from bayesgap.paper.observations.tables import SPREADS, two_tables
from bayesgap.paper.plane import decisions_within, window_around
from bayesgap.radius.certify import certify
from bayesgap.runs.stage import seed_of
from bayesgap.runs.store import Result
from bayesgap.tasks.plane import OUTLIER_MOVE, mixtures, plane_tasks
from bayesgap.tasks.task import Task

TABLES = {"c": True, "g": False}  # panels of tables, and whether they are symmetric
EXCHANGED = "h exchanged"  # h with the outliers of both classes exchanged, as a control
WINDOW = 1.3  # half the width of what a picture of Gaussians shows, in units of the features
ZOOM = 0.05  # half the width of its inset, around a mean of class 1
ZOOMED_LEVELS = 6  # likewise of tables, on either side of a level


def study_gaussians(
    *, panel: str, per_class: int, grid: int, sample_seed: int, seed: int
) -> Result:
    """One panel of Gaussians: decisions on a grid, and certified radii of samples.

    Args:
        panel: The panel's letter, "a" to "h" but for the tables "c" and "g", or `EXCHANGED`.
        per_class: The number of samples of each class.
        grid: The number of decisions along each axis of the picture, and of its inset.
        sample_seed: The seed of the run's samples.
        seed: The stage's seed.

    Returns:
        As tensors, the samples "x" (n, 2), in units of the features, and of each sample its
        class "y", whether it is from an "outlier" component and whether it is decided "correct"
        (n,), and the bracket "lower" and "upper" of its radius (n,), in units of the features;
        and "regions" and "zoom", the decisions in the picture and in its inset (grid, grid),
        along the second feature and then along the first. As values, the "distance" between the
        classes, and the "window" and "zoom" that are shown, each as left, right, bottom and top;
        all in units of the features.
    """
    task = mixtures(-OUTLIER_MOVE) if panel == EXCHANGED else plane_tasks()[panel]
    y = torch.arange(task.classes).repeat_interleave(per_class)
    x, outlier = task.sample_given(y, seed=seed_of(sample_seed, seed))
    found = certify(task, x, y)
    window = window_around(0.0, 0.0, WINDOW)
    column, row = task.mixtures[0].means[0].tolist()
    zoom = window_around(column, row, ZOOM)
    return Result(
        {
            "x": x.flatten(1),
            "y": y,
            "outlier": outlier,
            "correct": found.correct,
            "lower": found.lower,
            "upper": found.upper,
            "regions": decisions_within(task, window, columns=grid, rows=grid),
            "zoom": decisions_within(task, zoom, columns=grid, rows=grid),
        },
        {"distance": _distance(task), "window": window, "zoom": zoom},
    )


def _distance(task: Task) -> float:
    """Between the nearest two components of different classes, outliers aside."""
    own, other = (
        density.means if task.outliers is None else density.means[:-1] for density in task.mixtures
    )
    return torch.cdist(own, other).min().item()


def study_tables(*, panel: str, per_class: int, sample_seed: int, seed: int) -> Result:
    """One panel of tables, whose decisions and radii are exact.

    Args:
        panel: The panel's letter, "c" or "g".
        per_class: The number of samples of each class.
        sample_seed: The seed of the run's samples.
        seed: The stage's seed.

    Returns:
        What `study_gaussians` returns, in units of levels; "regions" has a decision for each
        cell of the tables, and "zoom" those of the cells around a mean of class 1.
    """
    pair = two_tables(SPREADS[-1], symmetric=TABLES[panel])
    generator = torch.Generator().manual_seed(seed_of(sample_seed, seed))
    cells = torch.cat([density.sample(per_class, generator=generator) for density in pair])
    y = torch.arange(len(pair)).repeat_interleave(per_class)
    decided, radius = table_decisions(pair), table_radius(pair)
    at = cells.unbind(dim=1)
    correct = decided[at] == y
    radii = torch.where(correct, radius[at], 0.0)
    means = [_mean(density.table) for density in pair]
    regions = decided.mT.to(torch.int8).contiguous()
    column, row = (round(value) for value in means[0])
    rows, columns = (slice(k - ZOOMED_LEVELS, k + ZOOMED_LEVELS + 1) for k in (row, column))
    edges = [-0.5, pair[0].levels[0] - 0.5]
    return Result(
        {
            "x": cells.double(),
            "y": y,
            "outlier": torch.zeros_like(correct),
            "correct": correct,
            "lower": radii,
            "upper": radii.clone(),
            "regions": regions,
            "zoom": regions[rows, columns].contiguous(),
        },
        {
            "distance": math.dist(*means),
            "window": [*edges, *edges],
            "zoom": window_around(float(column), float(row), ZOOMED_LEVELS + 0.5),
        },
    )


def _mean(table: Tensor) -> list[float]:
    """The mean level of each of the two features."""
    levels = torch.arange(len(table), dtype=torch.float64)
    return [(table.sum(dim=1 - axis) @ levels).item() for axis in (0, 1)]
