"""Diagrams of the report: each function returns one matplotlib figure, no global state touched."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from bayesgap.evaluation.measure import HEADLINE_SUCCESS, Outcome
from bayesgap.paper.experiment import BAYES
from bayesgap.paper.fig9 import Curve
from bayesgap.paper.jobs import ASYMMETRIC, KINDS, SYMMETRIC, VARIANTS
from bayesgap.paper.results import Results

NAMES = {
    BAYES: "Bayes-optimal",
    "cnn": "CNN",
    "linear-svm": "Linear SVM",
    "rbf-svm": "RBF SVM",
    "rbf-svm-wide": "RBF SVM, wide",
    "trades-l2": "CNN, TRADES (L2)",
    "trades-linf": "CNN, TRADES (L∞)",
    "trades-linf-wide": "CNN, TRADES (wide L∞)",
}
# Okabe and Ito's palette: told apart by readers with any colour vision.
COLOURS = {
    BAYES: "#000000",
    "cnn": "#D55E00",
    "linear-svm": "#56B4E9",
    "rbf-svm": "#009E73",
    "rbf-svm-wide": "#999999",
    "trades-l2": "#CC79A7",
    "trades-linf": "#0072B2",
    "trades-linf-wide": "#E69F00",
}
BESIDE = 4  # tasks, at most, where two bar charts stand side by side
HIGHEST = 1.5  # of the optimum, on the axis of curves over training
LEAST_EXCESS = 1e-6  # below, a logarithmic axis shows nothing
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


def perturbation_sizes(
    results: Results, columns: Mapping[str, Sequence[tuple[str, str]]]
) -> Figure:
    """Figures 6, 10, 11 and 12: mean L2 of the best attack, with its interval.

    Args:
        results: Of the run.
        columns: For each title, the variant and kind of classifier of each bar of a task. Titles
            stand side by side, or below each other where there are many tasks.
    """
    with matplotlib.rc_context(STYLE):
        tasks = {
            title: list(dict.fromkeys(t for v, k in bars for t in results.tasks_with(v, k)))
            for title, bars in columns.items()
        }
        many = max(map(len, tasks.values())) > BESIDE
        shape = (len(columns), 1) if many else (1, len(columns))
        figure = styled(8.6, 2.9 * shape[0] + 0.5)
        axes = figure.subplots(*shape, sharey=True, squeeze=False).flat
        for axis, (title, bars) in zip(axes, columns.items(), strict=True):
            width = 0.8 / len(bars)
            for place, (variant, kind) in enumerate(bars):
                shift = (place - (len(bars) - 1) / 2) * width
                at = {task: results.headline_or_none(task, variant, kind) for task in tasks[title]}
                _bars(axis, list(at.values()), shift, width, *_look(bars, variant, kind))
            names = [task.removeprefix("celeba-") for task in tasks[title]]
            axis.set_xticks(range(len(names)), names, rotation=30 if many else 0)
            axis.tick_params(axis="x", length=0)
            axis.set_title(title)
            optimum = any(kind == BAYES for _, kind in bars)
            note = "\n(of the optimum: certified lower bound)" if optimum else ""
            axis.set_ylabel(f"mean L2 of the best attack{note}")
            if not many:
                axis.label_outer()
        handles: dict[str, Any] = {}
        for axis in figure.axes:
            handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
        return figure


def _look(bars: Sequence[tuple[str, str]], variant: str, kind: str) -> tuple[str, str, str]:
    """Colour, hatching and label of a bar: variants are told apart where a kind has several."""
    several = sum(other == kind for _, other in bars) > 1
    label = f"{NAMES[kind]}, {variant}" if several else NAMES[kind]
    return COLOURS[kind], "//" if several and variant != SYMMETRIC else "", label


def _bars(
    axis: Axes,
    records: Sequence[dict[str, Any] | None],
    shift: float,
    width: float,
    colour: str,
    hatch: str,
    label: str,
) -> None:
    for place, record in enumerate(records):
        if record is None or record["mean_l2"] is None:
            continue
        # Of the optimum the proven lower bound, which attacks meet but for rounding.
        name = "certified_lower" if record["classifier"] == BAYES else "mean_l2"
        mean, low, high = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
        axis.bar(
            place + shift,
            mean,
            0.95 * width,
            yerr=[[mean - max(low, 0.0)], [high - mean]],
            color=colour,
            ecolor="#777777",
            edgecolor="white",
            hatch=hatch,
            capsize=2,
            label=label,
        )
        axis.annotate(
            f"{mean:.2f}",
            (place + shift, high),
            (0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7 if width > 0.15 else 6,
        )


def broken_shares(results: Results) -> Figure:
    """The share of points that attacks up to a size leave wrong, for each task and variant."""
    with matplotlib.rc_context(STYLE):
        tasks = results.tasks_with(ASYMMETRIC, KINDS[-1])
        figure = styled(8.6, 4.4)
        axes = figure.subplots(2, len(tasks), sharex=True, sharey=True, squeeze=False)
        for row, variant in zip(axes, VARIANTS, strict=True):
            for axis, task in zip(row, tasks, strict=True):
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


def gamma_curves(results: Results, tasks: Sequence[str]) -> Figure:
    """Accuracy and mean L2 of RBF SVMs over gamma, beside the optimum and the linear SVM."""
    with matplotlib.rc_context(STYLE):
        figure = styled(8.6, 4.2)
        axes = figure.subplots(2, len(tasks), sharex=True, sharey="row", squeeze=False)
        for column, task in enumerate(tasks):
            curve, _ = results.gamma_curve(task, SYMMETRIC)
            chosen = results.chosen_gamma(task, SYMMETRIC)
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
                record = results.headline(task, SYMMETRIC, kind)
                mean = record["certified_lower" if kind == BAYES else "mean_l2"]
                name = f"{NAMES[kind]}, certified" if kind == BAYES else NAMES[kind]
                size.axhline(mean, color=COLOURS[kind], linewidth=1, linestyle=":", label=name)
            for axis in (size, accuracy):
                axis.axvline(chosen, color="#aaaaaa", linewidth=0.8, label="gamma chosen")
                axis.set_xscale("log")
            size.set_title(f"{task}/{SYMMETRIC}", fontsize=8)
            accuracy.set_xlabel("gamma")
        axes[0, 0].set_ylabel("mean L2")
        axes[0, 0].set_ylim(bottom=0)
        axes[1, 0].set_ylabel("validation accuracy")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        return figure


def training_curves(curves: Sequence[Curve]) -> Figure:
    """Figure 9: mean L2 over the samples seen, beside the optimum's certified lower bound."""
    tasks = list(dict.fromkeys(curve.task for curve in curves))
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    with matplotlib.rc_context(STYLE):
        figure = styled(8.6, 2.9 * rows + 0.7)
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axis, task in zip(axes.flat, tasks, strict=False):
            own = [curve for curve in curves if curve.task == task]
            axis.axhline(
                own[0].lower.nanmean().item(),
                color=COLOURS[BAYES],
                linestyle="--",
                label="Bayes-optimal, certified",
            )
            for place, curve in enumerate(own):
                _training_curve(axis, curve, place)
            axis.set_xscale("log")
            axis.set_title(task, fontsize=9)
            axis.set_xlabel("samples seen in training")
            axis.set_ylim(0, HIGHEST * own[0].lower.nanmean().item())
        for axis in axes.flat[len(tasks) :]:
            axis.set_visible(False)
        figure.supylabel("mean L2 of the best attack", fontsize=9)
        handles: dict[str, Any] = {}
        for axis in axes.flat:
            handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
        return figure


def _training_curve(axis: Axes, curve: Curve, place: int) -> None:
    colours = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
    colour = colours[place % len(colours)]
    means = [l2.nanmean().item() for l2 in curve.l2]
    marker = "os^Dv<"[place % 6]
    axis.plot(curve.samples, means, color=colour, marker=marker, markersize=4, label=curve.name)
    for checkpoint, (samples, mean) in enumerate(zip(curve.samples, means, strict=True)):
        if not curve.accurate(checkpoint):
            axis.plot(samples, mean, marker, color=colour, markerfacecolor="white", markersize=4)
    for replicate in range(curve.l2[0].shape[0]):
        own = [l2[replicate].nanmean().item() for l2 in curve.l2]
        axis.plot(curve.samples, own, ".", color=colour, markersize=3)


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
