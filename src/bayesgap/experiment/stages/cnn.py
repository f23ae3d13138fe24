"""Stages that train CNNs (appendix B.3)."""

from collections.abc import Sequence
from typing import Any

from bayesgap.classifiers.allconv import Training, train_allconv
from bayesgap.experiment.stages.data import as_data, draw
from bayesgap.experiment.stages.trained import (
    TEST_IMAGES,
    VALIDATION_IMAGES,
    accuracy,
    tested,
    training_and_validation,
)
from bayesgap.images.source import ONE_FOLD
from bayesgap.runs.store import Result


def find_width(
    task: Result,
    *,
    images: int,
    sample_seed: int,
    widths: Sequence[int],
    target: float,
    training: dict[str, Any],
    fold: Sequence[int] = ONE_FOLD,
    validation_images: int = VALIDATION_IMAGES,
    seed: int,
) -> Result:
    """The smallest width whose CNN reaches the target accuracy on validation images.

    Widths are tried in turn; where none reaches it, the best is taken (the widest of equals).
    A single width is taken as it is.
    """
    if len(widths) == 1:
        return Result(values={"width": widths[0], "reached": None, "tried": []})
    known = as_data(task)
    x, y, unseen, truth = training_and_validation(
        known, images, sample_seed, fold, seed, validation_images
    )
    tried = []
    for width in widths:
        network, _ = train_allconv(
            x, y, width=width, classes=known.classes, seed=seed, training=Training(**training)
        )
        tried.append((accuracy(network, unseen, truth), width))
        if tried[-1][0] >= target:
            break
    reached, width = max(tried)
    return Result(
        values={
            "width": width,
            "reached": reached >= target,
            "tried": [{"width": w, "validation_accuracy": a} for a, w in tried],
        }
    )


def train_cnn(
    task: Result,
    width: Result,
    *,
    images: int,
    sample_seed: int,
    training: dict[str, Any],
    fold: Sequence[int] = ONE_FOLD,
    test_images: int = TEST_IMAGES,
    seed: int,
) -> Result:
    """One CNN at the width that was found."""
    known = as_data(task)
    x, y = draw(known, "training", images, seed=sample_seed, fold=fold)
    network, losses = train_allconv(
        x,
        y,
        width=width.values["width"],
        classes=known.classes,
        seed=seed,
        training=Training(**training),
    )
    return tested(network, known, seed, test_images, losses=losses)
