"""A source of images that are drawn, few and small: what tests of fits and of real images share."""

import hashlib
import re
from dataclasses import dataclass, replace

import torch

from bayesgap.errors import BayesgapError
from bayesgap.images.source import PARTS, Recipe, Source, first_of_each

NAME = re.compile(r"blobs-([2-9])")
SHAPE = (1, 8, 8)
PLACES = 8 * torch.arange(8) + 3  # of a class's bright spot


@dataclass(frozen=True)
class Blobs(Source):
    """Tasks such as "blobs-3", of as many classes; "blobs" means those of two and three.

    Attributes:
        seed: What the images follow from.
        count: How many images of each class there are in each part; none are not at hand.
    """

    seed: int = 0
    count: int = 40

    name = "blobs"
    what = "blobs"
    sizes = "digits"
    publishable = True
    needs = "some blobs"
    recipe = Recipe(
        components=lambda images: 2, latent=1, floors=(1e-2, 1e-1), settings={}, on_levels=False
    )

    @property
    def at_hand(self):
        return self.count > 0

    @property
    def checksum(self):
        (x, _) = self.parts("blobs-2")["test"]
        return hashlib.sha256(x.numpy().tobytes()).hexdigest()

    def names(self, name):
        if name == self.name:
            return ["blobs-2", "blobs-3"]
        if not NAME.fullmatch(name):
            raise BayesgapError(f"Tasks of blobs are named blobs-NUMBER; got {name!r}.")
        return [name]

    def class_names(self, task):
        return [f"blob {label}" for label in range(int(task.partition("-")[2]))]

    def describe(self, task):
        return {"blobs": len(self.class_names(task))}

    def parts(self, task, limit=None):
        if not self.at_hand:
            raise BayesgapError(f"There are no blobs at hand: give {self.needs}.")
        classes = len(self.class_names(task))
        return {
            part: first_of_each(self._drawn(place, classes), limit)
            for place, part in enumerate(PARTS)
        }

    def _drawn(self, place, classes):
        generator = torch.Generator().manual_seed(1_000 * self.seed + place)
        y = torch.arange(classes).repeat(self.count)
        x = 20 * torch.randn(len(y), *SHAPE, generator=generator)
        x += 60 + 20 * y[:, None, None, None]  # by which a CNN tells them apart
        x.flatten(1)[torch.arange(len(y)), PLACES[y]] += 100
        return x.round().clamp(0, 255).to(torch.uint8), y


class PrivateBlobs(Blobs):
    """Blobs that may not be published, fitted as they are at one floor."""

    publishable = False
    recipe = replace(Blobs.recipe, floors=(1e-3,), on_levels=True, held_out=7)
