"""A source of images: a bright square on the left or on the right."""

from dataclasses import dataclass

import torch

from bayesgap.images.source import PARTS, Recipe, Source, first_of_each

IMAGES = 300


@dataclass(frozen=True)
class Squares(Source):
    """The one task is "squares-left-right"."""

    name = "squares"
    what = "squares"
    sizes = "digits"
    publishable = True
    recipe = Recipe(
        components=lambda images: 2, latent=1, floors=(1e-3,), settings={}, on_levels=True
    )
    at_hand = True
    checksum = "drawn"

    def names(self, name):
        return [name]

    def class_names(self, task):
        return task.split("-")[1:]

    def describe(self, task):
        return {}

    def parts(self, task, limit=None):
        return {part: first_of_each(drawn(seed), limit) for seed, part in enumerate(PARTS)}


def drawn(seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(IMAGES) % 2
    x = torch.randint(60, (IMAGES, 1, 8, 8), generator=generator, dtype=torch.uint8)
    x[y == 0, :, 2:6, :4] += 150
    x[y == 1, :, 2:6, 4:] += 150
    return x, y
