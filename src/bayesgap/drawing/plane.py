"""Pictures of two features: which class is decided where, and samples of both classes."""

from collections.abc import Sequence

from jaxtyping import Int, Num
from matplotlib.axes import Axes
from torch import Tensor

from bayesgap.densities.categorical import UNDECIDED
from bayesgap.drawing.style import CLASS_COLOURS, REGIONS

SHOWN = 150  # samples of each class, where a picture does not ask for more or less


def scene(
    axis: Axes,
    regions: Int[Tensor, "rows columns"],
    samples: Sequence[Num[Tensor, "_ 2"]],
    window: Sequence[float],
    *,
    dots: float,
    most: int = SHOWN,
) -> None:
    """Pale regions of decisions, and samples upon them.

    Args:
        axis: The axes to draw on.
        regions: The class that is decided in each cell of the window, or `UNDECIDED`; the first
            row is at the bottom.
        samples: The samples of each of the two classes, one in each row.
        window: The left, right, bottom and top of what is shown, in units of the features.
        dots: The area of a sample's dot, in square points.
        most: The number of samples of each class to show, at most: the first within the window.
    """
    left, right, bottom, top = window
    axis.imshow(
        regions.numpy(),
        cmap=REGIONS,
        vmin=UNDECIDED - 0.5,
        vmax=1.5,
        origin="lower",
        extent=(left, right, bottom, top),
        interpolation="nearest",
    )
    for label, (points, colour) in enumerate(zip(samples, CLASS_COLOURS, strict=True)):
        x, y = points.mT
        inside = (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
        x, y = points[inside][:most].mT
        axis.scatter(x, y, s=dots, color=colour, linewidths=0, label=f"class {label + 1}")
    axis.set_xlim(left, right)
    axis.set_ylim(bottom, top)
    axis.locator_params(nbins=4)
    axis.tick_params(labelsize=7)


def outline(axis: Axes, window: Sequence[float], colour: str) -> None:
    """The frame of a window: its left, right, bottom and top, in units of the features."""
    left, right, bottom, top = window
    xs, ys = [left, right, right, left, left], [bottom, bottom, top, top, bottom]
    axis.plot(xs, ys, color=colour, linewidth=0.9)
