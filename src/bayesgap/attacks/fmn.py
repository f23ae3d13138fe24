"""FMN: steps of falling length inside a ball whose radius closes in on the boundary's distance.

From algorithm 1, for L2, of Pintor, Roli, Brendel and Biggio, "Fast Minimum-norm Adversarial
Attacks through Adaptive Norm Constraints" (NeurIPS 2021), without its clipping to a box.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.attacks.boundary import (
    SAFETY,
    TINY,
    by_image,
    gaps,
    norms,
    settled,
    value_and_gradient,
)
from bayesgap.classifiers.module import called, margin
from bayesgap.errors import BayesgapError

LAST_STEP = 0.01  # the last step's length, as a share of the first one's
LAST_CHANGE = 0.001  # the share by which the radius changes at last


class FMN(Attack):
    """The fast minimum-norm attack (Pintor et al., 2021).

    Each step goes down the gradient of the margin and is projected onto a ball around the image.
    Until an image's first success the ball reaches as far as the linearised margin says; from
    then on it shrinks by a share at each success and grows by it at each miss. That share and
    the steps' length fall along half a cosine.
    """

    name = "fmn"

    def __init__(self, steps: int = 100, first_step: float = 1.0, first_change: float = 0.05):
        """Hold the settings.

        Args:
            steps: The number of gradients, 2 or more, as the first is that at the image.
            first_step: The length of the first step in pixel units; about steps / 2 times it is
                the farthest that the attack gets.
            first_change: The share by which the ball's radius changes at first.

        Raises:
            BayesgapError: fewer steps, or lengths or shares that are none.
        """
        if steps < 2 or not 0 < first_step < math.inf or not 0 < first_change < 1:
            raise BayesgapError(
                "FMN needs 2 steps or more, a first_step above 0 and a first_change between 0 and "
                f"1; got {steps}, {first_step} and {first_change}."
            )
        self.steps = steps
        self.first_step = first_step
        self.first_change = first_change

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """The nearest success among all iterates of each image.

        Args:
            classifier: The classifier to attack, with gradients.
            x: The images.
            y: The decision on each image.
        """
        z = best = x
        nearest = radius = torch.full_like(norms(x), torch.inf)
        # On an image that lies nearly on the boundary, a shorter step would be rounded away.
        rounding = SAFETY * torch.finfo(x.dtype).eps * (1 + norms(x))
        for step in range(self.steps):
            falling = (1 + math.cos(math.pi * step / self.steps)) / 2
            length = self.first_step * (LAST_STEP + (1 - LAST_STEP) * falling)
            change = LAST_CHANGE + (self.first_change - LAST_CHANGE) * falling
            success, gap, gradient = _look(classifier, z, y)
            size, slope = norms(z - x), norms(gradient).clamp(min=TINY)
            better = success & (size < nearest)
            best = torch.where(by_image(better), z, best)
            nearest = torch.where(better, size, nearest)
            linearised = size + gap / slope + rounding
            missed = torch.where(nearest.isinf(), linearised, (1 + change) * radius)
            radius = torch.where(success, nearest.minimum((1 - change) * radius), missed)
            move = z - x - by_image(length / slope) * gradient
            z = x + by_image((radius / norms(move).clamp(min=TINY)).clamp(max=1.0)) * move
        return settled(gaps(classifier, y), x, best, bisections=0)


def _look(
    classifier: nn.Module, z: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
) -> tuple[Bool[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, "n C H W"]]:
    """Which images are decided otherwise than y, their margins, and these margins' gradients."""
    seen = []

    def gap(images: Tensor) -> Tensor:
        # A copy, for a forward may change its input in place.
        seen.append(called(classifier, images.clone()).to(images.dtype))
        return margin(seen[0], y)

    value, gradient = value_and_gradient(gap, z)
    logits = seen[0]
    # Not by the margin: where it is 0, the first of the largest logits decides.
    success = (logits.argmax(dim=1) != y) & logits.isfinite().all(dim=1)
    return success, value, gradient
