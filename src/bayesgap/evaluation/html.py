"""An evaluation as a short table in HTML, which notebooks show."""

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayesgap.evaluation.record import Evaluation

LEFT = "text-align: left; white-space: normal"


def as_html(evaluation: "Evaluation") -> str:
    """What was evaluated, the headline numbers and all doubts; every text is escaped.

    Args:
        evaluation: The evaluation.
    """
    best, facts = evaluation.best, evaluation.facts
    rows = [
        ("accuracy", f"{best.clean_accuracy:.1%} of {best.points} points"),
        (f"mean {best.norm.name} found against the classifier", str(best.mean)),
        *([("broken", f"{best.success_rate:.1%}")] if best.success_rate is not None else []),
        *(
            [("optimum's mean certified L2", str(evaluation.optimum))]
            if evaluation.bracket is not None
            else []
        ),
    ]
    if evaluation.no_gap is None:
        gap = evaluation.to_optimum
        rows += [("ratio", str(gap.ratio)), ("gap", str(gap.estimate))]
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
