"""The stage of figure 5 that learns: gradient descent on one of two linear tasks.

The example is ours, after the tilted boundaries of Tanay and Griffin (2016): two Gaussians side
by side, both narrow across the line between them. Across it the data say nearly nothing, so that
gradient descent of a linear classifier leaves a weight in that direction as it was; how near the
boundary ends up is up to the start. For linear classifiers distances are exact:
|w·x + b| / ‖w‖.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap.runs.stage import seed_of
from bayesgap.runs.store import Result
from bayesgap.tasks.plane import bars
from bayesgap.tasks.task import Task

JITTER = 1e-2  # standard deviation of what is added to all weights of a start
STEPS, RATE = 2_000, 1.0  # of gradient descent on the mean cross-entropy
TRAINING_POINTS, TEST_POINTS = 1_000, 5_000  # for each training


def line_tasks() -> dict[str, Task]:
    """Two bars that lie in one line, and the same with a spherical broad second class."""
    side = math.pi / 2
    return {
        "asymmetric": bars(broad=True, tilt=side, name="line/asymmetric"),
        "symmetric": bars(tilt=side, name="line/symmetric"),
    }


def descend(
    x: Float[Tensor, "trainings n 2"],
    y: Int[Tensor, "trainings n"],
    start: Float[Tensor, "trainings 3"],
    *,
    steps: int = STEPS,
    rate: float = RATE,
) -> Float[Tensor, "trainings 3"]:
    """Plain gradient descent of linear classifiers on the mean cross-entropy.

    Args:
        x: The training points of each classifier.
        y: The labels of the training points, 0 or 1.
        start: The weights and, last, the bias that each classifier starts with: label 1 is
            decided where w·x + b > 0.
        steps: The number of steps.
        rate: What a step's gradient is multiplied by.

    Returns:
        The weights and, last, the bias of each classifier after the last step.
    """
    ahead = torch.cat([x, torch.ones_like(x[..., :1])], dim=2)
    parameters = start.clone()
    for _ in range(steps):
        probability = (ahead @ parameters[:, :, None]).squeeze(2).sigmoid()
        slope = ((probability - y)[:, None] @ ahead).squeeze(1) / y.shape[1]
        parameters -= rate * slope
    return parameters


def signed_distances(
    parameters: Float[Tensor, "trainings 3"], x: Float[Tensor, "n 2"], y: Int[Tensor, " n"]
) -> Float[Tensor, "trainings n"]:
    """The distance of each point to each linear boundary; negative where decided wrongly.

    Args:
        parameters: The weights and, last, the bias of each classifier: label 1 is decided where
            w·x + b > 0.
        x: The points, in units of the features.
        y: The labels of the points, 0 or 1.
    """
    weights, bias = parameters[:, :2], parameters[:, 2:]
    heights = (weights @ x.mT + bias) / weights.norm(dim=1, keepdim=True)
    return torch.where(y == 1, heights, -heights)


def study_training(
    data: Result, *, start: float, trainings: int, sample_seed: int, seed: int
) -> Result:
    """Gradient descent on the symmetric task from one of the starts, several times.

    Each training has samples and a start of its own.

    Args:
        data: What `study_data` found; distances are measured at its points.
        start: The weight across the line between the classes; its sign is random.
        trainings: The number of trainings.
        sample_seed: The seed of the run's samples.
        seed: The stage's seed.

    Returns:
        As tensors, the weights and bias that each training begins with, "start" (trainings, 3),
        and ends with, "parameters" (trainings, 3), and the "distance" (trainings, n) of each
        point to each boundary, in units of the features, NaN where it is decided wrongly. As
        values, the number of fresh samples that each training is tested on, "images", and how
        many of its own each decides correctly, the list "correct".
    """
    task = line_tasks()["symmetric"]
    drawn = seed_of(sample_seed, seed)
    generator = torch.Generator().manual_seed(drawn)
    count = trainings * TRAINING_POINTS
    x, y = task.sample(count, seed=seed_of("training", drawn))
    begin = JITTER * torch.randn(trainings, 3, generator=generator, dtype=torch.float64)
    signs = 2 * torch.randint(2, (trainings,), generator=generator) - 1
    begin[:, 1] += start * signs
    parameters = descend(x.reshape(trainings, -1, 2), y.reshape(trainings, -1), begin)
    distance = signed_distances(parameters, data.tensors["x"], data.tensors["y"])
    correct = []
    for training, row in enumerate(parameters):
        fresh, truth = task.sample(TEST_POINTS, seed=seed_of("test", drawn, training))
        right = signed_distances(row[None], fresh.flatten(1), truth) > 0
        correct.append(int(right.sum()))
    return Result(
        {
            "start": begin,
            "parameters": parameters,
            "distance": torch.where(distance > 0, distance, torch.nan),
        },
        {"images": TEST_POINTS, "correct": correct},
    )
