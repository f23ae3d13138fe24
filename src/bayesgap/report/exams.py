"""Exams of attacks as a table for the terminal, and as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
from rich.table import Table

from bayesgap import files
from bayesgap.paper.exams import as_csv
from bayesgap.report import plots
from bayesgap.report.page import make_folder

__all__ = ["make_folder", "table", "write_exams"]

FILES = ("exams.csv", "exams.svg")
COLUMNS = (
    "task",
    "attack",
    "success",
    "mean ratio",
    "95 %",
    "median",
    "90th of 100",
    "within 1 %",
    "forward",
    "backward",
    "seconds",
)


def table(records: Sequence[dict[str, Any]]) -> Table:
    """One line for each attack and task; other temperatures than the first are columns."""
    first, *others = dict.fromkeys(record["temperature"] for record in records)
    title = "L2 over the certified lower bound"
    if first != 1:
        title += f", at {first:g} times the default temperature"
    made = Table(box=None, pad_edge=False, title=title)
    side: Literal["left", "right"]
    for heading in (*COLUMNS, *(f"at {factor:g} ×" for factor in others)):
        side = "left" if heading in COLUMNS[:2] else "right"
        made.add_column(heading, justify=side, overflow="fold")
    by_exam = {(r["task"], r["attack"], r["temperature"]): r for r in records}
    for task in dict.fromkeys(record["task"] for record in records):
        for attack in dict.fromkeys(record["attack"] for record in records):
            record = by_exam[task, attack, first]
            made.add_row(
                task,
                attack,
                f"{record['success_rate']:.0%}",
                _ratio(record["mean_ratio"]),
                f"{_ratio(record['mean_ratio_low'])} – {_ratio(record['mean_ratio_high'])}",
                _ratio(record["median_ratio"]),
                _ratio(record["high_ratio"]),
                f"{record['found']:.0%}",
                f"{record['forwards']:.0f}",
                f"{record['backwards']:.0f}",
                f"{record['seconds']:.1f}",
                *(_short(by_exam[task, attack, factor]) for factor in others),
            )
    return made


def write_exams(records: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Write all numbers as CSV, and the plot of optimality against cost.

    Raises:
        BayesgapError: the folder cannot be written to.
    """
    numbers, plot = (folder / name for name in FILES)
    text = as_csv(records)
    files.write_whole(numbers, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    first = records[0]["temperature"]
    figure = plots.optimality_against_cost([r for r in records if r["temperature"] == first])
    with matplotlib.rc_context({"svg.hashsalt": "bayesgap", "svg.fonttype": "path"}):
        files.write_whole(
            plot,
            lambda temporary: figure.savefig(temporary, format="svg", metadata={"Date": None}),
        )
    return [numbers, plot]


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}" if value < 10 else f"{value:.3g}"


def _short(record: dict[str, Any]) -> str:
    """Mean ratio, and the success rate where it is not all."""
    success = record["success_rate"]
    return _ratio(record["mean_ratio"]) + ("" if success == 1 else f" ({success:.0%})")
