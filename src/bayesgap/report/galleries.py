"""Images of the report: samples, adversarial images and what was changed in them."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from bayesgap.evaluation.measure import HEADLINE_SUCCESS, SMALL_CHANGE, l2_table
from bayesgap.images.mnist import load_mnist
from bayesgap.paper.experiment import BAYES, as_task
from bayesgap.paper.jobs import ASYMMETRIC, KINDS, REAL, SYMMETRIC
from bayesgap.paper.results import Results
from bayesgap.paper.scales import FACES
from bayesgap.report.plots import COLOURS, NAMES, STYLE, bracket
from bayesgap.report.words import percent

PER_CLASS = 5  # images of each class in a gallery
BLOCK_INCHES = 2.1  # height of one classifier's part of a gallery
SAMPLES = 10  # images in each line of samples
LEARNED = 0.75  # accuracy on two classes, below which not much was learned
EVERY = ((SYMMETRIC, BAYES), (ASYMMETRIC, BAYES), *((SYMMETRIC, kind) for kind in KINDS[1:]))
OPTIMA = ((SYMMETRIC, BAYES), (ASYMMETRIC, BAYES))


def samples(
    results: Results, task: str, variants: Sequence[str] = (SYMMETRIC, ASYMMETRIC)
) -> Figure:
    """Real images where they are at hand, and samples of the task's variants (figure 4, top)."""
    lines = {}
    if not task.startswith(FACES):
        digits = results.finished[results.job(task, SYMMETRIC).data].values["facts"]["digits"]
        lines["real test digits"] = _alternating(*load_mnist(digits, split="test"))
    elif (task, REAL) in results.points:
        points = results.points[task, REAL]
        lines["real test faces"] = _alternating(points["x"], points["y"])
    for variant in variants:
        job = results.job(task, variant)
        known = as_task(results.finished[job.data])
        drawn, labels = known.sample(20 * SAMPLES, seed=job.points.seed)
        lines[f"{variant} samples"] = _alternating(drawn, labels)
        if known.outliers is not None:
            labels = torch.arange(known.classes).repeat(100 * SAMPLES)
            drawn, outlier = known.sample_given(labels, seed=job.points.seed)
            lines["the outliers' samples"] = _alternating(drawn[outlier], labels[outlier])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.95 * len(lines)))
        places = {"left": 0.13, "right": 0.995, "top": 0.99, "bottom": 0.01, "hspace": 0.06}
        axes = figure.subplots(len(lines), 1, gridspec_kw=places, squeeze=False)[:, 0]
        for axis, (name, images) in zip(axes, lines.items(), strict=True):
            _strip(axis, images, name)
            axis.set_anchor("W")
        return figure


def _alternating(x: Tensor, y: Tensor) -> Float[Tensor, "n C H W"]:
    """The first images of each class in turn, as far as there are any."""
    rows = [(y == label).nonzero().flatten()[: SAMPLES // 2] for label in y.unique()]
    count = min(len(row) for row in rows)
    return x[torch.stack([row[:count] for row in rows], dim=1).flatten()]


def gallery(results: Results, task: str, blocks: Sequence[tuple[str, str]] = EVERY) -> Figure:
    """Originals, adversarials, magnified perturbations and histograms (figures 4, 7, 13 to 18).

    Args:
        results: Of the run.
        task: Of which classifiers.
        blocks: The variant and kind of each, from top to bottom.
    """
    with matplotlib.rc_context(STYLE):
        # Places are given: finding them from the contents takes longer than drawing those.
        figure = Figure(figsize=(9.6, BLOCK_INCHES * len(blocks)))
        for row, (variant, kind) in enumerate(blocks):
            top = 1 - row / len(blocks)
            _block(figure, top, 1 / len(blocks), results, task, variant, kind)
        return figure


def _block(
    figure: Figure,
    top: float,
    height: float,
    results: Results,
    task: str,
    variant: str,
    kind: str,
) -> None:
    """One classifier's part of a gallery; its top and height are shares of the figure's."""
    measured = results.measured[task, variant, kind]
    points = results.points[task, variant]
    shown = _shown(results, task, variant).flatten()
    original = points["x"][shown].double()
    adversarial = measured.best[0].images[shown].double()
    change = adversarial - original
    record = measured.headline
    mean = "none" if record["mean_l2"] is None else f"{record['mean_l2']:.2f}"
    if kind == BAYES:
        mean += f" (certified: {bracket(record)})"
    figure.text(
        0.01,
        top - 0.02 * height,
        f"{NAMES[kind]}, {variant}: mean L2 {mean}{_doubt(record)}",
        fontsize=10,
        va="top",
    )
    inside = {"top": top - 0.13 * height, "bottom": top - 0.9 * height}
    grid = figure.add_gridspec(3, 1, left=0.09, right=0.69, hspace=0.06, **inside)
    strips = [figure.add_subplot(grid[line]) for line in range(3)]
    _strip(strips[0], original, "original")
    _strip(strips[1], adversarial, "adversarial")
    _strip_of_changes(strips[2], change)
    tall, wide = change.shape[2:]
    for place, size in enumerate(change.flatten(1).norm(dim=1).tolist()):
        strips[2].text(
            (place + 0.5) * wide, 1.05 * tall, f"{size:.2f}", ha="center", va="top", fontsize=7
        )
    inside["bottom"] += 0.1 * height
    grid = figure.add_gridspec(1, 1, left=0.76, right=0.985, **inside)
    _histogram(figure.add_subplot(grid[0]), record)


def histograms(results: Results, task: str, blocks: Sequence[tuple[str, str]] = EVERY) -> Figure:
    """The histograms of a gallery alone, which show no image.

    Args:
        results: Of the run.
        task: Of which classifiers.
        blocks: The variant and kind of each, from left to right.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.2), layout="constrained")
        axes = figure.subplots(1, len(blocks), sharey=True, squeeze=False)[0]
        for axis, (variant, kind) in zip(axes, blocks, strict=True):
            record = results.measured[task, variant, kind].headline
            _histogram(axis, record)
            axis.set_title(f"{NAMES[kind]}\n{variant}\n{axis.get_title()}", fontsize=8)
        axes[0].set_ylabel("share of pixels", fontsize=7)
        return figure


def _histogram(axis: Axes, record: dict[str, Any]) -> None:
    """The changes of all pixels of a classifier's points, and how many are small."""
    histogram = record["pixel_histogram"]
    colour = COLOURS[record["classifier"]]
    edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"])
    axis.stairs(counts / max(counts.sum(), 1), edges, fill=True, color=colour, alpha=0.75)
    axis.axvspan(-SMALL_CHANGE, SMALL_CHANGE, color="#f0e442", alpha=0.35, linewidth=0)
    axis.set_yscale("log")
    axis.minorticks_off()
    axis.set_ylim(1e-5, 1)
    axis.set_xlabel("change of a pixel, in 1/255", fontsize=7)
    axis.set_title(f"{percent(record['share_within_5'], 0)} within ±{SMALL_CHANGE}/255", fontsize=8)
    axis.tick_params(labelsize=7)


def _doubt(record: dict[str, Any]) -> str:
    """What a reader must know of a mean that says little."""
    if (record["success_rate"] or 0.0) < HEADLINE_SUCCESS:
        return f", but only {percent(record['success_rate'])} of the points were broken"
    return "" if record["clean_accuracy"] > LEARNED else ", of a classifier that learned little"


def _shown(results: Results, task: str, variant: str) -> Tensor:
    """For each class, the first points that the most classifiers of the variant decide correctly.

    Returns:
        Indices (classes, points).
    """
    points = results.points[task, variant]
    y = points["y"]
    good = torch.zeros(len(y))
    for kind in results.job(task, variant).classifiers:
        good += l2_table(results.measured[task, variant, kind].best[:1], y)[0].isfinite()
    good[points["outlier"]] = -1  # which look like noise
    rows = []
    for label in y.unique():
        own = (y == label).nonzero().flatten()
        rows.append(own[good[own].argsort(descending=True, stable=True)][:PER_CLASS])
    return torch.stack([row[: min(map(len, rows))] for row in rows])


def _strip(axis: Axes, images: Float[Tensor, "n C H W"], name: str) -> None:
    """Images side by side; values are clipped to [0, 1]."""
    row = torch.cat(list(images.clamp(0, 1)), dim=2)
    if len(row) == 3:
        axis.imshow(row.permute(1, 2, 0).numpy(), interpolation="nearest")
    else:
        axis.imshow(row[0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    _dress(axis, images, name)


def _strip_of_changes(axis: Axes, change: Float[Tensor, "n C H W"]) -> None:
    """Changes side by side, magnified so that the largest is full scale; none is white or grey."""
    largest = change.abs().max().item() or 1.0
    if change.shape[1] == 3:
        _strip(axis, 0.5 + change / (2 * largest), "")
    else:
        row = torch.cat(list(change[:, 0]), dim=1)
        axis.imshow(
            row.numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest"
        )
    _dress(axis, change, f"change × {1 / largest:.2g}")


def _dress(axis: Axes, images: Float[Tensor, "n C H W"], name: str) -> None:
    for place in range(1, len(images)):
        axis.axvline(place * images.shape[3] - 0.5, color="white", linewidth=1.5)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)


def first_figure(results: Results, task: str) -> Figure:
    """Figure 1: an image of each class, and the nearest that each classifier decides otherwise.

    The asymmetric task has samples, and so an original, of its own.
    """
    columns: list[tuple[str, str | None]] = [(ASYMMETRIC, None), (ASYMMETRIC, BAYES)]
    columns += [(SYMMETRIC, None), (SYMMETRIC, BAYES), (SYMMETRIC, "cnn"), (SYMMETRIC, "rbf-svm")]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 5.2), layout="constrained")
        known = as_task(results.finished[results.job(task, SYMMETRIC).data])
        axes = figure.subplots(2 * known.classes, len(columns))
        shown = {v: _shown(results, task, v) for v in (SYMMETRIC, ASYMMETRIC)}
        for label, name in enumerate(known.class_names):
            lines = axes[2 * label : 2 * label + 2]
            for place, (variant, kind) in enumerate(columns):
                point = shown[variant][label, 0]
                original = results.points[task, variant]["x"][point].double()
                if kind is None:
                    _strip(lines[0, place], original[None], "")
                    lines[0, place].set_title(f"{variant}\noriginal: “{name}”", fontsize=8)
                    lines[1, place].axis("off")
                    continue
                outcome = results.measured[task, variant, kind].best[0]
                found = outcome.images[point].double()
                _strip(lines[0, place], found[None], "")
                _strip_of_changes(lines[1, place], (found - original)[None])
                decided = known.class_names[int(outcome.after[point])]
                lines[1, place].set_ylabel("")
                lines[1, place].set_xlabel(f"L2 {(found - original).norm():.2f}", fontsize=8)
                lines[0, place].set_title(f"{NAMES[kind]}\ndecides “{decided}”", fontsize=8)
        return figure
