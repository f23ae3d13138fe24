"""What figures 1, 4, 7 and 13 to 18 share: attacks on every classifier of a task, to look at."""

from bayesgap.paper.exhibit import Exhibit, Setting
from bayesgap.paper.experiment import BAYES
from bayesgap.paper.jobs import ASYMMETRIC, KINDS, SYMMETRIC

BOTH_OPTIMA = {SYMMETRIC: (BAYES,), ASYMMETRIC: (BAYES,)}
EVERY_CLASSIFIER = {SYMMETRIC: KINDS, ASYMMETRIC: (BAYES,)}
OWN_TASKS = "the package's own tasks"


def gallery(name: str, task: str, about: str) -> Exhibit:
    """One of figures 13 to 18: samples, perturbations and histograms of all models on a task."""
    return Exhibit(
        name=name,
        title=f"{about}: adversarial images, perturbations and their histograms, every classifier",
        needs=OWN_TASKS
        if task.startswith("mnist")
        else f"{task}, fitted to faces: --celeba, or --tasks",
        tasks=lambda setting: tuple(one for one in (task,) if one in setting.tasks),
        only=task,
        jobs=EVERY_CLASSIFIER,
    )


def preferring(task: str, setting: Setting) -> tuple[str, ...]:
    """That task, or the first at hand where it is not there."""
    return (task,) if task in setting.tasks else tuple(setting.tasks)[:1]
