"""MNIST's digits as a source: they travel with the package."""

import re
from dataclasses import dataclass
from typing import Any, Literal

import torch

from bayesgap.densities.fitting import QUANTISATION_VARIANCE
from bayesgap.errors import BayesgapError
from bayesgap.images.mnist import load_mnist, mnist_checksum
from bayesgap.images.source import LEVELS, Part, Recipe, Source, first_of_each

NAME = re.compile(r"mnist(-(0|[1-9]\d*))+", re.ASCII)  # so that each task has one name
VALIDATION = 6  # every sixth of MNIST's training digits, as it has no validation part


@dataclass(frozen=True)
class Digits(Source):
    """Tasks such as "mnist-0-6"; the order of the digits gives the labels."""

    name = "mnist"
    what = "digits"
    sizes = "digits"
    publishable = True
    recipe = Recipe(
        components=lambda images: 25,
        latent=6,
        floors=tuple(QUANTISATION_VARIANCE * 4**k for k in range(5)),
        settings={"dtype": torch.float64, "tolerance": 1e-6, "max_iterations": 500},
        on_levels=False,
    )

    @property
    def at_hand(self) -> bool:
        """Always: they travel with the package."""
        return True

    @property
    def checksum(self) -> str:
        """SHA-256 of the package's file of digits."""
        return mnist_checksum()

    def names(self, name: str) -> list[str]:
        """The task itself, of two or more digits."""
        if not NAME.fullmatch(name):
            raise BayesgapError(f"Tasks of digits are named mnist-DIGIT-DIGIT; got {name!r}.")
        digits = self.digits(name)
        if len(digits) < 2 or len(set(digits)) < len(digits) or max(digits) > 9:
            raise BayesgapError(f"A task needs 2 or more different digits; got {digits}.")
        return [name]

    def digits(self, task: str) -> list[int]:
        """The digits of a task, in the order of its labels."""
        return [int(digit) for digit in task.split("-")[1:]]

    def class_names(self, task: str) -> list[str]:
        """Such as "digit 0"."""
        return [f"digit {digit}" for digit in self.digits(task)]

    def describe(self, task: str) -> dict[str, Any]:
        """The digits."""
        return {"digits": self.digits(task)}

    def parts(self, task: str, limit: int | None = None) -> dict[str, Part]:
        """MNIST's test digits, and its training digits, every sixth of them for validation."""
        x, y = self._split(task, "train")
        held_out = torch.arange(len(x)) % VALIDATION == 0
        parts = {
            "training": (x[~held_out], y[~held_out]),
            "validation": (x[held_out], y[held_out]),
            "test": self._split(task, "test"),
        }
        return {name: first_of_each(part, limit) for name, part in parts.items()}

    def for_fitting(self, task: str, limit: int | None = None) -> Part:
        """All of MNIST's training digits of the classes."""
        return first_of_each(self._split(task, "train"), limit)

    def _split(self, task: str, split: Literal["train", "test"]) -> Part:
        x, y = load_mnist(self.digits(task), split=split)
        return (x * LEVELS).round().to(torch.uint8), y
