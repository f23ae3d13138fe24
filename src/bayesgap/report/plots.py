"""Pictures of the report: each function returns one matplotlib figure, no global state touched."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from bayesgap.evaluation.measure import HEADLINE_SUCCESS, SMALL_CHANGE, Outcome, l2_table
from bayesgap.images.mnist import load_mnist
from bayesgap.paper.experiment import BAYES, as_task
from bayesgap.paper.main_job import KINDS
from bayesgap.paper.results import Results

NAMES = {
    BAYES: "Bayes-optimal",
    "cnn": "CNN",
    "linear-svm": "Linear SVM",
    "rbf-svm": "RBF SVM",
}
# Okabe and Ito's palette: told apart by readers with any colour vision.
COLOURS = {BAYES: "#000000", "cnn": "#D55E00", "linear-svm": "#56B4E9", "rbf-svm": "#009E73"}
PER_CLASS = 5  # images of each class in a gallery
BLOCK_INCHES = 2.1  # height of one classifier's part of a gallery
LEAST_EXCESS = 1e-6  # below, a logarithmic axis shows nothing
SAMPLES = 10  # images in each line of samples
STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
}


def bracket(record: dict[str, Any]) -> str:
    """The optimum's mean certified lower bound and the mean L2 that its certificates show."""
    low, high = record["certified_lower"], record["mean_l2"]
    if low is None or high is None:
        return "–"
    # As many digits as show where the two differ, five at most.
    for digits in (3, 4, 5):
        texts = f"{low:.{digits}g}", f"{high:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return " – ".join(texts)


def styled(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    with matplotlib.rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def perturbation_sizes(results: Results) -> Figure:
    """Figure 6 for the MNIST tasks: each classifier's mean L2 with its interval."""
    with matplotlib.rc_context(STYLE):
        figure = styled(8.6, 3.2)
        axes = figure.subplots(1, 2, sharey=True, width_ratios=[1, 1])
        for axis, variant in zip(axes, ("symmetric", "asymmetric"), strict=True):
            for place, kind in enumerate(KINDS):
                records = [results.headline(task, variant, kind) for task in results.tasks]
                _bars(axis, records, (place - 1.5) * 0.2, kind)
            axis.set_xticks(range(len(results.tasks)), results.tasks)
            axis.tick_params(axis="x", length=0)
            axis.set_title(f"{variant} tasks")
        axes[0].set_ylabel("mean L2 of the best attack\n(of the optimum: certified)")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        return figure


def _bars(axis: Axes, records: Sequence[dict], shift: float, kind: str) -> None:
    for place, record in enumerate(records):
        if record["mean_l2"] is None:
            continue
        mean, low, high = (record[key] for key in ("mean_l2", "mean_l2_low", "mean_l2_high"))
        axis.bar(
            place + shift,
            mean,
            0.19,
            yerr=[[mean - low], [high - mean]],
            color=COLOURS[kind],
            ecolor="#777777",
            capsize=2,
            label=NAMES[kind] if place == 0 else None,
        )
        axis.annotate(
            f"{mean:.2f}",
            (place + shift, high),
            (0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )


def broken_shares(results: Results) -> Figure:
    """The share of points that attacks up to a size leave wrong, for each task and variant."""
    with matplotlib.rc_context(STYLE):
        figure = styled(8.6, 4.4)
        axes = figure.subplots(2, len(results.tasks), sharex=True, sharey=True, squeeze=False)
        for row, variant in zip(axes, ("symmetric", "asymmetric"), strict=True):
            for axis, task in zip(row, results.tasks, strict=True):
                y = results.points[task, variant]["y"]
                for kind in KINDS:
                    _curve(axis, results.measured[task, variant, kind].best, y, kind)
                axis.set_title(f"{task}/{variant}", fontsize=8)
                axis.set_xlim(0, 6)
                axis.set_ylim(0, 1.01)
        figure.supxlabel("size of the perturbation (L2)", fontsize=9)
        figure.supylabel("decided wrongly", fontsize=9)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        return figure


def _curve(axis: Axes, best: Sequence[Outcome], y: Tensor, kind: str) -> None:
    sizes = torch.cat(
        [torch.where(outcome.before == y, outcome.l2, torch.zeros(())) for outcome in best]
    )
    at = sizes.double().sort().values
    share = torch.arange(1, len(at) + 1) / len(at)
    axis.step(at, share, where="post", color=COLOURS[kind], label=NAMES[kind], linewidth=1.3)


def gamma_curves(results: Results) -> Figure:
    """Accuracy and mean L2 of RBF SVMs over gamma, beside the optimum and the linear SVM."""
    with matplotlib.rc_context(STYLE):
        figure = styled(8.6, 4.2)
        axes = figure.subplots(2, len(results.tasks), sharex=True, sharey="row", squeeze=False)
        for column, task in enumerate(results.tasks):
            curve, _ = results.gamma_curve(task, "symmetric")
            chosen = results.finished[results.job(task, "symmetric").gamma].values["gamma"]
            size, accuracy = axes[0, column], axes[1, column]
            costs = dict.fromkeys(row["cost"] for row in curve)
            for cost, style in zip(costs, ("-", "--"), strict=False):
                rows = [row for row in curve if row["cost"] == cost and row["mean_l2"] is not None]
                gammas = [row["gamma"] for row in rows]
                size.plot(
                    gammas,
                    [row["mean_l2"] for row in rows],
                    style,
                    color=COLOURS["rbf-svm"],
                    marker="o",
                    markersize=3,
                    label=f"RBF SVM, C = {cost:g}",
                )
                size.fill_between(
                    gammas,
                    [row["mean_l2_low"] for row in rows],
                    [row["mean_l2_high"] for row in rows],
                    color=COLOURS["rbf-svm"],
                    alpha=0.12,
                    linewidth=0,
                )
                accuracy.plot(
                    gammas,
                    [row["validation_accuracy"] for row in rows],
                    style,
                    color=COLOURS["rbf-svm"],
                    marker="o",
                    markersize=3,
                )
            for kind in (BAYES, "linear-svm"):
                mean = results.headline(task, "symmetric", kind)["mean_l2"]
                name = f"{NAMES[kind]}, certified" if kind == BAYES else NAMES[kind]
                size.axhline(mean, color=COLOURS[kind], linewidth=1, linestyle=":", label=name)
            for axis in (size, accuracy):
                axis.axvline(chosen, color="#aaaaaa", linewidth=0.8, label="gamma chosen")
                axis.set_xscale("log")
            size.set_title(f"{task}/symmetric", fontsize=8)
            accuracy.set_xlabel("gamma")
        axes[0, 0].set_ylabel("mean L2")
        axes[0, 0].set_ylim(bottom=0)
        axes[1, 0].set_ylabel("validation accuracy")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        return figure


def samples(results: Results, task: str) -> Figure:
    """Real digits, and samples of the task's two variants (figure 4, top)."""
    digits = results.finished[results.job(task, "symmetric").task].values["facts"]["digits"]
    x, y = load_mnist(digits, split="test")
    lines = {"real test digits": _alternating(x, y)}
    for variant in ("symmetric", "asymmetric"):
        job = results.job(task, variant)
        known = as_task(results.finished[job.task])
        drawn, labels = known.sample(20 * SAMPLES, seed=job.points.seed)
        lines[f"{variant} samples"] = _alternating(drawn, labels)
    job = results.job(task, "asymmetric")
    known = as_task(results.finished[job.task])
    labels = torch.arange(known.classes).repeat(100 * SAMPLES)
    drawn, outlier = known.sample_given(labels, seed=job.points.seed)
    lines["the outliers' samples"] = _alternating(drawn[outlier], labels[outlier])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.95 * len(lines)))
        places = {"left": 0.13, "right": 0.995, "top": 0.99, "bottom": 0.01, "hspace": 0.06}
        axes = figure.subplots(len(lines), 1, gridspec_kw=places)
        for axis, (name, images) in zip(axes, lines.items(), strict=True):
            _strip(axis, images, name, low=0.0, high=1.0, colours="gray")
            axis.set_anchor("W")
        return figure


def _alternating(x: Tensor, y: Tensor) -> Float[Tensor, "n C H W"]:
    """The first images of each class in turn, as far as there are any."""
    rows = [(y == label).nonzero().flatten()[: SAMPLES // 2] for label in y.unique()]
    count = min(len(row) for row in rows)
    return x[torch.stack([row[:count] for row in rows], dim=1).flatten()]


def gallery(results: Results, task: str) -> Figure:
    """Originals, adversarials, magnified perturbations and histograms (figures 4, 7, 17, 18)."""
    blocks = [("symmetric", BAYES), ("asymmetric", BAYES)]
    blocks += [("symmetric", kind) for kind in KINDS if kind != BAYES]
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
    shown = _shown(results, task, variant)
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
        f"{NAMES[kind]}, {variant}: mean L2 {mean}",
        fontsize=10,
        va="top",
    )
    inside = {"top": top - 0.13 * height, "bottom": top - 0.9 * height}
    grid = figure.add_gridspec(3, 1, left=0.09, right=0.69, hspace=0.06, **inside)
    strips = [figure.add_subplot(grid[line]) for line in range(3)]
    _strip(strips[0], original, "original", low=0.0, high=1.0, colours="gray")
    _strip(strips[1], adversarial, "adversarial", low=0.0, high=1.0, colours="gray")
    largest = change.abs().max().item() or 1.0
    _strip(
        strips[2],
        change,
        f"change × {1 / largest:.2g}",
        low=-largest,
        high=largest,
        colours="RdBu_r",
    )
    for place, size in enumerate(change.flatten(1).norm(dim=1).tolist()):
        strips[2].text((place + 0.5) * 28, 29.5, f"{size:.2f}", ha="center", va="top", fontsize=7)
    histogram = record["pixel_histogram"]
    inside["bottom"] += 0.1 * height
    grid = figure.add_gridspec(1, 1, left=0.76, right=0.985, **inside)
    axis = figure.add_subplot(grid[0])
    edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"])
    axis.stairs(counts / counts.sum(), edges, fill=True, color=COLOURS[kind], alpha=0.75)
    axis.axvspan(-SMALL_CHANGE, SMALL_CHANGE, color="#f0e442", alpha=0.35, linewidth=0)
    axis.set_yscale("log")
    axis.minorticks_off()
    axis.set_ylim(1e-5, 1)
    axis.set_xlabel("change of a pixel, in 1/255", fontsize=7)
    axis.set_title(f"{record['share_within_5']:.0%} within ±{SMALL_CHANGE}/255", fontsize=8)
    axis.tick_params(labelsize=7)


def _shown(results: Results, task: str, variant: str) -> list[int]:
    """The first points of each class that every classifier of the variant decides correctly."""
    points = results.points[task, variant]
    y = points["y"]
    good = ~points["outlier"]
    for kind in KINDS:
        table = l2_table(results.measured[task, variant, kind].best[:1], y)
        good &= table[0].isfinite()
    rows = [((y == label) & good).nonzero().flatten()[:PER_CLASS] for label in y.unique()]
    return torch.cat(rows).tolist()


def _strip(
    axis: Axes,
    images: Float[Tensor, "n C H W"],
    name: str,
    *,
    low: float,
    high: float,
    colours: str,
) -> None:
    """Images of one channel side by side."""
    row = torch.cat(list(images[:, 0]), dim=1)
    axis.imshow(row.numpy(), cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    for place in range(1, len(images)):
        axis.axvline(place * images.shape[3] - 0.5, color="white", linewidth=1.5)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)


def optimality_against_cost(records: Sequence[dict[str, Any]]) -> Figure:
    """How far above the certified distance attacks land, against the gradients they take.

    Hollow marks are attacks that left more than 1 in 100 points unbroken: of what they found.

    Args:
        records: Of exams at one temperature.
    """
    tasks = list(dict.fromkeys(record["task"] for record in records))
    attacks = list(dict.fromkeys(record["attack"] for record in records))
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    colours = matplotlib.colormaps["tab20"].colors  # type: ignore[attr-defined]
    with matplotlib.rc_context(STYLE):
        figure = styled(3.2 * columns + 1.0, 2.7 * rows + 0.9)
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axis, task in zip(axes.flat, tasks, strict=False):
            for place, attack in enumerate(attacks):
                (record,) = (r for r in records if (r["task"], r["attack"]) == (task, attack))
                if record["mean_ratio"] is None:
                    continue
                complete = record["success_rate"] >= HEADLINE_SUCCESS
                excess = [record[f"mean_ratio{end}"] - 1 for end in ("", "_low", "_high")]
                middle, low, high = (max(value, LEAST_EXCESS) for value in excess)
                axis.errorbar(
                    record["backwards"],
                    middle,
                    yerr=[[middle - low], [high - middle]],
                    fmt="o",
                    markerfacecolor=colours[place] if complete else "white",
                    color=colours[place],
                    markersize=6,
                )
            axis.set_title(task, fontsize=8)
            axis.set_xscale("symlog", linthresh=1)  # an attack may take no gradients
            axis.set_xlim(left=0)
            axis.set_yscale("log")
        for axis in axes.flat[len(tasks) :]:
            axis.set_visible(False)
        figure.supxlabel("gradients for each point (hollow: < 99 % success)", fontsize=9)
        figure.supylabel("mean L2 / certified distance, less 1", fontsize=9)
        marks = [
            Line2D([], [], marker="o", linestyle="", color=colour, label=attack)
            for colour, attack in zip(colours, attacks, strict=False)
        ]
        figure.legend(handles=marks, loc="outside upper center", ncols=2 * columns - 1)
        return figure
