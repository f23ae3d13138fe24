"""Fitting tasks by name, as `bayesgap fit` does, with all that is said of a release of digits."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from bayesgap.classifiers.allconv import train_allconv
from bayesgap.classifiers.svm import train_linear_svm, train_rbf_svms
from bayesgap.errors import BayesgapError
from bayesgap.experiment.kinds import CNN, LINEAR_SVM, OPTIMUM, RBF_SVM
from bayesgap.experiment.setting import VARIANTS
from bayesgap.experiment.stages.trained import accuracy
from bayesgap.images.source import LEVELS, Source
from bayesgap.images.sources import SOURCES, source_of
from bayesgap.tasks import catalog
from bayesgap.tasks.catalog import Known, read_catalogue
from bayesgap.tasks.fit import LIMIT, SEED, fit_missing, fit_task
from bayesgap.tasks.task import Task

TRAINING_IMAGES = 4_000
UNSEEN_IMAGES = 2_000
CNN_WIDTH = 8
RBF_GAMMA = 0.1


def fit_by_name(
    names: Sequence[str],
    folder: Path,
    *,
    sources: Sequence[Source] = SOURCES,
    limit: int | None = LIMIT,
) -> list[Known]:
    """Fit tasks, such as "mnist-3-8", "celeba-smiling" or "celeba" for the paper's twelve.

    What may be published is fitted anew, as a further version; other images where the folder
    lacks a fit to them.

    Args:
        names: The names of tasks.
        folder: The folder of tasks that fits are added to.
        sources: Where images may come from.
        limit: The largest number of training images of each class that may not be published;
            None is no limit.

    Raises:
        BayesgapError: a name without images, one that is released, or images not at hand.
    """
    jobs = [(source_of(name, sources), name) for name in names]
    for source, name in jobs:  # no fit before all names are known
        _check(source, name)
    fitted = []
    for source, name in jobs:
        for task in source.names(name):
            if source.publishable:
                fitted.append(fit_task(source, task, folder, further_facts=taught))
            else:
                fitted += fit_missing(source, [task], folder, limit=limit)
    return fitted


def _check(source: Source, name: str) -> None:
    if name in read_catalogue(catalog.RELEASED):
        raise BayesgapError(
            f"{name} is released, and a fit of your own would not be found by that name: load it "
            "as it is."
        )
    source.names(name)
    if not source.at_hand:
        raise BayesgapError(f"{name} is fitted to {source.what}: give {source.needs}.")


def taught(
    fitted: Task,
    source: Source,
    name: str,
    *,
    training_images: int = TRAINING_IMAGES,
    unseen_images: int = UNSEEN_IMAGES,
    width: int = CNN_WIDTH,
) -> dict[str, Any]:
    """Whether a task's samples teach classifiers as much as real images.

    Args:
        fitted: The task as fitted.
        source: Where its images come from.
        name: Its name.
        training_images: How many samples each classifier is trained on.
        unseen_images: How many further samples it is tested on.
        width: The width of the CNN.

    Returns:
        For each variant, the accuracy of each kind of classifier on samples and on the real test
        images.
    """
    x, y = source.parts(name)["test"]
    real = x.float().div_(LEVELS)
    facts: dict[str, Any] = {}
    for variant in VARIANTS:
        task = catalog.VARIANTS[variant](fitted)
        samples, labels = task.sample(training_images, seed=SEED)
        unseen, truth = task.sample(unseen_images, seed=SEED + 1)
        classes = task.classes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            linear = train_linear_svm(samples, labels, classes=classes, seed=SEED)
        cnn, _ = train_allconv(samples, labels, width=width, classes=classes, seed=SEED)
        (rbf,) = train_rbf_svms(samples, labels, gammas=[RBF_GAMMA], classes=classes)
        classifiers = {OPTIMUM: task.bayes_classifier(), CNN: cnn, LINEAR_SVM: linear, RBF_SVM: rbf}
        facts[variant] = {
            "accuracy_on_samples": {
                kind.name: accuracy(net, unseen, truth) for kind, net in classifiers.items()
            },
            f"accuracy_on_real_{source.what}": {
                kind.name: accuracy(net, real, y) for kind, net in classifiers.items()
            },
        }
    return facts
