"""SuperDeepFool: DeepFool to the boundary's far side, then projection onto the boundary's normal.

From Abdolahpourrostam, Abroshan and Moosavi-Dezfooli, "Revisiting DeepFool: generalization and
improvement" (2023): its SDF(∞, 1), without clipping to a box.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.attacks.boundary import (
    SAFETY,
    TINY,
    bisect,
    by_image,
    gaps,
    norms,
    settled,
)
from bayesgap.classifiers.module import called, gradient_of
from bayesgap.errors import BayesgapError

ROUNDS = 20  # of DeepFool and projection, at most; most images take 2 to 5
SMALLEST_GAIN = 1e-3  # an image whose round gets it nearer by a smaller share is finished


class SuperDeepFool(Attack):
    """DeepFool, again and again from its own end's projection onto the boundary's normal.

    DeepFool (Moosavi-Dezfooli et al., 2016) crosses the boundary at some point z. There the
    boundary's normal is w, the gradient of the margin; the nearest point of the plane through z is
    x + (z − x)ᵀw / ‖w‖² · w. From it the next round starts, until none gets nearer: at a nearest
    point of the boundary z − x is along w.

    Two things are not in the paper's algorithm. The crossing is found by bisection before its
    normal is asked for, as the authors' code does: where the boundary bends, a normal beyond it
    misleads. And a projection that is a success is not the end, but projected again.
    """

    name = "superdeepfool"

    def __init__(
        self,
        steps: int = 50,
        *,
        overshoot: float = 0.02,
        candidates: int = 10,
        bisections: int = 12,
    ):
        """Hold the settings.

        Args:
            steps: The largest number of steps of each DeepFool.
            overshoot: How far beyond a linearised boundary to step, as a share of the step.
            candidates: How many other classes DeepFool considers, those of the largest logits;
                each takes a gradient a step.
            bisections: How often to halve the segment from an image to each far side.

        Raises:
            BayesgapError: no steps or candidates, or an overshoot or bisections below 0.
        """
        if steps < 1 or candidates < 1 or not overshoot >= 0 or bisections < 0:
            raise BayesgapError(
                "SuperDeepFool needs a step and a candidate or more, and no overshoot or "
                f"bisections below 0; got {steps}, {candidates}, {overshoot} and {bisections}."
            )
        self.steps = steps
        self.overshoot = overshoot
        self.candidates = candidates
        self.bisections = bisections

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """The nearest crossing of all rounds for each image.

        Args:
            classifier: The classifier to attack, with gradients.
            x: The images.
            y: The decision on each image.

        Raises:
            BayesgapError: the classifier has no gradient.
        """
        start, best = x.clone(), x.clone()
        nearest = torch.full_like(norms(x), torch.inf)
        rows = torch.arange(len(x), device=x.device)
        for _ in range(ROUNDS):
            far = self._deepfool(classifier, start[rows], y[rows])
            z = bisect(gaps(classifier, y[rows]), x[rows], far, self.bisections)
            success, _, normal = _nearest_boundary(classifier, z, y[rows], candidates=1)
            size = norms(z - x[rows]).masked_fill(~success, torch.inf)
            gained = size < (1 - SMALLEST_GAIN) * nearest[rows]
            better = size < nearest[rows]
            best[rows] = torch.where(by_image(better), z, best[rows])
            nearest[rows] = torch.where(better, size, nearest[rows])
            along = ((z - x[rows]) * normal).flatten(1).sum(dim=1)
            start[rows] = x[rows] + by_image(along) * normal
            rows = rows[gained]
            if not len(rows):
                break
        return settled(gaps(classifier, y), x, best, bisections=0)

    def _deepfool(
        self, classifier: nn.Module, start: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Step from boundary to linearised boundary until each point lies beyond one."""
        z = start.clone()
        # Of a point that lies nearly on the boundary, a shorter step would be rounded away.
        rounding = SAFETY * torch.finfo(z.dtype).eps * (1 + norms(z))
        rows = torch.arange(len(z), device=z.device)
        for _ in range(self.steps):
            success, distance, normal = _nearest_boundary(
                classifier, z[rows], y[rows], candidates=self.candidates
            )
            # Where gradients vanish there is no boundary to step to.
            going = ~success & distance.isfinite()
            rows, distance, normal = rows[going], distance[going], normal[going]
            if not len(rows):
                break
            step = (1 + self.overshoot) * distance + rounding[rows]
            z[rows] = z[rows] - by_image(step) * normal
        return z


def _nearest_boundary(
    classifier: nn.Module,
    z: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    *,
    candidates: int,
) -> tuple[Bool[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, "n C H W"]]:
    """The nearest of the linearised boundaries between y and the likeliest other classes.

    Args:
        classifier: The classifier, with gradients.
        z: The points.
        y: The class whose boundaries are meant, for each point.
        candidates: How many other classes to consider, those of the largest logits.

    Returns:
        Whether each point is decided otherwise than y; its distance, negative beyond the boundary
        and infinite where no gradient tells it; and the boundary's unit normal, which points
        towards y, or zeros.

    Raises:
        BayesgapError: the classifier has no gradient.
    """
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        # A copy, for a forward may change its input in place.
        logits = called(classifier, z.clone()).to(z.dtype)
        own = torch.nn.functional.one_hot(y, logits.shape[1]).bool()
        others = logits.masked_fill(own, -torch.inf)
        largest = others.topk(min(candidates, logits.shape[1] - 1)).values
        margins = logits[own][:, None] - largest
    distance, normal = torch.full_like(norms(z.detach()), torch.inf), torch.zeros_like(z)
    for margin in margins.unbind(dim=1):
        gradient = gradient_of(margin, z, again=True)
        slope = norms(gradient)
        reach = margin.detach() / slope
        nearer = (reach < distance) & (slope > TINY)
        distance = torch.where(nearer, reach, distance)
        unit = gradient / by_image(slope.clamp(min=TINY))
        normal = torch.where(by_image(nearer), unit, normal)
    # Not by the margin: where it is 0, the first of the largest logits decides.
    success = (logits.argmax(dim=1) != y) & logits.isfinite().all(dim=1)
    return success, distance, normal
