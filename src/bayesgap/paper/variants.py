"""Every classifier on both variants of every task, which the paper shows of the optimum alone."""

from bayesgap.drawing import Picture, Section, Table, bars, bracket, interval, percent, size
from bayesgap.experiment import (
    ASYMMETRIC,
    PAPER_KINDS,
    SYMMETRIC,
    VARIANTS,
    CaseResults,
    Part,
    Setting,
)
from bayesgap.paper import pictures
from bayesgap.paper.engine import Exhibit, Findings, Wants, attacks

COLUMNS = 4  # tasks beside each other


def wants(setting: Setting) -> Wants:
    """Every classifier of the paper on both variants of the tasks whose images may be shown.

    Of faces the paper shows the optimum of asymmetric tasks alone, and all others take hours.
    """
    tasks = [task for task in setting.tasks if setting.source(task).publishable]
    return Wants(attacks(tasks, dict.fromkeys(VARIANTS, PAPER_KINDS)))


def section(findings: Findings) -> Section:
    """Sizes on both variants, the shares that are broken, and the parts of asymmetric tasks."""
    tasks = findings.tasks(SYMMETRIC)
    charts = {
        f"{variant} tasks": [pictures.on_tasks(findings, tasks, variant, k) for k in PAPER_KINDS]
        for variant in VARIANTS
    }
    groups = [tasks[start : start + COLUMNS] for start in range(0, len(tasks), COLUMNS)]
    shares = [
        Picture(
            bars.broken_shares(
                [[findings.case(task, variant) for task in group] for variant in VARIANTS],
                PAPER_KINDS,
            ),
            "Share of points decided wrongly against the size of the perturbation",
            "Share of all points, misclassified ones included, that are decided wrongly once "
            "perturbations up to a size are allowed.",
        )
        for group in groups
    ]
    return Section(
        [
            "Off the data's manifold the two broad outliers of an asymmetric task decide between "
            "themselves. Where the outlier of the other class is likelier, leaving the manifold is "
            "enough; where the own class's is, the change must also cross the plane between the "
            "two. Points drawn from the outliers themselves look like noise."
        ],
        [pictures.bar_chart(charts, "each classifier on both variants"), *shares],
        [parts_table([findings.case(task, ASYMMETRIC) for task in tasks])],
    )


def parts_table(cases: list[CaseResults]) -> Table:
    """The numbers of the best attack on the parts of asymmetric tasks' points."""
    return Table(
        [
            *("task", "classifier", "points", "number", "clean", "success", "mean L2", "95 %"),
            "certified bracket",
        ],
        [_line(part) for case in cases for part in case.parts()],
        "By the best attack on each classifier.",
        words=3,
        grouped=True,
    )


def _line(part: Part) -> list[str]:
    summary, certified = part.summary, part.certified
    return [
        part.measured.case.task,
        part.measured.kind.label,
        part.among,
        str(summary.points),
        percent(summary.clean_accuracy),
        percent(summary.success_rate),
        size(summary.mean.value),
        interval(summary.mean),
        "" if certified is None else bracket(certified.value, summary.mean.value),
    ]


EXHIBIT = Exhibit(
    name="variants",
    label="Both variants",
    title="Every classifier on both variants",
    needs=pictures.OWN_TASKS,
    wants=wants,
    section=section,
)
