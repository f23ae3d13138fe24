"""Exams of attacks as a table for the terminal, and as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from rich.table import Table

from bayesgap import files
from bayesgap.drawing import SVG
from bayesgap.drawing.exams import optimality_against_cost
from bayesgap.evaluation.counting import BUDGETS
from bayesgap.experiment.exam_table import as_csv
from bayesgap.report.html import write_text

FILES = ("exams.csv", "exams.md", "exams.svg")
TEXTS = 2  # columns that hold names
COLUMNS = (
    "task",
    "attack",
    "success",
    "mean ratio",
    "95 %",
    "median",
    "within 1 %",
    "forward + backward",
    "seconds",
    f"within {' / '.join(f'{budget:,}' for budget in BUDGETS)} passes",
)


def rows(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings, and one line for each task and attack at the first temperature.

    At other temperatures a column says the mean ratio, and the success rate where it is not all.
    """
    first, *others = dict.fromkeys(record["temperature"] for record in records)
    by_exam = {(r["task"], r["attack"], r["temperature"]): r for r in records}
    lines = []
    for task in dict.fromkeys(record["task"] for record in records):
        for attack in dict.fromkeys(record["attack"] for record in records):
            record = by_exam[task, attack, first]
            low, high = (_ratio(record[f"mean_ratio_{end}"], 3) for end in ("low", "high"))
            lines.append(
                [
                    task,
                    attack,
                    f"{record['success_rate']:.0%}",
                    _ratio(record["mean_ratio"]),
                    f"{low} – {high}",
                    _ratio(record["median_ratio"]),
                    f"{record['found']:.0%}",
                    f"{record['forwards']:.0f} + {record['backwards']:.0f}",
                    f"{record['seconds']:.1f}",
                    " / ".join(_within(record, budget) for budget in BUDGETS),
                    *(_short(by_exam[task, attack, factor]) for factor in others),
                ]
            )
    return [*COLUMNS, *(f"at {factor:g} ×" for factor in others)], lines


def table(records: Sequence[dict[str, Any]]) -> Table:
    """The lines as a table for the terminal."""
    first = records[0]["temperature"]
    title = "L2 over the certified lower bound"
    if first != 1:
        title += f", at {first:g} times the default temperature"
    headings, lines = rows(records)
    made = Table(box=None, pad_edge=False, title=title)
    for place, heading in enumerate(headings):
        made.add_column(heading, justify="left" if place < TEXTS else "right", overflow="fold")
    for line in lines:
        made.add_row(*line)
    return made


def write_exams(records: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Write all numbers as CSV, the table as Markdown, and a plot of optimality against cost.

    Raises:
        BayesgapError: the folder cannot be written to.
    """
    numbers, page, plot = (folder / name for name in FILES)
    headings, lines = rows(records)
    ruler = ["---"] * TEXTS + ["---:"] * (len(headings) - TEXTS)
    markdown = "".join(f"| {' | '.join(line)} |\n" for line in (headings, ruler, *lines))
    write_text(numbers, as_csv(records))
    write_text(page, markdown)
    first = records[0]["temperature"]
    figure = optimality_against_cost([r for r in records if r["temperature"] == first])
    with matplotlib.rc_context(SVG):
        files.write_whole(
            plot,
            lambda temporary: figure.savefig(temporary, format="svg", metadata={"Date": None}),
        )
    return [numbers, page, plot]


def _ratio(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}" if value < 10 else f"{value:.3g}"


def _within(record: dict[str, Any], budget: int) -> str:
    """The mean ratio within so many passes, and how many were broken where it is not all."""
    success = record[f"success_{budget}"]
    ratio = _ratio(record[f"ratio_{budget}"], 3)
    return ratio if success == 1 or not success else f"{ratio} ({success:.0%})"


def _short(record: dict[str, Any]) -> str:
    success = record["success_rate"]
    return _ratio(record["mean_ratio"]) + ("" if success == 1 else f" ({success:.0%})")
