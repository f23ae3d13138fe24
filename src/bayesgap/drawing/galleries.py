"""Images of classifiers: samples, adversarial images and what was changed in them."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from bayesgap.drawing.strips import strip, strip_of_changes
from bayesgap.drawing.style import STYLE
from bayesgap.drawing.words import bracket, percent
from bayesgap.evaluation.measure import SMALL_CHANGE
from bayesgap.experiment import CaseResults, Kind, Measured

PER_CLASS = 5  # images of each class in a gallery
BLOCK_INCHES = 2.1  # height of one classifier's part of a gallery
SAMPLES = 10  # images in each line of samples
LEARNED = 0.75  # accuracy on two classes, below which not much was learned

Block = tuple[CaseResults, Kind]  # one classifier's part of a gallery
Cell = tuple[CaseResults, Kind | None]  # an image, or an original where there is no classifier


def samples(real: Mapping[str, tuple[Tensor, Tensor]], cases: Sequence[CaseResults]) -> Figure:
    """Real images where they are at hand, and samples of a task's variants (figure 4, top).

    Args:
        real: Images (n, C, H, W) and labels (n,) of each line of real images, by its name.
        cases: The variants of the task.
    """
    lines = {name: _alternating(x, y) for name, (x, y) in real.items()}
    for case in cases:
        known, seed = case.task, case.graph.points.seed
        drawn, labels = known.sample(20 * SAMPLES, seed=seed)
        lines[f"{case.case.variant} samples"] = _alternating(drawn, labels)
        if known.outliers is not None:
            labels = torch.arange(known.classes).repeat(100 * SAMPLES)
            drawn, outlier = known.sample_given(labels, seed=seed)
            lines["the outliers' samples"] = _alternating(drawn[outlier], labels[outlier])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.95 * len(lines)))
        places = {"left": 0.13, "right": 0.995, "top": 0.99, "bottom": 0.01, "hspace": 0.06}
        axes = figure.subplots(len(lines), 1, gridspec_kw=places, squeeze=False)[:, 0]
        for axis, (name, images) in zip(axes, lines.items(), strict=True):
            strip(axis, images, name)
            axis.set_anchor("W")
        return figure


def _alternating(x: Tensor, y: Tensor) -> Float[Tensor, "n C H W"]:
    """The first images of each class in turn, as far as there are any."""
    rows = [(y == label).nonzero().flatten()[: SAMPLES // 2] for label in y.unique()]
    count = min(len(row) for row in rows)
    return x[torch.stack([row[:count] for row in rows], dim=1).flatten()]


def gallery(blocks: Sequence[Block]) -> Figure:
    """Originals, adversarials, magnified perturbations and histograms (figures 4, 7, 13 to 18).

    Args:
        blocks: The case and kind of each classifier, from top to bottom.
    """
    with matplotlib.rc_context(STYLE):
        # Places are given: finding them from the contents takes longer than drawing those.
        figure = Figure(figsize=(9.6, BLOCK_INCHES * len(blocks)))
        for row, (case, kind) in enumerate(blocks):
            _block(figure, 1 - row / len(blocks), 1 / len(blocks), case, kind)
        return figure


def _block(figure: Figure, top: float, height: float, case: CaseResults, kind: Kind) -> None:
    """One classifier's part of a gallery; its top and height are shares of the figure's."""
    measured = case.measured[kind]
    shown = _shown(case).flatten()
    original = case.points["x"][shown].double()
    adversarial = measured.best[0].images[shown].double()
    change = adversarial - original
    figure.text(
        0.01,
        top - 0.02 * height,
        f"{kind.label}, {case.case.variant}: {_mean(measured)}{_doubt(measured)}",
        fontsize=10,
        va="top",
    )
    inside = {"top": top - 0.13 * height, "bottom": top - 0.9 * height}
    grid = figure.add_gridspec(3, 1, left=0.09, right=0.69, hspace=0.06, **inside)
    strips = [figure.add_subplot(grid[line]) for line in range(3)]
    strip(strips[0], original, "original")
    strip(strips[1], adversarial, "adversarial")
    strip_of_changes(strips[2], change)
    tall, wide = change.shape[2:]
    for place, size in enumerate(change.flatten(1).norm(dim=1).tolist()):
        strips[2].text(
            (place + 0.5) * wide, 1.05 * tall, f"{size:.2f}", ha="center", va="top", fontsize=7
        )
    inside["bottom"] += 0.1 * height
    grid = figure.add_gridspec(1, 1, left=0.76, right=0.985, **inside)
    _histogram(figure.add_subplot(grid[0]), measured)


def _mean(measured: Measured) -> str:
    """The mean size of a classifier's changes, and what is certified of an optimum."""
    size = measured.summary.mean.value
    mean = "none" if size is None else f"{size:.2f}"
    if measured.certified is not None:
        mean += f" (certified: {bracket(measured.certified.value, size)})"
    return f"mean {measured.summary.norm.name} {mean}"


def histograms(blocks: Sequence[Block]) -> Figure:
    """The histograms of a gallery alone, which show no image.

    Args:
        blocks: The case and kind of each classifier, from left to right.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.2), layout="constrained")
        axes = figure.subplots(1, len(blocks), sharey=True, squeeze=False)[0]
        for axis, (case, kind) in zip(axes, blocks, strict=True):
            _histogram(axis, case.measured[kind])
            about = f"{kind.label}\n{case.case.variant}\n{axis.get_title()}"
            axis.set_title(about, fontsize=8)
        axes[0].set_ylabel("share of pixels", fontsize=7)
        return figure


def _histogram(axis: Axes, measured: Measured) -> None:
    """The changes of all pixels of a classifier's points, and how many are small."""
    edges, counts = np.array(measured.pixels.edges), np.array(measured.pixels.counts)
    share, colour = counts / max(counts.sum(), 1), measured.kind.colour
    axis.stairs(share, edges, fill=True, color=colour, alpha=0.75)
    axis.axvspan(-SMALL_CHANGE, SMALL_CHANGE, color="#f0e442", alpha=0.35, linewidth=0)
    axis.set_yscale("log")
    axis.minorticks_off()
    axis.set_ylim(1e-5, 1)
    axis.set_xlabel("change of a pixel, in 1/255", fontsize=7)
    small = percent(measured.pixels.share_within_5.value, 0)
    axis.set_title(f"{small} within ±{SMALL_CHANGE}/255", fontsize=8)
    axis.tick_params(labelsize=7)


def _doubt(measured: Measured) -> str:
    """What a reader must know of a mean that says little."""
    summary = measured.summary
    if not summary.complete:
        return f", but only {percent(summary.success_rate)} of the points were broken"
    learned = (summary.clean_accuracy or 0.0) > LEARNED
    return "" if learned else ", of a classifier that learned little"


def _shown(case: CaseResults) -> Tensor:
    """For each class, the first points that the most classifiers of a case decide correctly.

    Returns:
        Indices (classes, points).
    """
    y = case.y
    good = torch.zeros(len(y))
    for measured in case.measured.values():
        good += measured.sizes[0].isfinite()
    good[case.points["outlier"]] = -1  # which look like noise
    rows = []
    for label in y.unique():
        own = (y == label).nonzero().flatten()
        rows.append(own[good[own].argsort(descending=True, stable=True)][:PER_CLASS])
    return torch.stack([row[: min(map(len, rows))] for row in rows])


def side_by_side(columns: Sequence[Cell]) -> Figure:
    """An image of each class, and the nearest that each classifier decides otherwise (figure 1).

    Args:
        columns: The case and kind of each column's classifier; a column without a kind shows the
            original. Each case has samples, and so originals, of its own.
    """
    known = columns[0][0].task
    shown = {case.case: _shown(case) for case, _ in columns}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 5.2), layout="constrained")
        axes = figure.subplots(2 * known.classes, len(columns))
        for label, name in enumerate(known.class_names):
            lines = axes[2 * label : 2 * label + 2]
            for column, (case, kind) in zip(lines.T, columns, strict=True):
                point = int(shown[case.case][label, 0])
                original = case.points["x"][point].double()
                if kind is None:
                    strip(column[0], original[None], "")
                    title = f"{case.case.variant}\noriginal: “{name}”"
                    column[0].set_title(title, fontsize=8)
                    column[1].axis("off")
                else:
                    _change(column, case, kind, point, original)
        return figure


def _change(
    column: np.ndarray, case: CaseResults, kind: Kind, point: int, original: Tensor
) -> None:
    """What a classifier decides otherwise near a point, above what was changed."""
    outcome = case.measured[kind].best[0]
    found = outcome.images[point].double()
    strip(column[0], found[None], "")
    strip_of_changes(column[1], (found - original)[None])
    column[1].set_ylabel("")
    column[1].set_xlabel(f"L2 {(found - original).norm():.2f}", fontsize=8)
    decided = case.task.class_names[int(outcome.after[point])]
    column[0].set_title(f"{kind.label}\ndecides “{decided}”", fontsize=8)
