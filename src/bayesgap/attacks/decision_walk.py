"""A boundary walk by decisions alone, for classifiers that give no useful numbers.

HopSkipJump (Chen, Jordan and Wainwright, 2020) averages random directions by the decision that
each leads to. Here too each query yields one bit, but about the error of the normal that is
already known, in directions that do not repeat each other and that matter: coarse cosines first.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap.attacks.boundary import by_image, unit
from bayesgap.attacks.directions import Cosines
from bayesgap.attacks.free_walk import Compass, FreeWalk
from bayesgap.attacks.queries import Queries

PROBE = 0.3  # how far from the boundary's point to probe, as a share of its distance to the image
ANGLES = 9  # queries that find an angle
FASTER, SLOWER = 1.4, 0.6  # factors of a coefficient's step where its error's sign stays, or turns
REST = 1.05  # factor of the steps of coefficients that are not asked about


class DecisionWalk(FreeWalk):
    """Walks along the boundary by decisions alone: neither gradients nor the size of logits."""

    name = "decision-walk"

    def compass(self, asked: Queries) -> Compass:
        """Errors of normals by their signs."""
        return SignCompass(asked, self.directions)


class SignCompass:
    """Normals by decisions around a point of the boundary.

    Let n be the normal as it is known and g the true one, u a direction of the basis, z a point of
    the boundary and h a length. The point z + h (u − (u·n) n) is decided otherwise exactly if
    u·g / n·g > u·n: one bit about the error of n along u. The errors' sizes are followed as
    Rprop (Riedmiller and Braun, 1993) follows a gradient: the step along u grows where the bit
    is the last one again, else shrinks. All steps together make one direction, and n is turned
    in its plane by the angle that bisection finds.
    """

    def __init__(self, asked: Queries, directions: int):
        """Know nothing: normals are the rays to the nearest successes.

        Args:
            asked: The images and what is known of them.
            directions: How many bits to ask for between two turns.
        """
        self.asked = asked
        self.basis = Cosines(asked.x.shape[1:], asked.x)
        self.count = min(directions, len(self.basis.frequency))
        self.cost = self.count + 2 * ANGLES
        self.normal = unit(asked.best - asked.x)
        self.step = (1 / (1 + self.basis.frequency)).repeat(len(asked.x), 1)
        self.bit = torch.zeros_like(self.step)
        self.side = 1.0

    def normals(self, rows: Int[Tensor, " r"]) -> Float[Tensor, "r C H W"]:
        """Improve the normals by one bit in each of the directions with the largest steps.

        Args:
            rows: Which of the images; those of the last call, or some of them.
        """
        z, normal = self.asked.best[rows], self.normal[rows]
        length = PROBE * self.asked.size[rows]
        index = self.step[rows].topk(self.count, dim=1).indices
        known = self.basis.coefficients(normal).gather(1, index)
        # A curved boundary looks tilted towards one side of u: sides take turns.
        tangents = self.basis.images(index) - known[..., None, None, None] * normal[:, None]
        reach = self.side * length
        far = self.asked.far(rows, z[:, None] + by_image(reach)[:, None] * tangents)
        bit = torch.where(far, self.side, -self.side).to(z)
        self.side = -self.side
        steps = torch.zeros_like(self.step[rows])
        steps.scatter_(1, index, bit * self.step[rows].gather(1, index))
        self._follow(rows, index, bit)
        change = self.basis.combined(steps)
        change = unit(change - by_image((change * normal).flatten(1).sum(dim=1)) * normal)
        angle = self._angle(rows, change, length)
        self.normal[rows] = by_image(angle.cos()) * normal + by_image(angle.sin()) * change
        return self.normal[rows]

    def _follow(
        self, rows: Int[Tensor, " r"], index: Int[Tensor, "r k"], bit: Float[Tensor, "r k"]
    ) -> None:
        """Longer steps where a bit is the last one again, shorter ones where it is not."""
        step, last = self.step[rows], self.bit[rows]
        agreement = bit * last.gather(1, index)
        factor = torch.where(agreement > 0, FASTER, torch.where(agreement < 0, SLOWER, 1.0))
        factors = torch.full_like(step, REST).scatter(1, index, factor.to(step))
        self.step[rows] = step * factors
        self.bit[rows] = last.scatter(1, index, bit)

    def _angle(
        self,
        rows: Int[Tensor, " r"],
        change: Float[Tensor, "r C H W"],
        length: Float[Tensor, " r"],
    ) -> Float[Tensor, " r"]:
        """By how much the normals turn towards directions at right angles to them.

        In their plane the boundary runs along cos(angle) change − sin(angle) normal. Both sides of
        the point are asked, which a curve shifts in opposite ways.
        """
        z, normal = self.asked.best[rows], self.normal[rows]
        sides = torch.tensor([1.0, -1.0]).to(z)
        low = torch.full((len(z), 2), -math.pi / 2).to(z)
        high = -low
        for _ in range(ANGLES):
            middle = (low + high) / 2
            cosine, sine = middle.cos()[..., None, None, None], middle.sin()[..., None, None, None]
            along = cosine * change[:, None] - sine * normal[:, None]
            points = z[:, None] + (length[:, None] * sides)[..., None, None, None] * along
            more = self.asked.far(rows, points) == (sides > 0)
            low, high = torch.where(more, middle, low), torch.where(more, high, middle)
        return ((low + high) / 2).mean(dim=1)
