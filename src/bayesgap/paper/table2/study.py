"""The stage of table 2: which real test images a classifier decides correctly."""

from bayesgap.classifiers.module import decisions
from bayesgap.experiment.stages.data import Load, as_data, draw
from bayesgap.images.source import RealImages
from bayesgap.runs.store import Result

TESTED = 5_000  # real test images at most


def count_on_real(
    real: Result,
    classifier: Result,
    *,
    images: int,
    sample_seed: int,
    load: Load,
    seed: int,
    folds: int | None = None,
) -> Result:
    """Which real test images a classifier decides correctly; all see the same images.

    Args:
        real: The stored real images.
        classifier: The stored classifier, trained on them or on samples.
        images: How many images it was to learn from.
        sample_seed: The seed that the test images follow from.
        load: Makes a classifier of what is stored of it.
        seed: Not used: `sample_seed` decides.
        folds: Among how many trainings the real images that it learned from were shared out.

    Returns:
        As tensor, "right" (images,); as values, the number "images", how many are "correct" and
        how many images the classifier "learned_from".
    """
    data = as_data(real)
    x, y = draw(data, "test", TESTED, seed=sample_seed)
    right = decisions(load(classifier, data), x) == y
    if folds is not None and isinstance(data, RealImages):
        images = data.size(images, folds=folds)
    return Result(
        {"right": right}, {"images": len(x), "correct": int(right.sum()), "learned_from": images}
    )
