"""Projected gradient descent within an L2 ball, whose radius is sought by bisection."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.attacks.boundary import TINY, by_image, gaps, norms, value_and_gradient

STEP = 2.5  # times radius / steps, as is usual: enough to cross the ball and come back


class PGD(Attack):
    """The largest-budget attack (Madry et al., 2018) made a smallest-perturbation attack.

    For each image the radius is doubled until the ball holds another decision, then bisected.
    Steps follow the gradient of the margin, of which only the direction counts, so that the
    scale of the logits does not matter.
    """

    name = "pgd"

    def __init__(self, steps: int = 40, bisections: int = 10, first: float = 0.1):
        """Hold the settings.

        Args:
            steps: The number of gradients in each ball.
            bisections: The number of balls tried for each image, the doublings not counted.
            first: The radius of the first ball, in pixel units.
        """
        self.steps = steps
        self.bisections = bisections
        self.first = first

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Double, then bisect; the nearest success of each image.

        Args:
            classifier: The classifier to attack, with gradients.
            x: The images.
            y: The decision on each image.
        """
        low, high = torch.zeros_like(norms(x)), torch.full_like(norms(x), torch.inf)
        best, radius = x.clone(), torch.full_like(low, self.first)
        # No image is farther from another decision than a thousand times its own size.
        reach = 1_000 * (norms(x) + self.first)
        bisections = 0
        while bisections < self.bisections:
            z = self._within(classifier, x, y, radius)
            with torch.no_grad():
                success = gaps(classifier, y)(z) < 0
            best = torch.where(by_image(success), z, best)
            high = torch.where(success, norms(z - x).minimum(radius), high)
            low = torch.where(success, low, radius)
            open_ = high.isinf() & (low < reach)
            radius = torch.where(high.isinf(), 2 * radius, (low + high) / 2)
            if not open_.any():
                bisections += 1
        return best

    def _within(
        self,
        classifier: nn.Module,
        x: Float[Tensor, "n C H W"],
        y: Int[Tensor, " n"],
        radius: Float[Tensor, " n"],
    ) -> Float[Tensor, "n C H W"]:
        """Where steps against the margin end, never leaving balls of these radii."""
        z, gap = x, gaps(classifier, y)
        for _ in range(self.steps):
            _, gradient = value_and_gradient(gap, z)
            step = STEP / self.steps * radius / norms(gradient).clamp(min=TINY)
            move = z - by_image(step) * gradient - x
            z = x + by_image((radius / norms(move).clamp(min=TINY)).clamp(max=1.0)) * move
        return z
