"""Tables for the terminal."""

from typing import Any

from rich.table import Table


def results_table(records: list[dict[str, Any]]) -> Table:
    """Narrow enough for 80 columns: a line names the task, those of its classifiers follow."""
    headings = ("clean", "success", "mean L2", "95 %", "certified", "gap")
    table = empty_table("Best attack on each classifier", "", *headings)
    named = None
    for record in records:
        task = f"{record['task']}/{record['variant']}"
        if task != named:
            table.add_row(named := task)
        l2, low, high = (
            "–" if record[key] is None else f"{record[key]:.3f}"
            for key in ("mean_l2", "mean_l2_low", "mean_l2_high")
        )
        success = record["success_rate"]
        table.add_row(
            f"  {record['classifier']}",
            f"{record['clean_accuracy']:.1%}",
            "–" if success is None else f"{success:.1%}",
            l2,
            f"{low} – {high}",
            f"{record['certified_lower']:.3f}" if record.get("certified_lower") else "",
            f"{record['gap']:.2f}" if record.get("gap") is not None else "",
        )
    return table


def empty_table(title: str, names: str, *numbers: str) -> Table:
    """A table with those headings: a column of names to the left, then columns of numbers."""
    table = Table(box=None, pad_edge=False, title=title)
    table.add_column(names, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", overflow="fold")
    return table
