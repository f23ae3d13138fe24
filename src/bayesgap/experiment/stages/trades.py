"""The stage that trains CNNs adversarially, by TRADES (appendix D.3)."""

from collections.abc import Sequence
from typing import Any

from bayesgap.classifiers.allconv import Training
from bayesgap.classifiers.trades import Ball, train_trades
from bayesgap.experiment.stages.data import as_data, draw
from bayesgap.experiment.stages.trained import TEST_IMAGES, tested
from bayesgap.images.source import ONE_FOLD
from bayesgap.runs.store import Result


def train_robust(
    task: Result,
    width: Result,
    *,
    images: int,
    sample_seed: int,
    training: dict[str, Any],
    ball: dict[str, Any],
    beta: float,
    fold: Sequence[int] = ONE_FOLD,
    test_images: int = TEST_IMAGES,
    seed: int,
) -> Result:
    """One CNN by TRADES at the width that was found."""
    known = as_data(task)
    x, y = draw(known, "training", images, seed=sample_seed, fold=fold)
    network, losses = train_trades(
        x,
        y,
        width=width.values["width"],
        classes=known.classes,
        seed=seed,
        training=Training(**training),
        ball=Ball(**ball),
        beta=beta,
    )
    return tested(network, known, seed, test_images, losses=[loss._asdict() for loss in losses])
