"""What a source of real images is: where they come from, and what may be done with them.

A source is one declaration in a file of its own, and a line in `sources`. Its tasks are named
after it: those of "mnist" are "mnist-0-6" and so on. A source may be described while its images
are not at hand, as faces are without a copy of them: what needs images then says what to give.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

PARTS = ("training", "validation", "test")
LEVELS = 255  # of 8 bits
ONE_FOLD = (0, 1)

Part = tuple[UInt8[Tensor, "n C H W"], Int[Tensor, " n"]]


@dataclass(frozen=True)
class Recipe:
    """How the densities of a source's tasks are fitted (appendix B.1).

    Attributes:
        components: The number of components of a class with so many training images.
        latent: The number of factors of each component.
        floors: Floors on the noise variances; of several, the one whose fit to nine tenths of
            the images gives the others the highest likelihood is chosen.
        settings: Further arguments of `fit_em`.
        on_levels: Whether to fit 8-bit levels as they are, a chunk at a time, instead of a copy
            of them as floats.
        held_out: How many test images of each class the fit is measured on; None is all.
    """

    components: Callable[[int], int]
    latent: int
    floors: tuple[float, ...]
    settings: Mapping[str, Any]
    on_levels: bool
    held_out: int | None = None


class Source(ABC):
    """Where the real images of some tasks come from.

    Attributes:
        name: How the names of its tasks begin, before the first "-".
        what: What its images show, in the plural; reports call them that.
        sizes: The key of `experiment.scales.SCALES` under which its tasks' sizes stand.
        publishable: Whether pictures of its images may be published.
        needs: What must be given for its images to be at hand, for messages; "" where nothing.
        recipe: How densities are fitted to its images.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    sizes: ClassVar[str]
    publishable: ClassVar[bool]
    needs: ClassVar[str] = ""
    recipe: ClassVar[Recipe]

    @property
    @abstractmethod
    def at_hand(self) -> bool:
        """Whether there are images to read."""

    @property
    @abstractmethod
    def checksum(self) -> str:
        """A hash of all images, in hexadecimal: results that rest on them depend on it."""

    @abstractmethod
    def names(self, name: str) -> list[str]:
        """The tasks that a name stands for: itself, or several for a name of many.

        Raises:
            BayesgapError: the source has no images for such a task.
        """

    @abstractmethod
    def class_names(self, task: str) -> list[str]:
        """What the classes of a task show, in the order of its labels."""

    @abstractmethod
    def describe(self, task: str) -> dict[str, Any]:
        """What a fit of a task records about the choice of its images, as JSON values."""

    @abstractmethod
    def parts(self, task: str, limit: int | None = None) -> dict[str, Part]:
        """A task's images in the three `PARTS`, which share none.

        Args:
            task: The name of the task.
            limit: The largest number of images of each class in each part; None is no limit.

        Returns:
            For each part, uint8 images (n, C, H, W) and int64 labels (n,), in the order of the
            source.
        """

    def for_fitting(self, task: str, limit: int | None = None) -> Part:
        """The images that a task's densities are fitted to; by default the training part."""
        return self.parts(task, limit)["training"]

    def owns(self, task: str) -> bool:
        """Whether a task's name says that its images come from here."""
        return task.partition("-")[0] == self.name


class RealImages:
    """Real images of the classes of a task, in three parts, drawn from as a task is sampled.

    Classes are balanced, as the tasks' priors are equal. The three parts share no image:
    classifiers learn from the training part, widths and gammas are chosen on the validation part,
    and accuracies and attacks are of the test part.
    """

    def __init__(self, parts: Mapping[str, Part]):
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
        """Draw n images, equally many of each class, or all there are; each at most once.

        Args:
            n: How many images to draw.
            seed: Seed of the random generator that draws.
            part: The one of `PARTS` to draw from.
            fold: Which of how many draws this is: with the same seed and n, those of different
                folds share no image, and each has its part of the smallest class at most.

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


def first_of_each(
    part: Part, limit: int | None
) -> tuple[UInt8[Tensor, "m C H W"], Int[Tensor, " m"]]:
    """The first images of each class, at most `limit` of them, in their order."""
    x, y = part
    if limit is None:
        return part
    firsts = [(y == label).nonzero().flatten()[:limit] for label in y.unique()]
    rows = torch.cat(firsts).sort().values
    return x[rows], y[rows]
