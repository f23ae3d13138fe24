"""The stage of figure 10: whether the optima with and without much noise decide alike."""

from bayesgap.classifiers.module import decisions
from bayesgap.experiment.stages.data import as_task
from bayesgap.runs.stage import seed_of
from bayesgap.runs.store import Result

IMAGES = 5_000


def compare_optima(
    plain: Result, noisy: Result, *, sample_seed: int, seed: int, images: int = IMAGES
) -> Result:
    """How often the optimum of much noise decides as that of little, on samples of either.

    Args:
        plain: The stored symmetric task.
        noisy: The stored noisy task, which differs from the symmetric one in its noise alone.
        sample_seed: The seed of the run's samples.
        seed: The stage's seed.
        images: How many samples of each task to decide.

    Returns:
        As values, the number "images", and how many samples of the "plain" and of the "noisy"
        task both optima decide alike.
    """
    tasks = {"plain": as_task(plain), "noisy": as_task(noisy)}
    optima = {name: task.bayes_classifier(temperature=1.0) for name, task in tasks.items()}
    values: dict[str, int] = {"images": images}
    for name, task in tasks.items():
        # The same seed draws the same components, factors and noise but for its size.
        x, _ = task.sample(images, seed=seed_of(sample_seed, seed))
        first, second = (decisions(optimum, x) for optimum in optima.values())
        values[name] = int((first == second).sum())
    return Result(values=values)
