"""Figure 5: brittle because of the data, or because of the learning?

On the left the data are asymmetric and the optimum itself is brittle; on the right they are
symmetric and the optimum is robust, but gradient descent from a bad start ends at a brittle
classifier. The example is ours, after the tilted boundaries of Tanay and Griffin (2016): two
Gaussians side by side, both narrow across the line between them. Across it the data say nearly
nothing, so that gradient descent of a linear classifier leaves a weight in that direction as it
was; how near the boundary ends up is up to the start. For linear classifiers distances are
exact: |w·x + b| / ‖w‖.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap.evaluation.statistics import (
    mean_with_interval,
    ratio_with_interval,
    share_with_interval,
)
from bayesgap.paper.claim import Claim, Interval, Number
from bayesgap.paper.exhibit import Exhibit, Setting
from bayesgap.paper.fig2 import quotient
from bayesgap.radius.certify import certify
from bayesgap.runs.stage import Stage, seed_of
from bayesgap.runs.store import Result
from bayesgap.tasks.plane import bars
from bayesgap.tasks.task import Task

SIZES = {
    "quick": {"per_class": 50, "trainings": 5},
    "default": {"per_class": 200, "trainings": 10},
    "paper": {"per_class": 1_000, "trainings": 50},
}
STARTS = {"good": 0.0, "bad": 200.0}  # weight across the line between the classes, either sign
JITTER = 1e-2  # standard deviation of what is added to all weights of a start
STEPS, RATE = 2_000, 1.0  # of gradient descent on the mean cross-entropy
TRAINING_POINTS, TEST_POINTS = 1_000, 5_000  # for each training
HALF_DISTANCE = 0.5  # between the means of the classes
ROBUST = 0.5  # of that distance: at least that is robust
BRITTLE = 0.5  # of the optimum's mean radius: at most that is brittle
CLOSE = 0.1  # of the symmetric data's mean radius: at most that is brittle data
ACCURATE = 0.99


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
        x: Points of each training.
        y: Their labels, 0 or 1.
        start: Weights and, last, bias: class 1 is decided where w·x + b > 0.
        steps: How many.
        rate: Of learning.

    Returns:
        Weights and bias of each training at the end.
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
    """The distance of each point to each linear boundary; negative where decided wrongly."""
    weights, bias = parameters[:, :2], parameters[:, 2:]
    heights = (weights @ x.mT + bias) / weights.norm(dim=1, keepdim=True)
    return torch.where(y == 1, heights, -heights)


def study_data(*, variant: str, per_class: int, sample_seed: int, seed: int) -> Result:
    """The optimum's radii on one of the tasks.

    Returns:
        Tensors: samples "x" (n, 2) and "y", and the bracket "lower" and "upper" (n,), NaN where
        the optimum decides wrongly.
    """
    task = line_tasks()[variant]
    y = torch.arange(task.classes).repeat_interleave(per_class)
    x, _ = task.sample_given(y, seed=seed_of(sample_seed, seed))
    found = certify(task, x, y)
    ends = {"lower": found.lower, "upper": found.upper}
    radii = {name: torch.where(found.correct, end, torch.nan) for name, end in ends.items()}
    return Result({"x": x.flatten(1), "y": y, **radii})


def study_training(
    data: Result, *, start: float, trainings: int, sample_seed: int, seed: int
) -> Result:
    """Gradient descent on the symmetric task from one of the starts, several times.

    Each training has samples and a start of its own.

    Args:
        data: What `study_data` found; distances are measured at its points.
        start: The weight across the line between the classes; its sign is random.
        trainings: How many.
        sample_seed: Of the run.
        seed: Of the stage.

    Returns:
        As tensors, "start" and "parameters" (trainings, 3), and "distance" (trainings, n), NaN
        where a classifier decides wrongly; as values, of each training's own fresh samples, the
        number "images" and how many are "correct".
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


def stages(setting: Setting) -> dict[str, Stage]:
    """The two tasks, and the trainings from either start."""
    size: Mapping[str, Any] = SIZES[setting.scale]
    draw = {"sample_seed": seed_of("fig5", setting.seed)}
    found = {
        variant: Stage(
            "line",
            study_data,
            {"variant": variant, "per_class": size["per_class"], **draw},
            label=f"figure 5, {variant}",
        )
        for variant in line_tasks()
    }
    data = {"data": found["symmetric"]}
    for name, start in STARTS.items():
        settings = {"start": start, "trainings": size["trainings"], **draw}
        label = f"figure 5, from a {name} start"
        found[name] = Stage("line-training", study_training, settings, data, label)
    return found


def relative(found: Mapping[str, Result], start: str) -> Interval:
    """Mean distance to the learned boundary over the optimum's mean certified lower bound."""
    lower = found["symmetric"].tensors["lower"]
    return ratio_with_interval(found[start].tensors["distance"], lower[None])


def accuracy(found: Mapping[str, Result], start: str) -> Interval:
    """Over all trainings from a start."""
    values = found[start].values
    return share_with_interval(values["correct"], values["images"])


def asymmetric_ratio(found: Mapping[str, Result]) -> Interval:
    """Class 1's mean upper bound on asymmetric data over its lower one on symmetric data."""
    sides = []
    for variant, end in (("asymmetric", "upper"), ("symmetric", "lower")):
        tensors = found[variant].tensors
        sides.append(mean_with_interval(tensors[end][tensors["y"] == 0][None]))
    return quotient(*sides)


def claims(found: Mapping[str, Result]) -> list[Claim]:
    """Both halves of the figure."""
    lower = found["symmetric"].tensors["lower"][None] / HALF_DISTANCE
    trainings = len(found["bad"].tensors["parameters"])
    good = relative(found, "good")
    remarks = []
    if None not in good:
        remarks.append(
            "From a start at 0 the same descent on the same kind of samples reaches "
            f"{good[0]:.2f} of the optimum's mean radius ({good[1]:.2f} – {good[2]:.2f}): it is "
            "the start that makes the difference."
        )
    return [
        Claim(
            "brittle data",
            "Where the data are asymmetric, the optimum itself is brittle.",
            "a brittle learned classifier is then no surprise (section 4, figure 5 left)",
            f"class 1's mean upper bound at most {CLOSE:g} of its mean certified lower bound on "
            "the symmetric data; the interval is from the ends of both means' intervals, so it is "
            "wider than 95 %",
            [
                Number(
                    "mean radius, asymmetric over symmetric",
                    *asymmetric_ratio(found),
                    at_most=CLOSE,
                )
            ],
        ),
        Claim(
            "brittle learning",
            "Where the data are symmetric and the optimum is robust, gradient descent from a bad "
            "start still finds a classifier that is accurate and brittle.",
            "the data distribution is not to blame, the learning method is (section 4, figure 5 "
            "right)",
            f"mean certified lower bound of the optimum at least {ROBUST:g} of half the distance "
            f"between the classes; learned classifiers' accuracy at least {ACCURATE:g}, and their "
            f"mean distance at most {BRITTLE:g} of the optimum's mean lower bound",
            [
                Number("optimum", *mean_with_interval(lower), at_least=ROBUST),
                Number(
                    "accuracy from a bad start",
                    *accuracy(found, "bad"),
                    at_least=ACCURATE,
                    trainings=trainings,
                ),
                Number(
                    "distance from a bad start over the optimum's",
                    *relative(found, "bad"),
                    at_most=BRITTLE,
                    trainings=trainings,
                ),
            ],
            remarks,
        ),
    ]


EXHIBIT = Exhibit(
    name="fig5",
    title="Brittle because of the data, or because of the learning",
    needs="nothing but the package",
    stages=stages,
    claims=claims,
)
