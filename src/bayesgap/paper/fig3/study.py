"""The stage of figure 3: a task with a mole, and radii with it and without it.

The paper shows a face with a mole: all images of one class have it, few of the other. No
photograph is needed to show the same: here a few pixels of a task of digits are the mole. Under
class 1 they are bright with hardly any variance, under class 2 they are dark with a large one;
all else is the task of appendix D.2, whose noise is 50 times that of the others, so that no other
feature is nearly as predictive. Pixels, brightness and both deviations are ours.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bayesgap.classifiers.module import decisions
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError
from bayesgap.experiment.stages.data import as_task
from bayesgap.radius.certify import certify
from bayesgap.runs.stage import seed_of
from bayesgap.runs.store import Result
from bayesgap.tasks.task import Task

ROWS, COLUMNS = (4, 5), (22, 23)  # of the mole: upper right, where digits hardly come
BRIGHT = 1.0  # its mean under class 1, in pixel units; under class 2 it is 0
SURE = 1e-3  # its standard deviation under class 1
UNSURE = 0.3  # and under class 2
FADES = tuple(k / 200 for k in range(21))  # shares of the mole's brightness that are taken away
SHOWN = 4  # images of class 1 that are kept for a picture
VARIANTS = ("mole", "plain")


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
    for label, density in enumerate(task.mixtures):
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
        task: The stored task without the mole.
        per_class: The number of points of each class; but for the mole they are the same in both
            variants.
        images: The number of samples of each variant for the optimum's accuracy.
        sample_seed: The seed of the run's samples.
        seed: The stage's seed.

    Returns:
        As tensors, the classes "y" (n,) of all points; for each of `VARIANTS`, after its name,
        the ends "lower" and "upper" of the radii's brackets (n,), in pixel units, the mole's
        share "in mole" (n,) of the squared smallest change (all NaN for points that are not
        decided correctly), and the first "images" of class 1 with the nearest "changed" ones
        that are decided otherwise; and of class 1, (points, fades + 1), the log posterior "odds"
        and the log "density" given the class, in nats, as the mole is erased by each of `FADES`
        and wholly. As values, for each variant the number of "images" and of "correct" ones.
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
    """Log posterior odds of class 1 and log p given class 1, as the mole is erased from points."""
    odds, density = [], []
    for fade in (*FADES, 1.0):
        faded = x.flatten(1).clone()
        faded[:, pixels] *= 1 - fade
        posterior = task.log_posterior(faded.reshape(x.shape))
        odds.append(posterior[:, 0] - posterior[:, 1:].logsumexp(dim=1))
        density.append(task.densities[0].log_prob(faded))
    return torch.stack(odds, dim=1), torch.stack(density, dim=1)
