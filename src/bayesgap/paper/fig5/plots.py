"""The picture of figure 5: decisions and boundaries in the plane, and the distances to them."""

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from bayesgap.drawing import BLACK, GREEN, STYLE, VERMILION, distribution, handles_of, plane, styled
from bayesgap.experiment import ASYMMETRIC, SYMMETRIC
from bayesgap.paper.engine import Findings, Named
from bayesgap.paper.fig5.training import line_tasks
from bayesgap.paper.plane import decisions_within

WINDOW = (-1.3, 1.3, -0.6, 0.6)  # left, right, bottom and top, in units of the features
COLUMNS, ROWS = 780, 360  # of the grid of decisions
REACH = np.array([-9.0, 9.0])  # from the foot of the origin on a boundary, beyond the window
DISTANCES = (3e-3, 3.0)  # in units of the features
COLOURS = {"bad": VERMILION, "good": GREEN}  # by start
TITLES = {
    ASYMMETRIC: "asymmetric data: the optimum is brittle",
    SYMMETRIC: "symmetric data: the optimum is robust",
}


def boundaries_and_distances(findings: Findings) -> Figure:
    """Both tasks side by side, learned boundaries on the second, and below them all distances."""
    with matplotlib.rc_context(STYLE):
        figure = styled(9.4, 5.4)
        grid = figure.add_gridspec(2, 2, height_ratios=[1, 0.9])
        for column, variant in enumerate(TITLES):
            scene = figure.add_subplot(grid[0, column])
            _scene(scene, findings, variant)
        for start in COLOURS:
            _boundaries(scene, findings[Named(start)].tensors["parameters"], start)
        below = figure.add_subplot(grid[1, :])
        _distances(below, findings)
        figure.legend(
            *handles_of([scene, below]),
            loc="outside lower center",
            ncols=4,
            fontsize=8,
            markerscale=3,
        )
        return figure


def _scene(axis: Axes, findings: Findings, variant: str) -> None:
    tensors = findings[Named(variant)].tensors
    regions = decisions_within(line_tasks()[variant], WINDOW, columns=COLUMNS, rows=ROWS)
    samples = [tensors["x"][tensors["y"] == label] for label in (0, 1)]
    plane.scene(axis, regions, samples, WINDOW, dots=3.0)
    axis.set_title(TITLES[variant], fontsize=9)


def _boundaries(axis: Axes, parameters: Float[Tensor, "trainings 3"], start: str) -> None:
    """Where w·x + b = 0, as lines that span the window."""
    for training, (x, y, bias) in enumerate(parameters.tolist()):
        size = x * x + y * y
        foot, along = (-bias * x / size, -bias * y / size), (-y / size**0.5, x / size**0.5)
        axis.plot(
            foot[0] + REACH * along[0],
            foot[1] + REACH * along[1],
            color=COLOURS[start],
            linewidth=1,
            alpha=0.7,
            label=_learned(start) if training == 0 else None,
        )


def _distances(axis: Axes, findings: Findings) -> None:
    for start, colour in COLOURS.items():
        distance = findings[Named(start)].tensors["distance"].flatten()
        distribution(axis, distance, DISTANCES, colour, "-", _learned(start))
    # Last, for the learned boundaries of a good start lie on the optimum's.
    for variant, label, text, dashes in (
        (ASYMMETRIC, 0, "optimum, asymmetric, class 1", "-"),
        (ASYMMETRIC, 1, "optimum, asymmetric, class 2", "--"),
        (SYMMETRIC, None, "optimum, symmetric", ":"),
    ):
        tensors = findings[Named(variant)].tensors
        lower = tensors["lower"] if label is None else tensors["lower"][tensors["y"] == label]
        distribution(axis, lower, DISTANCES, BLACK, dashes, text)
    axis.set_xlabel("distance to another decision (units of the features)", fontsize=8)
    axis.set_ylabel("share of points within", fontsize=8)


def _learned(start: str) -> str:
    return f"learned from a {start} start"
