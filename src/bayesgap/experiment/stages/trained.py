"""What the stages that train classifiers share: images to learn from, and a test at the end."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.classifiers import stored
from bayesgap.classifiers.module import decisions
from bayesgap.experiment.stages.data import Data, draw
from bayesgap.runs.stage import seed_of
from bayesgap.runs.store import Result

VALIDATION_IMAGES = 2_000  # for choosing a width or a gamma; never those that are attacked
TEST_IMAGES = 5_000  # for the accuracy of a trained classifier, besides the attacked points


def tested(classifier: nn.Module, data: Data, seed: int, images: int, **values: Any) -> Result:
    """A trained classifier to store, with its score.

    Args:
        classifier: One that `stored` knows.
        data: What it was trained on samples of.
        seed: The seed of the stage that trained it.
        images: How many images to test it on.
        **values: What else to store, as JSON values.
    """
    tensors, metadata = stored.to_tensors(classifier)
    return Result(tensors, {**metadata, **values, **score(classifier, data, seed, images)})


def score(classifier: nn.Module, data: Data, seed: int, images: int) -> dict[str, int]:
    """How many fresh samples, or real test images, a classifier decides correctly.

    Args:
        classifier: The trained classifier.
        data: What it was trained on samples of.
        seed: The seed of the stage that trained it.
        images: How many images to test it on.

    Returns:
        The number of "images", and how many are "correct": all kinds store these two values.
    """
    x, y = draw(data, "test", images, seed=seed_of("test", seed))
    return {"images": len(x), "correct": int((decisions(classifier, x) == y).sum())}


def as_stored(result: Result, data: Data) -> nn.Module:
    """The classifier that `tested` stored."""
    return stored.from_tensors(result.tensors, result.values)


def accuracy(classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]) -> float:
    """The share of images that are decided as labelled."""
    right: Bool[Tensor, " n"] = decisions(classifier, x) == y
    return right.double().mean().item()


def training_and_validation(
    data: Data,
    images: int,
    sample_seed: int,
    fold: Sequence[int],
    seed: int,
    validation_images: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels to learn from, and further ones to choose by."""
    x, y = draw(data, "training", images, seed=sample_seed, fold=fold)
    unseen, truth = draw(data, "validation", validation_images, seed=seed_of("validation", seed))
    return x, y, unseen, truth
