"""The picture of figure 2: regions, samples and radii of its eight panels."""

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgap.drawing import BLACK, GREEN, STYLE, VERMILION, distribution, handles_of, plane, styled
from bayesgap.paper.engine import Findings
from bayesgap.paper.fig2.panels import looseness, pairs, relative_radii
from bayesgap.runs.store import Result

LOOSE = 1.01  # upper/lower above which both are drawn
RADIUS_LIMITS = (1e-2, 6.0)  # in half the distance between classes
ROWS = ("symmetric data", "asymmetric data", "asymmetric data, nearer", "share of points within")
CONTENTS = {
    "a": "equal spheres",
    "b": "equally narrow",
    "c": "tables",
    "d": "mixtures",
    "e": "one sphere tiny",
    "f": "one class narrow",
    "g": "tables, one class broad",
    "h": "mixtures, broad parts",
}


def regions_and_radii(findings: Findings) -> Figure:
    """A column for each panel of the top row: it, the one below, that one nearer, and radii."""
    with matplotlib.rc_context(STYLE):
        figure = styled(9.4, 9.6)
        axes = figure.subplots(4, 4, height_ratios=[1, 1, 1, 0.8])
        for (above, below, near, radii), pair in zip(axes.T, pairs(findings), strict=True):
            top, symmetric, low, asymmetric = pair
            _regions(above, top, symmetric)
            _regions(below, low, asymmetric)
            _nearer(below, near, low, asymmetric)
            _radii(radii, symmetric, asymmetric)
        for axis, text in zip(axes[:, 0], ROWS, strict=True):
            axis.set_ylabel(text, fontsize=9)
        figure.legend(
            *handles_of([axes[0, 0], axes[3, -1]]),
            loc="outside lower center",
            ncols=5,
            fontsize=8,
            markerscale=3,
        )
        return figure


def _scene(axis: Axes, result: Result, regions: str, window: str, dots: float) -> None:
    samples = [result.tensors["x"][result.tensors["y"] == label] for label in (0, 1)]
    plane.scene(axis, result.tensors[regions], samples, result.values[window], dots=dots)


def _regions(axis: Axes, panel: str, result: Result) -> None:
    _scene(axis, result, "regions", "window", 3.0)
    axis.set_title(f"({panel}) {CONTENTS[panel]}", fontsize=9)


def _nearer(whole: Axes, axis: Axes, panel: str, result: Result) -> None:
    """The inset of a panel on an axis of its own, and its frame in the whole."""
    _scene(axis, result, "zoom", "zoom", 9.0)
    axis.locator_params(nbins=3)
    (left, right, *_), zoom = result.values["window"], result.values["zoom"]
    factor = (right - left) / (zoom[1] - zoom[0])
    axis.set_title(f"({panel}) {factor:.0f} times nearer", fontsize=9)
    plane.outline(whole, zoom, BLACK)


def _radii(axis: Axes, symmetric: Result, asymmetric: Result) -> None:
    """Distribution functions of radii, of the panel above with its classes together."""
    curves: list[tuple[Result, int | None, str, str, str]] = [
        (symmetric, None, GREEN, "-", "symmetric, both classes"),
        (asymmetric, 0, VERMILION, "-", "asymmetric, class 1"),
        (asymmetric, 1, VERMILION, "--", "asymmetric, class 2"),
    ]
    for result, label, colour, dashes, text in curves:
        lower = relative_radii(result, "lower", label)
        distribution(axis, lower, RADIUS_LIMITS, colour, dashes, text)
        if looseness(result) > LOOSE:
            upper = relative_radii(result, "upper", label)
            distribution(axis, upper, RADIUS_LIMITS, colour, ":", None)
    axis.set_xlabel("radius ÷ half the classes' distance", fontsize=8)
