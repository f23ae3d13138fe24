"""The stage that chooses an RBF SVM's bandwidth by the paper's rule (appendix B.5)."""

from collections.abc import Sequence

import torch

from bayesgap.attacks.boundary_walk import BoundaryWalk
from bayesgap.classifiers.svm import train_rbf_svms
from bayesgap.evaluation.measure import attack_decisions, size_table, summarise
from bayesgap.experiment.stages.attack import POOL_IMAGES
from bayesgap.experiment.stages.data import as_data
from bayesgap.experiment.stages.trained import (
    VALIDATION_IMAGES,
    accuracy,
    training_and_validation,
)
from bayesgap.images.source import ONE_FOLD
from bayesgap.runs.store import Result


def study_gamma(
    task: Result,
    points: Result,
    *,
    images: int,
    sample_seed: int,
    gammas: Sequence[float],
    costs: Sequence[float],
    target: float,
    per_class: int,
    fold: Sequence[int] = ONE_FOLD,
    validation_images: int = VALIDATION_IMAGES,
    pool_images: int = POOL_IMAGES,
    seed: int,
) -> Result:
    """Accuracy and mean L2 of RBF SVMs over gamma, and the gamma that the paper's rule chooses.

    The rule: the largest gamma that still classifies well, here with at least the target
    accuracy on validation images, at the first of the costs C. The curve is measured at the
    first points of each class, by walks from the nearest training images of another decision.

    Returns:
        As tensor "l2" (rows, points), one row for each cost and gamma; as values the chosen
        "gamma", whether the target was "reached", and the "curve", a record for each row.
    """
    known = as_data(task)
    x, y, unseen, truth = training_and_validation(
        known, images, sample_seed, fold, seed, validation_images
    )
    count = per_class * known.classes
    at, labels = points.tensors["x"][:count], points.tensors["y"][:count]
    curve, l2 = [], []
    for cost in costs:
        machines = train_rbf_svms(x, y, gammas=gammas, classes=known.classes, cost=cost)
        for gamma, machine in zip(gammas, machines, strict=True):
            outcome = attack_decisions(machine, BoundaryWalk(x[:pool_images]), at)
            l2.append(size_table([outcome], labels))
            curve.append(
                {
                    "cost": cost,
                    "gamma": gamma,
                    "support_vectors": len(machine.support),
                    "validation_accuracy": accuracy(machine, unseen, truth),
                    **summarise([outcome], labels).record(),
                }
            )
    first = [row for row in curve if row["cost"] == costs[0]]
    good = [row["gamma"] for row in first if row["validation_accuracy"] >= target]
    best = max(first, key=lambda row: row["validation_accuracy"])["gamma"]
    return Result(
        {"l2": torch.cat(l2)},
        {"gamma": max(good, default=best), "reached": bool(good), "curve": curve},
    )
