"""The RBF SVM's bandwidth: how accuracy and robustness go with gamma (section 4, appendix B.5)."""

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgap.drawing import STYLE, Picture, Section, percent, styled
from bayesgap.experiment import LINEAR_SVM, OPTIMUM, RBF_SVM, SYMMETRIC, CaseResults, Setting
from bayesgap.paper.engine import Exhibit, Findings, Wants, attacks
from bayesgap.paper.pictures import OWN_TASKS_AND_FACES

COLUMNS = 4  # tasks beside each other


def wants(setting: Setting) -> Wants:
    """RBF SVMs, beside the optimum and linear SVMs."""
    return Wants(attacks(setting.tasks, {SYMMETRIC: (OPTIMUM, LINEAR_SVM, RBF_SVM)}))


def section(findings: Findings) -> Section:
    """The curves of accuracy and mean L2 over gamma."""
    tasks = findings.tasks(SYMMETRIC)
    by_source: dict[str, list[str]] = {}
    for task in tasks:
        by_source.setdefault(findings.setting.source(task).what, []).append(task)
    targets = ", ".join(
        f"{percent(findings.setting.scale_for(several[0]).rbf_accuracy)} ({what})"
        for what, several in by_source.items()
    )
    return Section(
        [
            "The paper takes the largest gamma that still classifies well; here, of the gammas "
            f"tried, the largest whose validation accuracy at C = 1 is at least {targets}."
        ],
        [
            Picture(
                curves(
                    [findings.case(task, SYMMETRIC) for task in several[start : start + COLUMNS]]
                ),
                "Mean L2 and accuracy of RBF SVMs against gamma",
                "Mean L2 of the best attack (first seed, "
                f"{findings.setting.scale_for(several[0]).curve_per_class} points a class) and "
                "validation accuracy over gamma.",
            )
            for several in by_source.values()
            for start in range(0, len(several), COLUMNS)
        ],
    )


def curves(cases: Sequence[CaseResults]) -> Figure:
    """Accuracy and mean L2 of RBF SVMs over gamma, beside the optimum and the linear SVM."""
    with matplotlib.rc_context(STYLE):
        figure = styled(8.6, 4.2)
        axes = figure.subplots(2, len(cases), sharex=True, sharey="row", squeeze=False)
        for (size, accuracy), case in zip(axes.T, cases, strict=True):
            _column(size, accuracy, case)
        axes[0, 0].set_ylabel("mean L2")
        axes[0, 0].set_ylim(bottom=0)
        axes[1, 0].set_ylabel("validation accuracy")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        return figure


def _column(size: Axes, accuracy: Axes, case: CaseResults) -> None:
    """One case's mean L2, above its accuracy."""
    assert case.gamma is not None
    curve, chosen = case.gamma.values["curve"], case.gamma.values["gamma"]
    line: dict[str, Any] = {"color": RBF_SVM.colour, "marker": "o", "markersize": 3}
    for cost, style in zip(dict.fromkeys(row["cost"] for row in curve), ("-", "--"), strict=False):
        rows = [row for row in curve if row["cost"] == cost and row["mean_l2"] is not None]
        gammas, means, low, high, right = (
            [row[key] for row in rows]
            for key in ("gamma", "mean_l2", "mean_l2_low", "mean_l2_high", "validation_accuracy")
        )
        size.plot(gammas, means, style, **line, label=f"RBF SVM, C = {cost:g}")
        size.fill_between(gammas, low, high, color=RBF_SVM.colour, alpha=0.12, linewidth=0)
        accuracy.plot(gammas, right, style, **line)
    optimum, linear = case.measured[OPTIMUM], case.measured[LINEAR_SVM]
    levels = {
        f"{OPTIMUM.label}, certified": (OPTIMUM, optimum.certified),
        LINEAR_SVM.label: (LINEAR_SVM, linear.summary.mean),
    }
    for label, (kind, estimate) in levels.items():
        if estimate is not None and estimate.value is not None:
            size.axhline(estimate.value, color=kind.colour, linewidth=1, linestyle=":", label=label)
    for axis in (size, accuracy):
        axis.axvline(chosen, color="#aaaaaa", linewidth=0.8, label="gamma chosen")
        axis.set_xscale("log")
    size.set_title(str(case.case), fontsize=8)
    accuracy.set_xlabel("gamma")


EXHIBIT = Exhibit(
    name="gamma",
    label="The RBF SVM's bandwidth",
    title="Accuracy and robustness over gamma",
    needs=OWN_TASKS_AND_FACES,
    wants=wants,
    section=section,
)
