"""Plots of one evaluation: accuracy over radii, sizes beside the optimum's, points explained."""

import math
from collections.abc import Sequence
from typing import Literal

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from torch import Tensor

from bayesgap.drawing.strips import strip, strip_of_changes
from bayesgap.drawing.style import BLACK, BLUE, CLASS_COLOURS, GREY, STYLE, VERMILION, styled
from bayesgap.drawing.words import number
from bayesgap.estimates import Estimate
from bayesgap.evaluation.explanation import Explanation, Nearest
from bayesgap.evaluation.record import Curve

PANEL = 1.45  # inches that an image is wide
TITLE, FOOT = 0.42, 0.24  # inches above and below an image
STRIPE = 4  # how many times longer than wide images are no longer drawn to scale
LONGEST_NAME = 21  # letters that fit above an image
SPAN = 10.0  # large over small sizes, from which on axes are logarithmic
BULK = (0.1, 0.9)  # of all sizes, between which these are taken
COLOURED = 10  # classes at most that are told apart by colours
BINS = 24
QUANTILES = 60  # of sizes, at which accuracies are drawn, with half as many steps between the ends
UNIT = (0.0, 1.0)  # the pixel values of real images
BEYOND_UNIT = (-0.5, 1.5)  # within these, but for a few pixels, lie samples of images in the unit


def accuracies(curve: Curve, norm: str) -> Figure:
    """Robust accuracy of a classifier over radii, and what is certified of the optimum.

    Args:
        curve: The accuracies, as `Evaluation.curve` gives them.
        norm: The name of the norm that radii are measured by.
    """
    with matplotlib.rc_context(STYLE):
        figure = styled(6.6, 4.0)
        axis = figure.subplots()
        if curve.certified is not None:
            label = "the optimum, certified: at least"
            _band(axis, curve.radii, curve.certified, BLACK, "--", label)
        _band(axis, curve.radii, curve.accuracy, VERMILION, "-", "the classifier: at most")
        positive = [radius for radius in curve.radii if radius > 0]
        if _logarithmic(positive):
            _lengthen(axis, "x")
            axis.set_xlim(min(positive), max(positive))
        elif positive:
            axis.set_xlim(0, max(positive))
        axis.set_ylim(-0.02, 1.02)
        axis.set_xlabel(f"largest {norm} of a change, in pixel units", parse_math=False)
        axis.set_ylabel("share decided correctly")
        axis.grid(color="#eeeeee")
        figure.legend(loc="outside upper center", ncols=2)
        return figure


def _band(
    axis: Axes,
    radii: Sequence[float],
    accuracy: Sequence[Estimate],
    colour: str,
    dashes: str,
    label: str,
) -> None:
    middle, low, high = zip(*((each.value, each.low, each.high) for each in accuracy), strict=True)
    axis.fill_between(radii, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.plot(radii, middle, dashes, color=colour, linewidth=1.6, label=label)


def sizes_beside(
    sizes: Float[Tensor, " n"],
    certified: Float[Tensor, " n"],
    y: Int[Tensor, " n"],
    names: Sequence[str],
    norm: str,
) -> Figure:
    """Each point's size against a classifier over the optimum's certified distance.

    Args:
        sizes: The size of the nearest success at each point; infinite where there is none.
        certified: The optimum's certified lower bound at each point, positive.
        y: The label of each point.
        names: What each class is called.
        norm: The name of the norm.
    """
    with matplotlib.rc_context(STYLE):
        figure = styled(4.7, 4.3)
        axis = figure.subplots()
        broken = sizes.isfinite() & (sizes > 0)
        values = torch.cat([sizes[broken], certified]).tolist()
        limits = (0.0, 1.08 * max(values))
        if _logarithmic(values):
            _lengthen(axis, "x")
            _lengthen(axis, "y")
            limits = (min(values) / 1.25, 1.25 * max(values))
        colours = _colours(len(names))
        for label in y.unique().tolist():
            own = broken & (y == label)
            axis.plot(certified[own], sizes[own], "o", color=colours[label], alpha=0.7, ms=4.5)
            out = ~sizes.isfinite() & (y == label)
            top = torch.full_like(certified[out], limits[1])
            axis.plot(certified[out], top, "^", color=colours[label], ms=6, clip_on=False)
        axis.plot(limits, limits, color=GREY, linewidth=1, zorder=0)
        axis.set_xlim(*limits)
        axis.set_ylim(*limits)
        axis.set_aspect("equal")
        axis.set_xlabel(f"the optimum's certified {norm}", parse_math=False)
        axis.set_ylabel(f"{norm} found against the classifier", parse_math=False)
        _legend(figure, y, names)
        return figure


def sizes_alone(
    sizes: Float[Tensor, " n"], y: Int[Tensor, " n"], names: Sequence[str], norm: str
) -> Figure:
    """A histogram of the sizes of successes, where nothing is certified.

    Args:
        sizes: The size of the nearest success at each point, finite.
        y: The label of each point.
        names: What each class is called.
        norm: The name of the norm.
    """
    with matplotlib.rc_context(STYLE):
        figure = styled(6.6, 4.0)
        axis = figure.subplots()
        shown, colours = y.unique().tolist(), _colours(len(names))
        parts = [sizes[y == label].numpy() for label in shown]
        axis.hist(parts, bins=BINS, stacked=True, color=[colours[label] for label in shown])
        axis.set_xlim(left=0)
        axis.set_xlabel(f"{norm} found against the classifier", parse_math=False)
        axis.set_ylabel("points")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(figure, y, names)
        return figure


def point(
    explanation: Explanation,
    norm: str,
    *,
    limits: tuple[float, float] = UNIT,
    certified: bool = True,
) -> Figure:
    """A point, the nearest images found of another decision, and what changed in them.

    Args:
        explanation: The point, as `Evaluation.explain` gives it.
        norm: The name of the norm that sizes are measured by.
        limits: The pixel values that are black and white.
        certified: Whether there is a part for the optimum's nearest image.
    """
    deciders = {"classifier": explanation.classifier}
    if certified:
        deciders["optimum"] = explanation.optimum
    columns = 1 + 2 * len(deciders)
    tall, wide = explanation.image.shape[1:]
    ratio = tall / wide
    stretched = not 1 / STRIPE <= ratio <= STRIPE
    height = PANEL * (1.0 if stretched else min(1.5, max(0.3, ratio)))
    whole = height + TITLE + FOOT
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PANEL * columns, whole))
        places = {"left": 0.01, "right": 0.99, "wspace": 0.08}
        places |= {"top": 1 - TITLE / whole, "bottom": FOOT / whole}
        axes = figure.subplots(1, columns, gridspec_kw=places)
        strip(axes[0], _shown(explanation.image)[None], "", limits=limits)
        _say(axes[0], _first(explanation), "")
        for place, (decider, nearest) in enumerate(deciders.items()):
            pair = axes[1 + 2 * place : 3 + 2 * place]
            _pair(pair, decider, nearest, norm, limits)
        if stretched:
            for axis in axes:
                axis.set_aspect("auto")
        return figure


def _first(explanation: Explanation) -> str:
    label, decision = _short(explanation.label), _short(explanation.decision)
    return f"point {explanation.index}:\n{label}" if label == decision else f"{label}\n→ {decision}"


def _pair(
    axes: np.ndarray,
    decider: str,
    nearest: Nearest | None,
    norm: str,
    limits: tuple[float, float],
) -> None:
    """What one decider decides otherwise nearest to a point, and what changed."""
    if nearest is None:
        for axis in axes:
            axis.axis("off")
        none = "none found" if decider == "classifier" else "decides the\npoint wrongly"
        axes[0].text(0.5, 0.5, f"{decider}:\n{none}", ha="center", va="center", fontsize=8)
        return
    strip(axes[0], _shown(nearest.image)[None], "", limits=limits)
    _say(axes[0], f"{decider}:\n{_short(nearest.decision)}", f"{norm} {number(nearest.size)}")
    strip_of_changes(axes[1], _most(nearest.change)[None])
    said = axes[1].get_ylabel()
    axes[1].set_ylabel("")
    _say(axes[1], f"{decider}:\n{said}", "")


def _say(axis: Axes, title: str, below: str) -> None:
    """Words around an image, which may come from strangers."""
    axis.set_title(title, fontsize=8, pad=3, parse_math=False)
    axis.set_xlabel(below, fontsize=8, labelpad=2, parse_math=False)
    axis.spines[:].set(visible=True, color="#cccccc", linewidth=0.6)


def value_range(x: Float[Tensor, "n C H W"]) -> tuple[float, float]:
    """The pixel values to show as black and white: 0 and 1 of images in that unit.

    Args:
        x: All images, whose samples may reach a little beyond the unit. Of images in another
            unit it is what all but 1 in 50 pixels lie between.
    """
    values = x.double().flatten()
    values = values[:: max(1, len(values) // 1_000_000)]
    low, high = values.quantile(torch.tensor([0.01, 0.99], dtype=torch.float64)).tolist()
    if BEYOND_UNIT[0] <= low and high <= BEYOND_UNIT[1] and high > 0.05:
        return UNIT
    return (low, high) if high > low else (low - 1, low + 1)


def _shown(image: Float[Tensor, "C H W"]) -> Float[Tensor, "channels H W"]:
    """Images of other than one or three channels as the mean of these."""
    return image if len(image) in (1, 3) else image.mean(dim=0, keepdim=True)


def _most(change: Float[Tensor, "C H W"]) -> Float[Tensor, "channels H W"]:
    """Of other than one or three channels the change in which each place changed most."""
    if len(change) in (1, 3):
        return change
    return change.gather(0, change.abs().argmax(dim=0, keepdim=True))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _logarithmic(values: Sequence[float]) -> bool:
    """Whether most positive values are so far apart that a linear axis would hide the small."""
    if not values:
        return False
    low, high = np.quantile(values, BULK)
    return bool(high > SPAN * low)


def _lengthen(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with few numbers that are written out."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _colours(classes: int) -> list[str]:
    """The colour of each class, all alike where there are too many to be told apart."""
    if classes > COLOURED:
        return [BLUE] * classes
    if classes <= len(CLASS_COLOURS):
        return list(CLASS_COLOURS)
    return [matplotlib.colors.to_hex(colour) for colour in matplotlib.colormaps["tab10"].colors]  # type: ignore[attr-defined]


def _legend(figure: Figure, y: Int[Tensor, " n"], names: Sequence[str]) -> None:
    """The classes and their colours; names may come from strangers and are text."""
    if len(names) > COLOURED:
        return
    shown, colours = y.unique().tolist(), _colours(len(names))
    marks = [Line2D([], [], marker="o", linestyle="", color=colours[label]) for label in shown]
    columns = min(len(shown), 4 if max(map(len, names)) < LONGEST_NAME else 2)
    legend = figure.legend(
        marks, [str(label) for label in shown], loc="outside upper center", ncols=columns
    )
    for text, label in zip(legend.get_texts(), shown, strict=True):
        text.set(text=_short(names[label]), parse_math=False)


def radii_of(*sizes: Float[Tensor, " _"]) -> list[float]:
    """Radii over which accuracies change: 0, and some between the least and the largest size.

    Args:
        *sizes: Sizes whose quantiles are among them; infinite ones and zeros are left out.
    """
    known = torch.cat([each.double() for each in sizes])
    known = known[known.isfinite() & (known > 0)]
    if not len(known):
        return [0.0, 1.0]
    low, high = known.min().item(), known.max().item()
    quantiles = known.quantile(torch.linspace(0, 1, QUANTILES, dtype=torch.float64))
    steps = torch.linspace(math.log(low / 2), math.log(high), QUANTILES // 2, dtype=torch.float64)
    every = torch.cat([torch.zeros(1, dtype=torch.float64), quantiles, steps.exp()])
    return [radius for radius in every.unique().tolist() if radius <= high]
