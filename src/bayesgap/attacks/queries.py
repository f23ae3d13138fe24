"""A classifier that may only be asked, so many times for each image; what it said is kept."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.attacks.boundary import TINY
from bayesgap.classifiers.module import CHUNK, called, kind_of, margin
from bayesgap.errors import BayesgapError


class Queries:
    """Asks a classifier about perturbed images, counts, and keeps each image's nearest success.

    Attributes:
        x: The images, in the classifier's dtype.
        y: The decision on each image.
        left: How often each image may still be asked about.
        best: The nearest perturbed image seen that is decided otherwise; the image itself where
            none was.
        size: Its L2 distance to the image; infinite where there is none.
        curve: The smallest distance of a success within the first so many queries, for each of
            the milestones; infinite where there was none.
    """

    x: Float[Tensor, "n C H W"]
    y: Int[Tensor, " n"]
    left: Int[Tensor, " n"]
    best: Float[Tensor, "n C H W"]
    size: Float[Tensor, " n"]
    curve: Float[Tensor, "n milestones"]

    def __init__(
        self,
        classifier: nn.Module,
        x: Float[Tensor, "n C H W"],
        y: Int[Tensor, " n"],
        *,
        budget: int,
        milestones: Sequence[int],
    ):
        """Start with nothing asked.

        Args:
            classifier: The classifier to ask.
            x: The images, in its dtype.
            y: The decision on each image.
            budget: How often each image may be asked about.
            milestones: Numbers of queries after which the curve is drawn.
        """
        self.classifier, self.x, self.y = classifier, x, y
        self.budget = budget
        self.milestones = torch.tensor(milestones, dtype=torch.int64, device=x.device)
        self.left = torch.full_like(y, budget)
        self.best, self.size = x.clone(), x.new_full((len(x),), torch.inf)
        self.curve = x.new_full((len(x), len(milestones)), torch.inf)

    def gaps(
        self,
        rows: Int[Tensor, " r"],
        z: Float[Tensor, "r k C H W"],
        wanted: Bool[Tensor, "r k"] | None = None,
    ) -> Float[Tensor, "r k"]:
        """The margin of the old decision: negative exactly where the decision is another.

        What is beyond the budget is not asked and counts as decided as before, with an infinite
        margin.

        Args:
            rows: Which of the images are perturbed, each at most once.
            z: What they are perturbed to, k for each, asked in this order.
            wanted: Which of these to ask about; by default all.
        """
        wanted = torch.ones(z.shape[:2]).to(self.left).bool() if wanted is None else wanted
        order = wanted.cumsum(dim=1)
        wanted = wanted & (order <= self.left[rows, None])
        gap = self.x.new_full(z.shape[:2], torch.inf)
        labels = self.y[rows, None].expand_as(gap)[wanted]
        if len(labels):
            parts = zip(z[wanted].split(CHUNK), labels.split(CHUNK), strict=True)
            gap[wanted] = torch.cat([self._gap(images, label) for images, label in parts])
            self._keep(rows, z, gap, order + self.budget - self.left[rows, None])
            self.left[rows] -= wanted.sum(dim=1)
        return gap

    def far(
        self,
        rows: Int[Tensor, " r"],
        z: Float[Tensor, "r k C H W"],
        wanted: Bool[Tensor, "r k"] | None = None,
    ) -> Bool[Tensor, "r k"]:
        """Whether the decision is another; the arguments are those of `gaps`."""
        return self.gaps(rows, z, wanted) < 0

    def _gap(self, images: Float[Tensor, "m C H W"], y: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        with torch.no_grad():
            logits = called(self.classifier, images).to(self.x)
        if len(logits) != len(images):
            raise BayesgapError(
                f"This {kind_of(self.classifier)} turned {len(images)} images into {len(logits)} "
                "rows of logits: it must decide each image, whatever the others are."
            )
        gap = margin(logits, y)
        # Where logits are equal the margin is 0, and the first of them decides.
        gap = torch.where(logits.argmax(dim=1) == y, gap, gap.clamp(max=-TINY))
        return torch.where(logits.isfinite().all(dim=1), gap, torch.inf)

    def _keep(
        self,
        rows: Int[Tensor, " r"],
        z: Float[Tensor, "r k C H W"],
        gap: Float[Tensor, "r k"],
        order: Int[Tensor, "r k"],
    ) -> None:
        """Keep the nearest success, and its distance at each milestone that it came before."""
        far = gap < 0
        if not far.any():
            return
        size = torch.full_like(gap, torch.inf)
        origin = self.x[rows, None].expand_as(z)[far]
        size[far] = (z[far] - origin).flatten(1).norm(dim=1)
        nearest, index = size.min(dim=1)
        nearer = nearest < self.size[rows]
        self.best[rows[nearer]] = z[nearer, index[nearer]]
        self.size[rows[nearer]] = nearest[nearer]
        for column, milestone in enumerate(self.milestones):
            early = size.masked_fill(order > milestone, torch.inf).amin(dim=1)
            self.curve[rows, column] = self.curve[rows, column].minimum(early)
