"""Figure 1: the paper in one row of images."""

from bayesgap.drawing import Picture, Section, galleries
from bayesgap.experiment import ASYMMETRIC, CNN, OPTIMUM, PAPER_KINDS, RBF_SVM, SYMMETRIC, Setting
from bayesgap.paper.engine import Exhibit, Findings, Wants, attacks
from bayesgap.paper.pictures import OWN_TASKS, PAPERS_TASK, publishable, shown_of


def wants(setting: Setting) -> Wants:
    """Every classifier of the paper's task, or of the first at hand where it is not there."""
    tasks = [shown_of(list(setting.tasks))] if setting.tasks else []
    return Wants(attacks(tasks, {SYMMETRIC: PAPER_KINDS, ASYMMETRIC: (OPTIMUM,)}))


def section(findings: Findings) -> Section:
    """One image of each class, and what each classifier decides otherwise."""
    (task,) = findings.tasks(SYMMETRIC)
    symmetric, asymmetric = (findings.case(task, variant) for variant in (SYMMETRIC, ASYMMETRIC))
    columns: list[galleries.Cell] = [
        *((asymmetric, kind) for kind in (None, OPTIMUM)),
        *((symmetric, kind) for kind in (None, OPTIMUM, CNN, RBF_SVM)),
    ]
    sentence = (
        f"An image of each class of {task}, and the nearest images that the classifiers decide "
        "otherwise. Is the change one that you would see?"
    )
    picture = Picture(
        galleries.side_by_side(columns),
        f"Images of {task} and what alters each classifier's decision",
        "Below each image its change, magnified until its largest value is full scale, and its L2.",
        "png",
        publishable=publishable(findings, task),
    )
    return Section([sentence], [picture])


EXHIBIT = Exhibit(
    name="fig1",
    label="Figure 1",
    title="One image, and what alters the decision of each optimum, a CNN and an RBF SVM",
    needs=f"{PAPERS_TASK} for the paper's faces, else {OWN_TASKS}",
    wants=wants,
    section=section,
)
