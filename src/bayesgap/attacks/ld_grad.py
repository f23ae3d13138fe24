"""LD-Grad: gradient steps sized to close a difference of log-likelihoods (appendix C.2).

For the optimum of mixtures the difference is that of two Gaussians: the likeliest component of
the own class at the image, and the likeliest of the other classes. For any other classifier, an
RBF SVM above all, it is the margin of the logits; so it is for the optimum of other densities.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.attacks.boundary import (
    TINY,
    Gap,
    by_image,
    norms,
    value_and_gradient,
)
from bayesgap.attacks.boundary_walk import nearest_crossing
from bayesgap.classifiers.module import margin
from bayesgap.tasks.bayes import BayesClassifier

OVERSHOOT = 0.05


class LDGrad(Attack):
    """The paper's attack: a few steps along the gradient, each sized to cross the difference.

    How far to cross, the paper does not say. Steps here aim beyond 0 by a share of the initial
    difference: with 5 %, nine in ten images of a symmetric task flip (table 1: all); with 0.1 %
    a fifth stays, held by another component of its class. What it misses, it misses.
    """

    name = "ld-grad"

    def __init__(self, steps: int = 3, overshoot: float = OVERSHOOT):
        """Hold the settings.

        Args:
            steps: The number of steps along the gradient ("typically 3").
            overshoot: How far beyond 0 to aim, as a share of the initial difference.
        """
        self.steps = steps
        self.overshoot = overshoot

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Follow the gradient of the difference between one source and one target.

        Args:
            classifier: The classifier to attack, with gradients.
            x: The images.
            y: The decision on each image.
        """
        difference = differences(classifier, x, y, targets=1)[0]
        with torch.no_grad():
            beyond = self.overshoot * difference(x).abs()
        z = x
        for _ in range(self.steps):
            value, gradient = value_and_gradient(difference, z)
            length = (value + beyond) / norms(gradient).square().clamp(min=TINY)
            z = z - by_image(length) * gradient
        return z


class TightLDGrad(Attack):
    """LD-Grad made as small as it can be: several targets, minimal-norm steps, a walk.

    For each of the likeliest target components, against the whole own class, the linearised
    problem "nearest point to x with difference 0" is solved anew at each iterate. The end is
    brought onto the classifier's boundary along its ray from x and followed to where that is
    nearest.
    """

    name = "ld-grad-tight"

    def __init__(self, steps: int = 10, targets: int = 5, walk_steps: int = 20):
        """Hold the settings.

        Args:
            steps: The number of iterations towards each target.
            targets: How many target components to try, the likeliest ones.
            walk_steps: The largest number of turns of the walk from each end.
        """
        self.steps = steps
        self.targets = targets
        self.walk_steps = walk_steps

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Walk from the end that each target leads to.

        Args:
            classifier: The classifier to attack, with gradients.
            x: The images.
            y: The decision on each image.
        """
        ends = (
            self._towards(difference, x)
            for difference in differences(classifier, x, y, targets=self.targets, whole_class=True)
        )
        return nearest_crossing(classifier, x, y, ends, self.walk_steps)

    def _towards(self, difference: Gap, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n C H W"]:
        z = x
        for _ in range(self.steps):
            value, gradient = value_and_gradient(difference, z)
            reach = (gradient * (z - x)).flatten(1).sum(dim=1) - value
            z = x + by_image(reach / norms(gradient).square().clamp(min=TINY)) * gradient
        return x + (1 + OVERSHOOT) * (z - x)


def differences(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    *,
    targets: int,
    whole_class: bool = False,
) -> list[Gap]:
    """Functions of the images that are positive at x and change sign where the decision may.

    One for each of the likeliest target components of an optimum that has components, against the
    likeliest component of the own class or against the whole of it; the margin alone for any
    other classifier. The likeliest component alone may be less likely than the target although
    its class wins: there the function is negative at x.

    Args:
        classifier: The classifier to attack.
        x: The images.
        y: The decision on each image.
        targets: How many target components to take, the likeliest ones.
        whole_class: Whether a target is set against the whole own class instead of its likeliest
            component.
    """
    if not isinstance(classifier, BayesClassifier):
        return [lambda z: margin(classifier(z), y)]
    with torch.no_grad():
        source, others = classifier.likeliest_components(x, y, targets)
    foreign = classifier.component_class != y[:, None]

    def towards(target: Int[Tensor, " n"]) -> Gap:
        def difference(z: Tensor) -> Tensor:
            joints = classifier.component_log_joints(z)
            other = joints.gather(1, target[:, None]).squeeze(1)
            if whole_class:
                return joints.masked_fill(foreign, -torch.inf).logsumexp(dim=1) - other
            return joints.gather(1, source[:, None]).squeeze(1) - other

        return difference

    return [towards(target) for target in others.unbind(dim=1)]
