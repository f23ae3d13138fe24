"""Figure 3: one extremely predictive feature makes the optimum brittle.

The paper shows a face with a mole: all images of one class have it, few of the other. No
photograph is needed to show the same: here a few pixels of a task of digits are the mole. Under
class 1 they are bright with hardly any variance, under class 2 they are dark with a large one;
all else is the task of appendix D.2, whose noise is 50 times that of the others, so that no other
feature is nearly as predictive. Pixels, brightness and both deviations are ours.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bayesgap.classifiers.module import decisions
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.statistics import (
    binomial_interval,
    mean_with_interval,
    ratio_with_interval,
)
from bayesgap.paper.claim import Claim, Number
from bayesgap.paper.exhibit import Exhibit, Setting
from bayesgap.paper.experiment import as_task
from bayesgap.paper.jobs import NOISY, data_stage
from bayesgap.radius.certify import certify
from bayesgap.runs.stage import Stage, seed_of
from bayesgap.runs.store import Result
from bayesgap.tasks.task import Task

TASK = "mnist-0-6"
SIZES = {
    "quick": {"per_class": 20, "images": 1_000},
    "default": {"per_class": 50, "images": 10_000},
    "paper": {"per_class": 200, "images": 10_000},
}
ROWS, COLUMNS = (4, 5), (22, 23)  # of the mole: upper right, where digits hardly come
BRIGHT = 1.0  # its mean under class 1, in pixel units; under class 2 it is 0
SURE = 1e-3  # its standard deviation under class 1
UNSURE = 0.3  # and under class 2
FADES = tuple(k / 200 for k in range(21))  # shares of the mole's brightness that are taken away
SHOWN = 4  # images of class 1 that are kept for a picture
VARIANTS = ("mole", "plain")
BRITTLE = 0.1  # of the mean radius without the mole: at most that is brittle
IN_THE_MOLE = 0.9  # of the squared change: at least that is a change of just that feature
ACCURATE = 0.99


def mole_pixels(task: Task) -> list[int]:
    """The indices of the mole's pixels in a flattened image.

    Raises:
        BayesgapError: the task's images are too small for it, or not grey.
    """
    channels, height, width = task.image_shape
    if channels != 1 or height <= max(ROWS) or width <= max(COLUMNS):
        raise BayesgapError(
            f"The mole is at rows {ROWS} and columns {COLUMNS} of grey images; those of "
            f"{task.name} have shape {task.image_shape}."
        )
    return [row * width + column for row in ROWS for column in COLUMNS]


def with_mole(task: Task) -> Task:
    """The task with a mole: in all components its pixels are independent of all others.

    Under class 1 they are N(BRIGHT, SURE²), under every other class N(0, UNSURE²).

    Raises:
        BayesgapError: the task's images have no place for it.
    """
    pixels = mole_pixels(task)
    densities = []
    for label, density in enumerate(task.densities):
        means, factors, noise = (
            getattr(density, name).clone() for name in ("means", "factors", "noise")
        )
        means[:, pixels] = BRIGHT if label == 0 else 0.0
        factors[:, pixels] = 0
        noise[:, pixels] = (SURE if label == 0 else UNSURE) ** 2
        densities.append(MixtureOfFactorAnalyzers(density.weights, means, factors, noise))
    return Task(
        densities,
        image_shape=task.image_shape,
        priors=task.priors.tolist(),
        class_names=task.class_names,
        name=f"{task.name} with a mole",
    )


def study_mole(task: Result, *, per_class: int, images: int, sample_seed: int, seed: int) -> Result:
    """Radii with the mole and without it, and what erasing it does to the log posterior odds.

    Args:
        task: Without the mole.
        per_class: Points of each class; but for the mole they are the same in both variants.
        images: Samples for the optimum's accuracy.
        sample_seed: Of the run.
        seed: Of the stage.

    Returns:
        As tensors, "y" and, for each of `VARIANTS`, "lower" and "upper" (n,), in pixel units, NaN
        for points that are not decided correctly, "in mole" (n,), the mole's share of the squared
        smallest change, and the first "images" of class 1 and the nearest "changed" ones that
        are decided otherwise; and "odds" (points of class 1, fades + 1), the log posterior odds
        of class 1 in nats as the mole is erased by each of `FADES` and wholly, and "density",
        the same of log p(x given class 1). As values, how many of the "images" are "correct".
    """
    plain = as_task(task)
    known = {"mole": with_mole(plain), "plain": plain}
    pixels = mole_pixels(plain)
    y = torch.arange(plain.classes).repeat_interleave(per_class)
    tensors, values = {"y": y}, {}
    for name, variant in known.items():
        x, _ = variant.sample_given(y, seed=seed_of(sample_seed, seed))
        found = certify(variant, x, y)
        squares = (found.images - x).flatten(1).square()
        part = squares[:, pixels].sum(dim=1) / squares.sum(dim=1)
        measured = {"lower": found.lower, "upper": found.upper, "in mole": part}
        tensors |= {
            f"{name}/{key}": torch.where(found.correct, value, torch.nan)
            for key, value in measured.items()
        }
        first = (found.correct & (y == 0)).nonzero().flatten()[:SHOWN]
        tensors |= {f"{name}/images": x[first], f"{name}/changed": found.images[first]}
        fresh, truth = variant.sample(images, seed=seed_of("accuracy", seed))
        decided = decisions(variant.bayes_classifier(temperature=1.0), fresh)
        values[name] = {"images": images, "correct": int((decided == truth).sum())}
        if name == "mole":
            own = x[y == 0]
            tensors |= dict(zip(("odds", "density"), _erased(variant, own, pixels), strict=True))
    return Result(tensors, values)


def _erased(
    task: Task, x: Float[Tensor, "n C H W"], pixels: Sequence[int]
) -> tuple[Float[Tensor, "n fades"], Float[Tensor, "n fades"]]:
    odds, density = [], []
    for fade in (*FADES, 1.0):
        faded = x.flatten(1).clone()
        faded[:, pixels] *= 1 - fade
        posterior = task.log_posterior(faded.reshape(x.shape))
        odds.append(posterior[:, 0] - posterior[:, 1:].logsumexp(dim=1))
        density.append(task.densities[0].log_prob(faded))
    return torch.stack(odds, dim=1), torch.stack(density, dim=1)


def stages(setting: Setting) -> dict[str, Stage]:
    """The one stage, on the released task with the noise of appendix D.2."""
    settings = {**SIZES[setting.scale], "sample_seed": seed_of("fig3", setting.seed)}
    task = data_stage(setting, TASK, NOISY)
    return {"mole": Stage("mole", study_mole, settings, {"task": task}, "figure 3")}


def of_class(result: Result, name: str, label: int = 0) -> Float[Tensor, "1 n"]:
    """A tensor's values at the points of one class, as one row for the intervals."""
    return result.tensors[name][result.tensors["y"] == label][None]


def claims(found: Mapping[str, Result]) -> list[Claim]:
    """What figure 3 is to explain."""
    result = found["mole"]
    ratio = ratio_with_interval(of_class(result, "mole/upper"), of_class(result, "plain/lower"))
    share = mean_with_interval(of_class(result, "mole/in mole"))
    counts = result.values["mole"]
    accuracy = counts["correct"] / counts["images"]
    accurate = binomial_interval(counts["correct"], counts["images"])
    return [
        Claim(
            "one predictive feature: brittle",
            "One feature that all samples of a class share, and hardly any of the other, gets so "
            "large a weight that changing it alone alters the optimum's decision, although that "
            "is nearly always right.",
            "a tiny change, erasing a mole, drastically changes the optimum's output; unseen "
            "images have it too, so that the weight does not hurt generalization (section 2, "
            "figure 3)",
            f"class with the mole: mean upper bound at most {BRITTLE:g} of the mean certified "
            f"lower bound without it, mean share of the squared change in the mole at least "
            f"{IN_THE_MOLE:g}; accuracy with the mole at least {ACCURATE:g}",
            [
                Number("mean radius, with over without mole", *ratio, at_most=BRITTLE),
                Number("share of the change in the mole", *share, at_least=IN_THE_MOLE),
                Number("accuracy with the mole", accuracy, *accurate, at_least=ACCURATE),
            ],
        )
    ]


EXHIBIT = Exhibit(
    name="fig3",
    title="One extremely predictive feature makes the optimum brittle",
    needs="nothing but the package",
    stages=stages,
    claims=claims,
)
