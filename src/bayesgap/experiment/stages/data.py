"""Stages that make data: tasks, real images, and the points that classifiers are attacked at.

Training and test images are drawn again wherever they are needed: they follow from the task and
a seed faster than a file could be read. Every classifier of one replicate is trained on the same
images, and all are attacked at the same points. What holds of a task's samples holds of real
images too, except that there is no optimum, and that replicates share none of the images: each
has a `fold` of them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.errors import BayesgapError
from bayesgap.images.source import ONE_FOLD, PARTS, RealImages, Source
from bayesgap.runs.stage import seed_of
from bayesgap.runs.store import Result
from bayesgap.tasks.catalog import VARIANTS, known_tasks
from bayesgap.tasks.symmetry import NOISE_STD, symmetric
from bayesgap.tasks.task import Task

Data = Task | RealImages
Load = Callable[[Result, Data], nn.Module]  # a classifier, of what is stored of it and its data
REAL_KIND = "real"  # what a stored result of real images says that it is


def make_task(
    *,
    name: str,
    version: int,
    sha256: str,
    seed: int,
    noise_multiple: int | None = None,
    folder: str | None = None,
) -> Result:
    """Load a task by name; its checksum stands among the settings, so in the key.

    Args:
        name: The task's name with its variant.
        version: The version of its fit.
        sha256: The checksum of its file, in hexadecimal.
        seed: Not used: nothing is drawn.
        noise_multiple: Replaces the symmetric variant's noise by so many times the paper's.
        folder: The folder of the user's own tasks, where it is one of these.

    Raises:
        BayesgapError: the file is not the one that was meant when the run was planned.
    """
    base, _, variant = name.partition("/")
    versions = known_tasks(Path(folder) if folder else None).get(base, [])
    chosen = [one for one in versions if one.version == version]
    if not chosen or chosen[0].sha256 != sha256:
        raise BayesgapError(f"The catalogue's {base} version {version} changed during the run.")
    task = chosen[0].load()
    if noise_multiple is None:
        task = VARIANTS[variant](task)
    else:
        task = symmetric(task, noise_std=noise_multiple * NOISE_STD)
    return Result(*task.to_tensors())


def read_real(*, name: str, limit: int, checksum: str, source: Source, seed: int) -> Result:
    """The real images of a task's classes.

    Args:
        name: The task's name, such as "mnist-0-6".
        limit: The largest number of images of each class in each part.
        checksum: The source's checksum, which stands for its images in the stage's key.
        source: Where the images come from.
        seed: Not used: the first images are taken.

    Raises:
        BayesgapError: no such images, or they changed since the run was planned.
    """
    if source.checksum != checksum:
        raise BayesgapError(f"The {source.what} at hand changed during the run: start it again.")
    tensors: dict[str, Tensor] = {}
    for part, (x, y) in source.parts(name, limit).items():
        tensors |= {f"{part}.x": x, f"{part}.y": y}
    return Result(tensors, {"kind": REAL_KIND, "name": name})


def as_task(result: Result) -> Task:
    """The task that `make_task` stored."""
    return Task.from_tensors(result.tensors, result.values, source="the stored task")


def as_data(result: Result) -> Data:
    """What a data stage stored: a task, or real images."""
    if result.values.get("kind") != REAL_KIND:
        return as_task(result)
    tensors = result.tensors
    return RealImages({part: (tensors[f"{part}.x"], tensors[f"{part}.y"]) for part in PARTS})


def draw(
    data: Data, part: str, n: int, *, seed: int, fold: Sequence[int] = ONE_FOLD
) -> tuple[Float[Tensor, "n C H W"], Int[Tensor, " n"]]:
    """Draw images and labels for one purpose.

    Args:
        data: The task or real images to draw from; a task has as many as are asked for, in one
            fold.
        part: The one of `PARTS` that the images are for.
        n: How many images to draw.
        seed: Seed of the random generator that draws.
        fold: Which of how many draws this is, as `RealImages.sample` takes it.
    """
    if isinstance(data, Task):
        return data.sample(n, seed=seed)
    return data.sample(n, seed=seed, part=part, fold=fold)


def draw_points(
    task: Result, *, per_class: int, sample_seed: int, seed: int, drawn_as: int | None = None
) -> Result:
    """The points that all classifiers are attacked at: equally many of each class, in turn.

    Args:
        task: The stored task or real images; of real images, points are of the test part.
        per_class: How many points of each class to draw.
        sample_seed: The seed of the run's points.
        seed: The stage's seed.
        drawn_as: The seed of another stage whose points these shall follow.

    Returns:
        Tensors: images "x" (n, C, H, W), labels "y" (n,), "outlier" (n,), whether a point was
        drawn from an outlier component, and "own_side" (n,), whether the outlier of its own class
        is at least as likely there as any other class's: there the way to another decision is
        longer.
    """
    known = as_data(task)
    seed = seed_of(sample_seed, seed if drawn_as is None else drawn_as)
    if isinstance(known, RealImages):
        x, y = known.sample(per_class * known.classes, seed=seed, part="test")
        order = torch.stack([(y == label).nonzero().flatten() for label in range(known.classes)])
        x, y = x[order.mT.flatten()], y[order.mT.flatten()]
        nowhere = torch.zeros(len(y), dtype=torch.bool)
        return Result({"x": x, "y": y, "outlier": nowhere, "own_side": ~nowhere})
    y = torch.arange(known.classes).repeat(per_class)
    x, outlier = known.sample_given(y, seed=seed)
    own_side = torch.ones_like(outlier)
    if known.outliers is not None:
        scores = torch.stack(
            [
                density.component_log_prob(x.flatten(1))[:, component] + prior.log()
                for density, component, prior in zip(
                    known.mixtures, known.outliers, known.priors, strict=True
                )
            ],
            dim=1,
        )
        own_side = scores.argmax(dim=1) == y
    return Result({"x": x, "y": y, "outlier": outlier, "own_side": own_side})
