"""What an attack of another library sees: images between bounds, and a classifier of such images.

Libraries clip images to bounds, most of them to [0, 1]. Samples of a density are not confined to
[0, 1], so the bounds are the images' own range with a margin, wide enough not to bind; they are
part of an attack's settings. A library that knows [0, 1] alone is given u = (x − low)/(high − low)
and the classifier g(u) = classifier(low + (high − low) u): a smallest L2 in u is one in x.
"""

import math
import random
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack, blaming
from bayesgap.attacks.boundary import by_image, norms
from bayesgap.classifiers.module import called
from bayesgap.errors import BayesgapError
from bayesgap.tasks.bayes import OptimalClassifier

PRECISION = 0.005  # share of the smallest size, within which it is found
SMALLEST = 1e-6  # the size below which none is sought

Within = Callable[[Tensor, Tensor, float], Tensor]  # of images, labels and a size: images


class Box(nn.Module):
    """A classifier as a library sees it, and the way of images there and back.

    Attributes:
        bounds: The smallest and largest value of a pixel that the library may make.
        span: How many pixel units one of the library's units is.
    """

    def __init__(
        self,
        classifier: nn.Module,
        x: Float[Tensor, "n C H W"],
        *,
        margin: float,
        scale: float,
        unit: bool,
        dtype: torch.dtype | None,
    ):
        """Lay the bounds around images.

        Args:
            classifier: The classifier that is attacked.
            x: The images that are attacked, in its dtype.
            margin: How far, in pixel units, the bounds lie beyond the images' own range.
            scale: What logits are multiplied by.
            unit: Whether the library's bounds are 0 and 1; else its units are pixel units.
            dtype: What the library computes in; None means as the classifier does.
        """
        super().__init__()
        low, high = x.min().item() - margin, x.max().item() + margin
        self.classifier = classifier
        self.scale = scale
        self.bounds = (0.0, 1.0) if unit else (low, high)
        self.offset, self.span = (low, high - low) if unit else (0.0, 1.0)
        self.pixels, self.units = x.dtype, dtype or x.dtype

    def inward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n C H W"]:
        """The library's images u of images x."""
        return ((x - self.offset) / self.span).to(self.units).clamp(*self.bounds)

    def outward(self, u: Float[Tensor, "n C H W"]) -> Float[Tensor, "n C H W"]:
        """The images x of the library's images u."""
        return self.offset + self.span * u.to(self.pixels)

    def forward(self, u: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """The logits of the library's images."""
        logits: Tensor = self.scale * called(self.classifier, self.outward(u))
        return logits.to(self.units)


class LibraryAttack(Attack):
    """An attack of another library, called on images in a box; a subclass says how.

    Whatever the library draws follows from a seed of its own, and the global generators of
    torch, NumPy and Python are as before when it is done.

    Attributes:
        unit: Whether the library's bounds are 0 and 1; else its units are pixel units.
        dtype: What the library computes in; None means as the classifier does.
    """

    unit: ClassVar[bool] = True
    dtype: ClassVar[torch.dtype | None] = torch.float32

    def __init__(self, *, name: str, bounds_margin: float, bayes_logit_scale: float):
        """Hold what all have in common.

        Args:
            name: What results call the attack.
            bounds_margin: How far, in pixel units, the bounds lie beyond the images' own range.
            bayes_logit_scale: What a Bayes-optimal classifier's logits are multiplied by, for this
                attack alone: its temperature is ours to choose, and attacks differ in the best.

        Raises:
            BayesgapError: a margin or a scale that is no positive number.
        """
        for what, number in (
            ("bounds_margin", bounds_margin),
            ("bayes_logit_scale", bayes_logit_scale),
        ):
            if not 0 < number < math.inf:
                raise BayesgapError(f"{what} must be a number above 0; got {number!r}.")
        self.name = name
        self.bounds_margin = bounds_margin
        self.bayes_logit_scale = bayes_logit_scale

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Put the images in a box, call the library, and take out what it made of them.

        Args:
            classifier: The classifier to attack.
            x: The images.
            y: The decision on each image.

        Raises:
            BayesgapError: the library's attack failed, or returned no images.
        """
        box = Box(
            classifier,
            x,
            margin=self.bounds_margin,
            scale=self.bayes_logit_scale if isinstance(classifier, OptimalClassifier) else 1.0,
            unit=self.unit,
            dtype=self.dtype,
        )
        box.training = False  # as the classifier is already, which may have no eval of its own
        with lent_generators(x), blaming(self.name):
            found = self.search(box, box.inward(x), y)
        if not isinstance(found, Tensor):
            raise BayesgapError(
                f"The attack {self.name} must return images; it returned a {type(found).__name__}."
            )
        return box.outward(found.to(x.device))

    @abstractmethod
    def search(self, box: Box, u: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]) -> Any:
        """Call the library.

        Args:
            box: The classifier that it attacks.
            u: Images between the box's bounds.
            y: The decision on each image.

        Returns:
            As many images between the bounds.
        """


def nearest_within(
    within: Within,
    box: Box,
    u: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    *,
    first: float,
    last: float,
) -> Float[Tensor, "n C H W"]:
    """The nearest success of an attack that must be told a size, over sizes.

    For each image the size is doubled until the attack succeeds within it, then bisected to half
    a percent. Libraries take one size a call: images whose sizes are the same share a call.

    Args:
        within: The attack, called with images, their decisions and a size.
        box: The classifier that it attacks.
        u: Images between the box's bounds.
        y: The decision on each image.
        first: The size that is tried first.
        last: The size beyond which an image is given up.
    """
    low, nearest = torch.zeros_like(norms(u)), torch.full_like(norms(u), torch.inf)
    high, size, best = nearest.clone(), torch.full_like(nearest, first), u.clone()
    open_ = torch.ones_like(low, dtype=torch.bool)
    while open_.any():
        for one in size[open_].unique().tolist():
            rows = (open_ & (size == one)).nonzero().flatten()
            images = within(u[rows], y[rows], one).detach().to(u)
            with torch.no_grad():
                success = box(images).argmax(dim=1) != y[rows]
            moved = norms(images - u[rows])
            nearer = success & (moved < nearest[rows])
            best[rows] = torch.where(by_image(nearer), images, best[rows])
            nearest[rows] = torch.where(nearer, moved, nearest[rows])
            high[rows] = torch.where(success, one, high[rows])
            low[rows] = torch.where(success, low[rows], one)
        found = (high - low <= PRECISION * high) | (high <= SMALLEST)
        size = torch.where(high.isinf(), 2 * size, (low + high) / 2)
        open_ = torch.where(high.isinf(), low < last, ~found)
    return best


@contextmanager
def lent_generators(x: Tensor) -> Iterator[None]:
    """Lend the global generators, each from seed 0, and take them back as they were.

    Args:
        x: A tensor on the device whose generator is lent with the CPU's.
    """
    arrays, others = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        try:
            yield
        finally:
            np.random.set_state(arrays)  # noqa: NPY002
            random.setstate(others)
