"""CelebA's faces as a source: they may not be handed on, so that a copy must be given."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from bayesgap.densities.fitting import QUANTISATION_VARIANCE
from bayesgap.errors import BayesgapError
from bayesgap.images.celeba import (
    ATTRIBUTES,
    CelebA,
    attribute_of,
    class_names,
    open_celeba,
    task_name,
)
from bayesgap.images.source import Part, Recipe, Source

IMAGES_A_COMPONENT = 1_000  # appendix B.1
Split = Literal["train", "validation", "test"]
SPLITS: dict[str, Split] = {"training": "train", "validation": "validation", "test": "test"}


def components_for(faces: int) -> int:
    """How many components a class of so many faces gets (appendix B.1)."""
    return max(1, round(faces / IMAGES_A_COMPONENT))


@dataclass(frozen=True)
class Faces(Source):
    """Tasks of the paper's twelve attributes, such as "celeba-male"; "celeba" means all twelve.

    Attributes:
        folder: A copy of CelebA; None where none is at hand.
    """

    folder: str | None = field(default=None, metadata={"place": True})

    name = "celeba"
    what = "faces"
    sizes = "faces"
    publishable = False
    needs = "your copy of CelebA with --celeba"
    recipe = Recipe(
        components=components_for,
        latent=10,
        floors=(QUANTISATION_VARIANCE,),  # which faces do not reach
        settings={},
        on_levels=True,
        held_out=1_000,
    )

    @property
    def at_hand(self) -> bool:
        """Whether a copy was given."""
        return self.folder is not None

    @cached_property
    def copy(self) -> CelebA:
        """The copy, decoded.

        Raises:
            BayesgapError: none was given, or it cannot be read.
        """
        if self.folder is None:
            raise BayesgapError(f"There are no faces at hand: give {self.needs}.")
        return open_celeba(self.folder)

    @property
    def checksum(self) -> str:
        """The hash of the copy's faces and attributes."""
        return self.copy.checksum

    def __getstate__(self) -> dict[str, Any]:
        """Workers open the copy themselves; its decoded faces are a file that they map."""
        return {"folder": self.folder}

    def names(self, name: str) -> list[str]:
        """One of the paper's attributes, or all of them."""
        if name == self.name:
            return [task_name(attribute) for attribute in ATTRIBUTES]
        return [task_name(attribute_of(name))]

    def class_names(self, task: str) -> list[str]:
        """What the attribute's absence and presence are called."""
        return list(class_names(attribute_of(task)))

    def describe(self, task: str) -> dict[str, Any]:
        """The attribute."""
        return {"attribute": attribute_of(task)}

    def parts(self, task: str, limit: int | None = None) -> dict[str, Part]:
        """CelebA's own three parts, of the faces that the copy holds."""
        return {part: self._split(task, split, limit) for part, split in SPLITS.items()}

    def for_fitting(self, task: str, limit: int | None = None) -> Part:
        """The training part."""
        return self._split(task, "train", limit)

    def _split(self, task: str, split: Split, limit: int | None) -> Part:
        rows, y = self.copy.select(attribute_of(task), split=split, limit=limit)
        return self.copy.images[rows], y
