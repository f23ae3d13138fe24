"""Real images beside the samples of a task: what classifiers learn from and are tested on.

Classes are balanced, as the tasks' priors are equal. The three parts share no image: classifiers
learn from the training part, widths and gammas are chosen on the validation part, and accuracies
and attacks are of the test part.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap.errors import BayesgapError
from bayesgap.images.celeba import attribute_of, open_celeba
from bayesgap.images.mnist import load_mnist, mnist_checksum
from bayesgap.runs.store import Result
from bayesgap.tasks.task import Task

PARTS = ("training", "validation", "test")
LEVELS = 255  # of 8 bits
ONE_FOLD = (0, 1)
MNIST_VALIDATION = 6  # every sixth of MNIST's training digits, as it has no validation part


class RealImages:
    """Real images of the classes of a task, in three parts, drawn from as a task is sampled."""

    def __init__(self, parts: Mapping[str, tuple[Tensor, Tensor]]):
        """Hold the images.

        Args:
            parts: For each of `PARTS`, uint8 images (n, C, H, W) and labels (n,).
        """
        self.parts = dict(parts)
        x, y = self.parts["training"]
        self.image_shape = tuple(x.shape[1:])
        self.classes = int(y.max()) + 1

    def sample(
        self, n: int, *, seed: int, part: str = "training", fold: Sequence[int] = ONE_FOLD
    ) -> tuple[Float[Tensor, "n C H W"], Int[Tensor, " n"]]:
        """n images, equally many of each class, or all there are; each at most once.

        Args:
            n: How many.
            seed: Of the draw.
            part: One of `PARTS`.
            fold: Which of how many draws: with the same seed and n, those of different folds share
                no image, and each has its part of the smallest class at most.

        Returns:
            float64 images in [0, 1] and int64 labels, in random order.
        """
        x, y = self.parts[part]
        generator = torch.Generator().manual_seed(seed)
        which, folds = fold
        each = self.size(n, part=part, folds=folds) // self.classes
        own = slice(which * each, (which + 1) * each)
        shuffled = torch.randperm(len(y), generator=generator)
        rows = torch.cat([shuffled[y[shuffled] == c][own] for c in range(self.classes)])
        rows = rows[torch.randperm(len(rows), generator=generator)]
        return x[rows].double() / LEVELS, y[rows]

    def size(self, n: int, *, part: str = "training", folds: int = 1) -> int:
        """How many images a draw of n has."""
        _, y = self.parts[part]
        there = int(y.bincount(minlength=self.classes).min())
        return self.classes * min(n // self.classes, there // folds)


def draw(
    data: Task | RealImages, part: str, n: int, *, seed: int, fold: Sequence[int] = ONE_FOLD
) -> tuple[Float[Tensor, "n C H W"], Int[Tensor, " n"]]:
    """Images and labels for one purpose; a task has as many as are asked for, in one fold.

    Args:
        data: What to draw from.
        part: One of `PARTS`.
        n: How many.
        seed: Of the draw.
        fold: As `RealImages.sample` takes it.
    """
    if isinstance(data, Task):
        return data.sample(n, seed=seed)
    return data.sample(n, seed=seed, part=part, fold=fold)


def read_real(*, name: str, limit: int, seed: int, checksum: str, celeba: str = "") -> Result:
    """The real images of a task's classes.

    Args:
        name: Of the task, such as "mnist-0-6" or "celeba-male".
        limit: Images of each class in each part at most.
        seed: Of nothing: the first images are taken.
        checksum: Of MNIST or the copy of CelebA, which stands for it in the stage's key.
        celeba: The folder of that copy.

    Raises:
        BayesgapError: no such images, or the copy changed since the run was planned.
    """
    parts = _faces(name, limit, celeba, checksum) if celeba else _digits(name, limit, checksum)
    tensors = {
        f"{part}.{which}": tensor
        for part, pair in zip(PARTS, parts, strict=True)
        for which, tensor in zip("xy", pair, strict=True)
    }
    return Result(tensors, {"kind": "real", "name": name})


def _digits(name: str, limit: int, checksum: str) -> list[tuple[Tensor, Tensor]]:
    if mnist_checksum() != checksum:
        raise BayesgapError("The package's digits changed during the run: start it again.")
    digits = [int(digit) for digit in name.removeprefix("mnist-").split("-")]
    x, y = load_mnist(digits, split="train")
    held_out = torch.arange(len(x)) % MNIST_VALIDATION == 0
    parts = [(x[~held_out], y[~held_out]), (x[held_out], y[held_out])]
    parts.append(load_mnist(digits, split="test"))
    return [_first((x * LEVELS).round().to(torch.uint8), y, limit) for x, y in parts]


def _faces(name: str, limit: int, folder: str, checksum: str) -> list[tuple[Tensor, Tensor]]:
    copy = open_celeba(folder)
    if copy.checksum != checksum:
        raise BayesgapError(f"The faces in {folder} changed during the run: start it again.")
    attribute = attribute_of(name)
    parts = []
    for split in ("train", "validation", "test"):
        rows, y = copy.select(attribute, split=split, limit=limit)
        parts.append((copy.images[rows], y))
    return parts


def _first(x: Tensor, y: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    firsts = [(y == label).nonzero().flatten()[:limit] for label in y.unique()]
    rows = torch.cat(firsts).sort().values
    return x[rows], y[rows]


def as_data(result: Result) -> Task | RealImages:
    """What a data stage stored: a task, or real images."""
    if result.values.get("kind") != "real":
        return Task.from_tensors(result.tensors, result.values, source="the stored task")
    tensors = result.tensors
    return RealImages({part: (tensors[f"{part}.x"], tensors[f"{part}.y"]) for part in PARTS})
