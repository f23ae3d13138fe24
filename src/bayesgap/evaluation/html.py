"""An evaluation as a short table in HTML, which notebooks show."""

from html import escape
from typing import TYPE_CHECKING

from bayesgap.estimates import Estimate

if TYPE_CHECKING:
    from bayesgap.evaluation.record import Evaluation

LEFT = "text-align: left; white-space: normal"


def as_html(evaluation: "Evaluation") -> str:
    """What was evaluated, the headline numbers and all doubts; every text is escaped.

    Args:
        evaluation: The evaluation.
    """
    best, facts = evaluation.best, evaluation.facts
    accuracy = "unknown" if best.clean_accuracy is None else f"{best.clean_accuracy:.1%}"
    rows = [
        ("accuracy", f"{accuracy} of {best.points} points"),
        (f"mean {best.norm.name} found against the classifier", _text(best.mean)),
        *([("broken", f"{best.success_rate:.1%}")] if best.success_rate is not None else []),
        *(
            [("optimum's mean certified L2", _text(evaluation.optimum))]
            if evaluation.bracket is not None
            else []
        ),
    ]
    if evaluation.no_gap is None:
        gap = evaluation.to_optimum
        rows += [("ratio", _text(gap.ratio)), ("gap", _text(gap.estimate))]
    else:
        rows.append(("no gap", evaluation.no_gap))
    rows += [
        (f"doubt: {doubt.name}", f"{doubt.finding}. {doubt.remedy}") for doubt in evaluation.doubts
    ]
    title = f"{facts.classifier} on {facts.task}"
    body = "".join(
        f'<tr><th style="{LEFT}">{escape(name)}</th><td style="{LEFT}">{escape(text)}</td></tr>'
        for name, text in rows
    )
    return f"<table><caption>{escape(title)}</caption>{body}</table>"


def _text(estimate: Estimate) -> str:
    """A number with its 95 % interval."""
    if estimate.value is None:
        return "unknown"
    return f"{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"
