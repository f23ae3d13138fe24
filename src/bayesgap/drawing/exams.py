"""The plot of exams: how near attacks come to the certified distance, and at what cost."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bayesgap.drawing.style import STYLE, styled
from bayesgap.evaluation.counting import BUDGETS
from bayesgap.evaluation.measure import HEADLINE_SUCCESS

LEAST_EXCESS = 1e-6  # below, a logarithmic axis shows nothing


def optimality_against_cost(records: Sequence[dict[str, Any]]) -> Figure:
    """How far above the certified distance attacks land, against the passes they take.

    Lines lead through what they had within fewer passes. Hollow marks are attacks that left more
    than 1 in 100 points unbroken: of what they found.

    Args:
        records: The records of exams at one temperature.
    """
    tasks = list(dict.fromkeys(record["task"] for record in records))
    attacks = list(dict.fromkeys(record["attack"] for record in records))
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    palette = cycle(matplotlib.colormaps["tab20"].colors)  # type: ignore[attr-defined]
    colours = dict(zip(attacks, palette, strict=False))
    with matplotlib.rc_context(STYLE):
        figure = styled(3.2 * columns + 1.0, 2.7 * rows + 0.9)
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axis, task in zip(axes.flat, tasks, strict=False):
            for attack, colour in colours.items():
                (record,) = (r for r in records if (r["task"], r["attack"]) == (task, attack))
                if record["mean_ratio"] is None:
                    continue
                complete = record["success_rate"] >= HEADLINE_SUCCESS
                excess = [record[f"mean_ratio{end}"] - 1 for end in ("", "_low", "_high")]
                middle, low, high = (max(value, LEAST_EXCESS) for value in excess)
                passes = record["forwards"] + record["backwards"]
                early = [
                    (budget, max(record[f"ratio_{budget}"] - 1, LEAST_EXCESS))
                    for budget in BUDGETS
                    if budget < passes and record[f"success_{budget}"] >= HEADLINE_SUCCESS
                ]
                curve = zip(*early, (passes, middle), strict=True)
                axis.plot(*curve, color=colour, linewidth=0.8, alpha=0.7)
                axis.errorbar(
                    passes,
                    middle,
                    yerr=[[middle - low], [high - middle]],
                    fmt="o",
                    markerfacecolor=colour if complete else "white",
                    color=colour,
                    markersize=6,
                )
            axis.set_title(task, fontsize=8)
            axis.set_xscale("log")
            axis.set_yscale("log")
        for axis in axes.flat[len(tasks) :]:
            axis.set_visible(False)
        figure.supxlabel(
            "forward and backward passes for each point (hollow: < 99 % success)", fontsize=9
        )
        figure.supylabel("mean L2 / certified distance, less 1", fontsize=9)
        marks = [
            Line2D([], [], marker="o", linestyle="", color=colour, label=attack)
            for attack, colour in colours.items()
        ]
        figure.legend(handles=marks, loc="outside upper center", ncols=2 * columns - 1)
        return figure
