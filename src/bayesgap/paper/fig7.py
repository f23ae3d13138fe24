"""Figure 7: more tasks whose optima are robust or brittle as the data are."""

from bayesgap.drawing import Section
from bayesgap.experiment import OPTIMUM, SYMMETRIC, VARIANTS, Setting
from bayesgap.paper import pictures
from bayesgap.paper.engine import Exhibit, Findings, Wants, attacks
from bayesgap.paper.fig4 import both_optima


def wants(setting: Setting) -> Wants:
    """Both optima of every task at hand but the one of figure 1."""
    tasks = list(setting.tasks)
    others = [task for task in tasks if task != pictures.shown_of(tasks)]
    return Wants(attacks(others, dict.fromkeys(VARIANTS, (OPTIMUM,))))


def section(findings: Findings) -> Section:
    """Attacks on both optima of each task."""
    return Section(
        [both_optima(findings)],
        [
            pictures.gallery(
                findings,
                [(findings.case(task, variant), OPTIMUM) for variant in VARIANTS],
                f"Both optima of {task}",
            )
            for task in findings.tasks(SYMMETRIC)
        ],
    )


EXHIBIT = Exhibit(
    name="fig7",
    label="Figure 7",
    title="More optima, robust on symmetric data and brittle on asymmetric data",
    needs=pictures.OWN_TASKS_AND_FACES,
    wants=wants,
    section=section,
)
