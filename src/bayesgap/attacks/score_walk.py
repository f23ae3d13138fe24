"""A boundary walk by logits without their gradients, for classifiers that mask or lack these."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap.attacks.boundary import TINY, by_image, unit
from bayesgap.attacks.directions import Cosines
from bayesgap.attacks.free_walk import Compass, FreeWalk, shorten
from bayesgap.attacks.queries import Queries

# What differences may be taken over: shares of the distance to the image, and pixel units.
SPREADS = ((0.3, 0.0), (0.03, 0.0), (0.003, 0.0), (0.0003, 0.0), (0.0, 0.5))
TRIED = 32  # directions in which each of these is tried


class ScoreWalk(FreeWalk):
    """Walks along the boundary by differences of the margin, never by its gradient.

    Where logits say little more than the decision, as saturated probabilities or votes of a few
    trees, `DecisionWalk` needs no more queries and comes nearer.
    """

    name = "score-walk"

    def compass(self, asked: Queries) -> Compass:
        """Slopes by central differences."""
        return SlopeCompass(asked, self.directions)


class SlopeCompass:
    """Normals by central differences of the margin in coarse directions first.

    Slopes along cosines are measured in turn, those first that were large and have not been
    measured for long; each round replaces some, and the normal is made of all.

    What a difference is taken over decides whether it sees the slope: a classifier that rounds
    its images hides the slope below its rounding, one that saturates above a small distance. In
    the first round each of a few spreads yields a normal, and of each image the one whose normal
    leads to the nearest success is kept.
    """

    def __init__(self, asked: Queries, directions: int):
        """Know nothing.

        Args:
            asked: The images and what is known of them.
            directions: In how many directions to measure slopes between two turns.
        """
        self.asked = asked
        self.basis = Cosines(asked.x.shape[1:], asked.x)
        d = len(self.basis.frequency)
        self.count, self.tried = min(directions, d), min(TRIED, directions, d)
        self.cost = 2 * self.count
        self.slope = asked.x.new_zeros(len(asked.x), d)
        self.age = torch.ones_like(self.slope)
        prior = 1 / (1 + self.basis.frequency)
        self.prior = prior / prior.norm()
        self.spread: Tensor | None = None

    def normals(self, rows: Int[Tensor, " r"]) -> Float[Tensor, "r C H W"]:
        """Measure some of the slopes anew.

        Args:
            rows: Which of the images; those of the last call, or some of them.
        """
        if self.spread is None:
            self.spread = self._chosen(rows)
        slope = self.slope[rows]
        size = slope / slope.norm(dim=1, keepdim=True).clamp(min=TINY)
        index = (self.age[rows] * (self.prior + size.abs())).topk(self.count, dim=1).indices
        length = self._lengths(rows).gather(1, self.spread[rows, None])[:, 0]
        self.slope[rows] = slope.scatter(1, index, self._slopes(rows, index, length))
        self.age[rows] = (self.age[rows] + 1).scatter(1, index, 1.0)
        return self._normal(self.slope[rows])

    def _chosen(self, rows: Int[Tensor, " r"]) -> Int[Tensor, " n"]:
        """For each image the spread whose slopes lead to the nearest success."""
        index = self.prior.topk(self.tried).indices.expand(len(rows), self.tried)
        ray = unit(self.asked.best[rows] - self.asked.x[rows])
        turned, slopes = [], []
        for length in self._lengths(rows).unbind(dim=1):
            slopes.append(self._slopes(rows, index, length))
            slope = torch.zeros_like(self.slope[rows]).scatter(1, index, slopes[-1])
            normal = self._normal(slope)
            foot = by_image((ray * normal).flatten(1).sum(dim=1)) * normal
            turned += [foot, (ray + foot) / 2]
        chosen = shorten(self.asked, rows, torch.stack(turned, dim=1)) // 2
        taken = torch.stack(slopes, dim=1)[torch.arange(len(rows), device=rows.device), chosen]
        self.slope[rows] = self.slope[rows].scatter(1, index, taken)
        spread = torch.zeros_like(self.asked.left)
        spread[rows] = chosen
        return spread

    def _lengths(self, rows: Int[Tensor, " r"]) -> Float[Tensor, "r spreads"]:
        """What differences of each spread are taken over now, in pixel units."""
        shares, least = torch.tensor(SPREADS).to(self.asked.x).unbind(dim=1)
        return torch.maximum(shares * self.asked.size[rows, None], least)

    def _slopes(
        self, rows: Int[Tensor, " r"], index: Int[Tensor, "r k"], length: Float[Tensor, " r"]
    ) -> Float[Tensor, "r k"]:
        """How fast the margin falls along directions of the basis, by central differences."""
        steps = by_image(length)[:, None] * self.basis.images(index)
        z = self.asked.best[rows, None]
        gaps = self.asked.gaps(rows, torch.cat([z - steps, z + steps], dim=1))
        before, after = gaps.chunk(2, dim=1)
        # What is infinite or was not asked, beyond the budget, says nothing.
        return ((before - after) / (2 * length[:, None])).nan_to_num(0.0, 0.0, 0.0)

    def _normal(self, slope: Float[Tensor, "r d"]) -> Float[Tensor, "r C H W"]:
        return self.basis.combined(slope / slope.norm(dim=1, keepdim=True).clamp(min=TINY))
