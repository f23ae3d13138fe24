"""How all plots look: fonts, colours and the drawing that several share."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

# Of Okabe and Ito's palette: told apart by readers with any colour vision.
BLACK, VERMILION, SKY, GREEN = "#000000", "#D55E00", "#56B4E9", "#009E73"
PURPLE, BLUE, ORANGE, GREY = "#CC79A7", "#0072B2", "#E69F00", "#999999"
SERIES = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY)
CLASS_COLOURS = (PURPLE, BLUE)
REGIONS = ListedColormap(["#ffffff", "#f3dfe8", "#cfe3f0"])  # nobody's, and pale class colours
STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
}
# With a fixed salt the same results give the same bytes.
SVG: Any = {"svg.hashsalt": "bayesgap", "svg.fonttype": "path"}


def styled(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    with matplotlib.rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def handles_of(axes: Sequence[Axes]) -> tuple[list[Any], list[str]]:
    """Everything that has a label on any of the axes, once: handles and labels of a legend."""
    found: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    return list(found.values()), list(found)


def distribution(
    axis: Axes,
    values: Float[Tensor, " n"],
    limits: tuple[float, float],
    colour: str,
    dashes: str,
    label: str | None,
) -> None:
    """A distribution function on a logarithmic axis; values that are NaN are left out."""
    ordered = values[~values.isnan()].sort().values.numpy()
    at = np.concatenate([[limits[0]], ordered, [limits[1]]])
    share = np.concatenate([[0], np.arange(1, len(ordered) + 1) / len(ordered), [1]])
    axis.step(at, share, dashes, where="post", color=colour, linewidth=1.4, label=label)
    axis.set_xscale("log")
    axis.set_xlim(*limits)
    axis.set_ylim(-0.02, 1.02)
    axis.tick_params(labelsize=7)
