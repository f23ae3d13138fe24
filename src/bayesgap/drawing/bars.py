"""Bar charts of mean sizes, and curves of the share of points that is broken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgap.drawing.style import STYLE, handles_of, styled
from bayesgap.estimates import Estimate
from bayesgap.evaluation.measure import CERTIFIED_NORM
from bayesgap.experiment import OPTIMUM, SYMMETRIC, CaseResults, Kind, Measured
from bayesgap.images.sources import SOURCES

BESIDE = 4  # tasks, at most, where two bar charts stand side by side
LARGEST = 6.0  # size at which curves of broken points end
LARGE_BAR = 0.15  # width above which a bar's number is written larger


@dataclass(frozen=True)
class Bar:
    """One bar of every task of a chart.

    Attributes:
        kind: The kind of classifier.
        variant: The variant that it was trained on, which hatching tells from others of the kind.
        estimates: The mean size on each task, by its name; tasks may be missing.
        norm: The name of the norm that sizes were measured by.
    """

    kind: Kind
    variant: str
    estimates: Mapping[str, Estimate]
    norm: str


def bar_of(measured: Sequence[Measured]) -> Bar:
    """The bar of one kind and variant on several tasks.

    Of the optimum it is the proven lower bound, which attacks meet but for rounding.
    """
    first = measured[0]
    estimates = {one.case.task: one.certified or one.summary.mean for one in measured}
    return Bar(first.kind, first.case.variant, estimates, first.summary.norm.name)


def mean_sizes(charts: Mapping[str, Sequence[Bar]]) -> Figure:
    """Mean size of the best attack with its interval, as bars (the paper's figure 6).

    Args:
        charts: The bars of each chart by its title. Charts stand side by side, or below each
            other where there are many tasks.
    """
    with matplotlib.rc_context(STYLE):
        tasks = {
            title: list(dict.fromkeys(task for bar in bars for task in bar.estimates))
            for title, bars in charts.items()
        }
        many = max(map(len, tasks.values())) > BESIDE
        shape = (len(charts), 1) if many else (1, len(charts))
        figure = styled(8.6, 2.9 * shape[0] + 0.5)
        axes = figure.subplots(*shape, sharey=True, squeeze=False).flat
        for axis, (title, bars) in zip(axes, charts.items(), strict=True):
            _chart(axis, tasks[title], bars)
            axis.tick_params(axis="x", length=0, rotation=30 if many else 0)
            axis.set_title(title)
            if not many:
                axis.label_outer()
        figure.legend(*handles_of(figure.axes), loc="outside lower center", ncols=4)
        return figure


def _chart(axis: Axes, tasks: Sequence[str], bars: Sequence[Bar]) -> None:
    width = 0.8 / len(bars)
    for place, bar in enumerate(bars):
        shift = (place - (len(bars) - 1) / 2) * width
        several = sum(other.kind is bar.kind for other in bars) > 1
        for column, task in enumerate(tasks):
            if (estimate := bar.estimates.get(task)) is not None:
                _bar(axis, column + shift, width, estimate, bar, several)
    axis.set_xticks(range(len(tasks)), [_short(task) for task in tasks])
    optimum = any(bar.kind is OPTIMUM for bar in bars) and bars[0].norm == CERTIFIED_NORM.name
    note = "\n(of the optimum: certified lower bound)" if optimum else ""
    axis.set_ylabel(f"mean {bars[0].norm} of the best attack{note}")


def _bar(
    axis: Axes, place: float, width: float, estimate: Estimate, bar: Bar, several: bool
) -> None:
    mean, low, high = estimate
    if mean is None or low is None or high is None:
        return
    axis.bar(
        place,
        mean,
        0.95 * width,
        yerr=[[mean - max(low, 0.0)], [high - mean]],
        color=bar.kind.colour,
        ecolor="#777777",
        edgecolor="white",
        hatch="//" if several and bar.variant != SYMMETRIC else "",
        capsize=2,
        label=f"{bar.kind.label}, {bar.variant}" if several else bar.kind.label,
    )
    axis.annotate(
        f"{mean:.2f}",
        (place, high),
        (0, 2),
        textcoords="offset points",
        ha="center",
        fontsize=7 if width > LARGE_BAR else 6,
    )


def _short(task: str) -> str:
    """A task's name without what all of its source's begin with, where that can be left out."""
    for source in SOURCES:
        if source.owns(task) and not source.publishable:
            return task.removeprefix(f"{source.name}-")
    return task


def broken_shares(cases: Sequence[Sequence[CaseResults]], kinds: Sequence[Kind]) -> Figure:
    """The share of points that attacks up to a size leave wrong.

    Args:
        cases: The cases of each row of plots.
        kinds: The kinds of classifiers, one curve each.
    """
    with matplotlib.rc_context(STYLE):
        figure = styled(8.6, 2.2 * len(cases))
        axes = figure.subplots(len(cases), len(cases[0]), sharex=True, sharey=True, squeeze=False)
        for row, line in zip(axes, cases, strict=True):
            for axis, case in zip(row, line, strict=True):
                for kind in kinds:
                    _broken(axis, case, kind)
                axis.set_title(str(case.case), fontsize=8)
                axis.set_xlim(0, LARGEST)
                axis.set_ylim(0, 1.01)
        norm = cases[0][0].measured[kinds[0]].summary.norm.name
        figure.supxlabel(f"size of the perturbation ({norm})", fontsize=9)
        figure.supylabel("decided wrongly", fontsize=9)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        return figure


def _broken(axis: Axes, case: CaseResults, kind: Kind) -> None:
    sizes = torch.cat(
        [
            torch.where(outcome.before == case.y, outcome.sizes, torch.zeros(()))
            for outcome in case.measured[kind].best
        ]
    )
    at = sizes.double().sort().values
    share = torch.arange(1, len(at) + 1) / len(at)
    axis.step(at, share, where="post", color=kind.colour, label=kind.label, linewidth=1.3)
