"""Stages that train support vector machines (appendices B.4 and B.5)."""

import warnings
from collections.abc import Sequence

from sklearn.exceptions import ConvergenceWarning

from bayesgap.classifiers.svm import train_linear_svm, train_rbf_svms
from bayesgap.experiment.stages.data import as_data, draw
from bayesgap.experiment.stages.trained import TEST_IMAGES, tested
from bayesgap.images.source import ONE_FOLD
from bayesgap.runs.store import Result


def train_linear(
    task: Result,
    *,
    images: int,
    sample_seed: int,
    fold: Sequence[int] = ONE_FOLD,
    test_images: int = TEST_IMAGES,
    seed: int,
) -> Result:
    """One linear SVM, and whether its solver converged at scikit-learn's defaults."""
    known = as_data(task)
    x, y = draw(known, "training", images, seed=sample_seed, fold=fold)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it becomes a result instead
        machine = train_linear_svm(x, y, classes=known.classes, seed=seed)
    return tested(machine, known, seed, test_images, converged=machine.converged)


def train_rbf(
    task: Result,
    gamma: Result,
    *,
    images: int,
    sample_seed: int,
    cost: float,
    fold: Sequence[int] = ONE_FOLD,
    test_images: int = TEST_IMAGES,
    seed: int,
) -> Result:
    """One RBF SVM at the gamma that was chosen."""
    return train_rbf_at(
        task,
        images=images,
        sample_seed=sample_seed,
        gamma=gamma.values["gamma"],
        cost=cost,
        fold=fold,
        test_images=test_images,
        seed=seed,
    )


def train_rbf_at(
    task: Result,
    *,
    images: int,
    sample_seed: int,
    gamma: float,
    cost: float,
    fold: Sequence[int] = ONE_FOLD,
    test_images: int = TEST_IMAGES,
    seed: int,
) -> Result:
    """One RBF SVM at a gamma that is given."""
    known = as_data(task)
    x, y = draw(known, "training", images, seed=sample_seed, fold=fold)
    (machine,) = train_rbf_svms(x, y, gammas=[gamma], classes=known.classes, cost=cost)
    return tested(machine, known, seed, test_images)
