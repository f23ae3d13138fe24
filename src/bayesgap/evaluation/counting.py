"""A task's optimum that keeps count: what an attack asks of it, and how near it got by when."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap.attacks.boundary import norms
from bayesgap.tasks.bayes import BayesClassifier
from bayesgap.tasks.task import Task

BUDGETS = (50, 200, 1_000, 2_000)  # forward and backward passes for a point


class Within(NamedTuple):
    """How near an attack got within a number of passes.

    Attributes:
        passes: Forward and backward passes for each point.
        success: The share of points that were broken by then.
        mean_ratio: The mean over these of L2 over the certified lower bound; None without any.
    """

    passes: int
    success: float
    mean_ratio: float | None


class CountingOptimum(BayesClassifier):
    """A task's optimum that counts the images it scores, and the gradients asked of it.

    Attacks need not say which point an image is made of: of as many images as there are points it
    is the one in the same place, of others the nearest. (Of images nearer to another point than
    to their own, some are counted for that.)

    Attributes:
        forwards: Images scored.
        backwards: Images whose scores were differentiated.
        best: L2 of the nearest success of each point within each of `BUDGETS`; infinite where
            there is none.
    """

    def __init__(
        self,
        task: Task,
        temperature: float,
        x: Float[Tensor, "n C H W"],
        y: Int[Tensor, " n"],
    ):
        """Start from 0.

        Args:
            task: The task, of mixtures of factor analyzers.
            temperature: What logits are divided by, in nats.
            x: The points that are attacked.
            y: The label of each point.
        """
        super().__init__(task.mixtures, task.priors, temperature=temperature)
        self.forwards = self.backwards = 0
        self.points, self.labels = x.double(), y
        self.taken = torch.zeros(len(x), dtype=torch.long)
        self.best = torch.full((len(BUDGETS), len(x)), torch.inf, dtype=torch.float64)

    def component_log_joints(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n components"]:
        """As of any Bayes-optimal classifier."""
        joints = super().component_log_joints(x)
        self.forwards += len(x)
        with torch.no_grad():
            rows = self._rows(x)
            self.taken += rows.bincount(minlength=len(self.points))
            self._keep(x, rows, joints)
        if joints.requires_grad:
            joints.register_hook(lambda gradient: self._count(gradient, rows))
        return joints

    def _rows(self, x: Float[Tensor, "n C H W"]) -> Int[Tensor, " n"]:
        """Which point each image is of."""
        if len(x) == len(self.points):
            return torch.arange(len(x))
        return torch.cdist(x.flatten(1), self.points.flatten(1)).argmin(dim=1)

    def _keep(
        self,
        x: Float[Tensor, "n C H W"],
        rows: Int[Tensor, " n"],
        joints: Float[Tensor, "n components"],
    ) -> None:
        """Note which images are decided otherwise, and how far they are."""
        classes = [part.logsumexp(dim=1) for part in joints.split(self.sizes, dim=1)]
        broken = torch.stack(classes, dim=1).argmax(dim=1) != self.labels[rows]
        sizes = norms(x - self.points[rows]).masked_fill(~broken, torch.inf)
        for place, passes in enumerate(BUDGETS):
            spent = sizes.masked_fill(self.taken[rows] > passes, torch.inf)
            self.best[place].scatter_reduce_(0, rows, spent, "amin")

    def _count(self, gradient: Tensor, rows: Int[Tensor, " n"]) -> None:
        self.backwards += len(gradient)
        self.taken += rows.bincount(minlength=len(self.points))

    def within(self, lower: Float[Tensor, " n"]) -> list[Within]:
        """How near the attack got within each of `BUDGETS`.

        Args:
            lower: The certified lower bound of each point.
        """
        found = []
        for passes, best in zip(BUDGETS, self.best, strict=True):
            broken = best.isfinite()
            ratio = (best / lower)[broken].mean().item() if broken.any() else None
            found.append(Within(passes, broken.double().mean().item(), ratio))
        return found
