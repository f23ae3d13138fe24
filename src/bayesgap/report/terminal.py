"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:  # what these are of takes seconds to import
    from jaxtyping import Int
    from torch import Tensor

    from bayesgap.estimates import Estimate
    from bayesgap.evaluation.record import Evaluation
    from bayesgap.radius.certify import Bracket
    from bayesgap.tasks.catalog import Known


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
        table.add_row(
            f"  {record['classifier']}",
            f"{record['clean_accuracy']:.1%}",
            _percent(record["success_rate"]),
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


def evaluation_table(evaluation: "Evaluation") -> Table:
    """The headline numbers of an evaluation with their 95 % intervals.

    Args:
        evaluation: What `evaluate` found.
    """
    best, gap = evaluation.best, evaluation.to_optimum
    facts = evaluation.facts
    table = empty_table(f"{facts.classifier} on {facts.task}, {best.points} points", "", "", "95 %")
    table.add_row("accuracy", _percent(best.clean_accuracy))
    unbroken = f"{best.unbroken} unbroken" if best.unbroken else ""
    table.add_row("broken", _percent(best.success_rate), unbroken)
    if len(evaluation.attacks) > 1:
        for name, summary in evaluation.attacks.items():
            table.add_row(f"mean {best.norm.name}, {name}", *_estimate(summary.mean))
    table.add_row(f"mean {best.norm.name}, nearest found", *_estimate(best.mean))
    if evaluation.bracket is not None:
        table.add_row("mean L2, optimum, certified", *_estimate(evaluation.optimum))
    if gap.reason is None:
        table.add_row("ratio", *_estimate(gap.ratio))
        table.add_row("gap", *_estimate(gap.estimate))
    return table


def remarks(evaluation: "Evaluation") -> Table:
    """Why there is no gap and what is doubted, between empty lines.

    Args:
        evaluation: What `evaluate` found.
    """
    table = Table.grid(padding=(0, 1))
    table.add_row()
    if evaluation.no_gap is not None:
        table.add_row("No gap:", f"{evaluation.no_gap}.")
    for doubt in evaluation.doubts:
        table.add_row("Doubt:", str(doubt))
    table.add_row()
    return table


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _estimate(estimate: "Estimate") -> tuple[str, str]:
    value, low, high = ("–" if each is None else f"{each:.4g}" for each in estimate)
    return value, "" if estimate.value is None else f"{low} to {high}"


def bracket_table(
    title: str, names: Sequence[str], bracket: "Bracket", y: "Int[Tensor, ' n']"
) -> Table:
    """What is certified of each class's points.

    Args:
        title: What is certified.
        names: What each class is called.
        bracket: The bounds.
        y: The label of each point.
    """
    headings = ("points", "decided correctly", "mean lower", "mean upper", "worst upper / lower")
    table = empty_table(title, "class", *headings)
    for label, name in enumerate(names):
        chosen = bracket.correct & (y == label)
        lower, upper = bracket.lower[chosen], bracket.upper[chosen]
        numbers = ["–"] * 3
        if len(lower):
            means = (f"{bound.mean().item():.6g}" for bound in (lower, upper))
            numbers = [*means, f"{(upper / lower).max().item():.7f}"]
        table.add_row(name, str(int((y == label).sum())), str(len(lower)), *numbers)
    return table


def catalogue_table(tasks: Mapping[str, Sequence["Known"]]) -> Table:
    """Fitted tasks and how far they can be trusted.

    Args:
        tasks: The versions of each, by its name.
    """
    headings = ("version", "components × factors", "held-out nats by class")
    table = empty_table(
        "Fitted tasks, with accuracies on real test images",
        *("task", *headings, "optimum", "CNN", "linear SVM", "RBF SVM"),
    )
    for base, versions in tasks.items():
        for known in versions:
            settings, facts = known.entry["settings"], known.entry["facts"]
            components = settings["components"]
            if isinstance(components, int):
                components = [components] * len(facts["held_out_nats"])
            for variant in ("symmetric", "asymmetric"):
                accuracy = facts.get(variant, {}).get("accuracy_on_real_digits", {})
                shares = [f"{share:.1%}" for share in accuracy.values()] or ["–"] * 4
                table.add_row(
                    f"{base}/{variant}",
                    str(known.version),
                    f"{' + '.join(map(str, components))} × {settings['latent']}",
                    ", ".join(f"{nats:.0f}" for nats in facts["held_out_nats"]),
                    *shares,
                )
    return table
