"""Walking along a decision boundary without gradients: what `ScoreWalk` and `DecisionWalk` share.

Like `BoundaryWalk` it starts from the nearest samples of another decision, brings them onto the
boundary by bisection and turns their ray towards the boundary's normal. What estimates the normal
from answers of the classifier is the only thing that differs. Boundaries that are no surfaces
with a normal, as a forest's boxes or a classifier's that rounds, get a polish after the walk:
pixels are moved back one by one as far as the decision allows.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Adversarials, Attack
from bayesgap.attacks.boundary import (
    FIRST_BISECTIONS,
    TINY,
    beyond,
    bisect,
    by_image,
    nearest_samples,
    unit,
)
from bayesgap.attacks.queries import Queries
from bayesgap.errors import BayesgapError
from bayesgap.norms import L2, Norm

MILESTONES = (1_000, 3_000, 10_000, 30_000)
RESERVE = 100  # queries for the last bisection and to get clear of the boundary
POLISHED = 0.15  # share of the queries for the polish
PATIENCE = 20  # rounds without a gain after which a walk has ended
GAIN = 1e-5  # share of its length by which a ray must get shorter
TURNS = (0.0, 0.5, 1.0, 2.0)  # times the last good turn, tried in each round
SMALLEST_TURN = 1 / 64  # of the way to the foot of the normal
FIRST_SHARE = 1e-4  # of its length that a turned ray is shortened by at first
SHORTENINGS = 16  # queries for a turned ray that gets shorter
GALLOP = 4.0  # factor by which it is shortened more while that succeeds
MOVES = 6  # queries that tell how far a pixel can be moved back
CAUTION = 4.0  # factor by which it is moved less while that is too far
TRIED = 64  # pixels after which a polish that gains nothing ends
PASSES = 3  # over all pixels, at most
FEW = 16  # dimensions up to which random points find regions that no walk leads to
EXPLORED = 0.3  # share of the queries for that
POINTS = 64  # random points at a time
MEMORY = 2**24  # numbers in all directions that a group of images is probed in


@dataclass(frozen=True, kw_only=True)
class Walked(Adversarials):
    """What a walk without gradients found, and how fast.

    Attributes:
        milestones: Numbers of queries for each image, those about the pool left out.
        curve: The smallest L2 of a success within so many queries, for each milestone; 0 where
            the image was decided otherwise to begin with, infinite where there was no success.
    """

    milestones: tuple[int, ...]
    curve: Float[Tensor, "n milestones"]


@runtime_checkable
class Compass(Protocol):
    """Estimates the boundary's normal where each image's nearest success lies."""

    cost: int

    def normals(self, rows: Int[Tensor, " r"]) -> Float[Tensor, "r C H W"]:
        """Of length 1, towards the other decision; asks at most `cost` queries of each image.

        Args:
            rows: Which of the images; those of the last call, or some of them.
        """
        ...


class FreeWalk(Attack):
    """Walks along the boundary by what the classifier answers.

    The images that went through the classifier for an image of x never exceed the budget; those
    of the pool come on top, once for every 256 images of x.
    """

    def __init__(
        self,
        pool: Float[Tensor, "m C H W"],
        *,
        queries: int = 30_000,
        samples: int = 5,
        directions: int = 150,
        milestones: Sequence[int] = MILESTONES,
    ):
        """Hold the settings.

        Args:
            pool: Images to start from, such as samples of the task; for each decision that is
                attacked, at least one of another.
            queries: How often the classifier may be asked about perturbations of each image.
            samples: How many images of the pool, the nearest ones, to try as starts.
            directions: In how many directions the boundary is probed between two turns.
            milestones: Numbers of queries at which the curve of `Walked` is drawn.

        Raises:
            BayesgapError: one of the numbers is below 1.
        """
        for what, number in (
            ("queries", queries),
            ("samples", samples),
            ("directions", directions),
        ):
            if number < 1:
                raise BayesgapError(f"{self.name} needs {what} of 1 or more; got {number}.")
        self.pool = pool
        self.queries = queries
        self.samples = samples
        self.directions = directions
        self.milestones = tuple(milestones)
        # Of each chunk of a call: which of its images are attacked, and the curves of all.
        self._curves: list[tuple[Tensor, Tensor]] = []

    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, norm: Norm = L2) -> Walked:
        """Attack every image, as any `Attack` does, and tell how fast it went."""
        self._curves.clear()
        found = super().__call__(classifier, x, y, norm=norm)
        curve = torch.cat([curves for _, curves in self._curves])
        self._curves.clear()
        return Walked(**vars(found), milestones=self.milestones, curve=curve)

    def _decided(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Int[Tensor, " r"]:
        rows = super()._decided(classifier, x, y)
        curves = torch.zeros(len(x), len(self.milestones), dtype=torch.float64)
        self._curves.append((rows.cpu(), curves))
        return rows

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Walk from the nearest start; an image without a success comes back itself.

        Args:
            classifier: The classifier to attack.
            x: The images.
            y: The decision on each image.
        """
        starts = list(nearest_samples(classifier, x, y, self.pool, self.samples))
        if not starts:
            raise BayesgapError(f"{self.name} starts from samples: its pool holds none.")
        attacked, curves = self._curves[-1]
        ends = []
        size = max(1, MEMORY // (min(self.directions, x[0].numel()) * x[0].numel()))
        for rows in torch.arange(len(x), device=x.device).split(size):
            asked = Queries(
                classifier, x[rows], y[rows], budget=self.queries, milestones=self.milestones
            )
            for start in starts:
                _bring(asked, start[rows])
            self._search(asked)
            ends.append(_end(asked))
            curves[attacked[rows.cpu()]] = asked.curve.double().cpu()
        return torch.cat(ends)

    @abstractmethod
    def compass(self, asked: Queries) -> Compass:
        """What estimates normals, new for each walk."""

    def _search(self, asked: Queries) -> None:
        """Walk and polish, and with what that has left once more.

        Where there are few dimensions, random points are tried in between.
        """
        polished = RESERVE + int(POLISHED * self.queries)
        few = asked.x[0].numel() <= FEW
        explored = int(EXPLORED * self.queries) if few else 0
        compass = self.compass(asked)
        follow(asked, compass, keep=polished + explored)
        polish(asked)
        if few:
            explore(asked, keep=polished)
            compass = self.compass(asked)
        follow(asked, compass, keep=RESERVE)
        polish(asked)


def _bring(asked: Queries, start: Float[Tensor, "n C H W"]) -> None:
    """Bring a start of each image onto the boundary."""
    rows = torch.arange(len(start), device=start.device)
    crossed = asked.far(rows, start[:, None])[:, 0]
    rows = rows[crossed]
    # Its end need not be kept: the nearest success of all that is asked about is.
    bisect(
        lambda z: asked.gaps(rows, z[:, None])[:, 0], asked.x[rows], start[rows], FIRST_BISECTIONS
    )


def _end(asked: Queries) -> Float[Tensor, "n C H W"]:
    """The nearest success of each image, brought close to the boundary but clear of it."""
    rows = torch.arange(len(asked.x), device=asked.x.device)

    def gap(z: Float[Tensor, "n C H W"]) -> Float[Tensor, " n"]:
        return asked.gaps(rows, z[:, None])[:, 0]

    asked.left.clamp_(max=RESERVE)
    best = asked.best.clone()
    end = beyond(gap, asked.x, bisect(gap, asked.x, best))
    return torch.where(by_image(gap(end) < 0), end, asked.best)


def follow(asked: Queries, compass: Compass, *, keep: int) -> None:
    """Turn and shorten the ray to each image's nearest success until that gains nothing.

    Args:
        asked: The images and what is known of them.
        compass: What estimates the boundary's normal.
        keep: How many queries to leave.
    """
    turns, misses = torch.ones_like(asked.size), torch.zeros_like(asked.left)
    rows = _able(asked, keep + compass.cost)
    shorten(asked, rows, (asked.best - asked.x)[rows, None])
    while len(rows):
        before = asked.size[rows]
        turns[rows] = _turn(asked, rows, compass.normals(rows), turns[rows])
        missed = before - asked.size[rows] < GAIN * before
        misses[rows] = torch.where(missed, misses[rows] + 1, 0)
        able = asked.left[rows] > keep + compass.cost
        rows = rows[able & (misses[rows] < PATIENCE)]


def _able(asked: Queries, keep: int) -> Int[Tensor, " r"]:
    """The images with a success and more than so many queries left."""
    return (asked.size.isfinite() & (asked.left > keep)).nonzero().flatten()


def _turn(
    asked: Queries,
    rows: Int[Tensor, " r"],
    normal: Float[Tensor, "r C H W"],
    turns: Float[Tensor, " r"],
) -> Float[Tensor, " r"]:
    """Turn rays towards normals by several shares of the way; the share to go on with."""
    direction = unit(asked.best[rows] - asked.x[rows])
    foot = by_image((direction * normal).flatten(1).sum(dim=1)) * normal
    shares = turns[:, None] * torch.tensor(TURNS).to(turns)
    turned = direction[:, None] + shares[..., None, None, None] * (foot - direction)[:, None]
    taken = shorten(asked, rows, turned)
    share = shares.gather(1, taken[:, None])[:, 0]
    return torch.where(share > 0, share, turns / 4).clamp(SMALLEST_TURN, 1.0)


def shorten(
    asked: Queries, rows: Int[Tensor, " r"], rays: Float[Tensor, "r k C H W"]
) -> Int[Tensor, " r"]:
    """Find nearer successes along rays from the images.

    All rays of an image are shortened together, first by ever larger shares of the nearest
    success's distance, then by bisection; those that lose the other decision on the way are left.

    Args:
        asked: The images and what is known of them.
        rows: Which of the images.
        rays: Directions of any length, k for each image.

    Returns:
        Which ray came nearest; the first where none came nearer.
    """
    rays = rays / rays.flatten(2).norm(dim=2).clamp(min=TINY)[..., None, None, None]
    origin = asked.x[rows, None]
    high, low = asked.size[rows], torch.zeros_like(asked.size[rows])
    left = torch.ones(rays.shape[:2]).to(rows).bool()
    galloping = left[:, 0]
    first = torch.arange(rays.shape[1], device=rows.device) == 0
    share = torch.full_like(high, FIRST_SHARE)
    taken = torch.zeros_like(rows)
    for query in range(SHORTENINGS):
        middle = torch.where(galloping & (share < 1), (1 - share) * high, (low + high) / 2)
        far = asked.far(rows, origin + by_image(middle)[:, None] * rays, left)
        crossed = far.any(dim=1)
        galloping = galloping & crossed
        low = torch.where(crossed, low, middle)
        high = torch.where(crossed, middle, high)
        share = GALLOP * share
        # Where no ray is shorter by the first share, the first is bisected for what it is worth.
        left = torch.where(crossed[:, None], far, left & (first | (query > 0)))
        taken = torch.where(crossed, far.int().argmax(dim=1), taken)
    return taken


def polish(asked: Queries) -> None:
    """Move the pixels of each image's nearest success back, one by one, where the decision allows.

    A pixel goes back to the image's own value if it can, else as far as a bisection finds. Pixels
    that changed most come first. A smooth boundary leaves no room for that, which is found out
    after a few pixels.

    Args:
        asked: The images and what is known of them.
    """
    rows = _able(asked, RESERVE)
    for _ in range(PASSES):
        start = asked.size.clone()
        order = (asked.best - asked.x).abs().flatten(1).argsort(dim=1, descending=True)
        for count, pixel in enumerate(order.unbind(dim=1)):
            if count == TRIED:
                rows = rows[start[rows] - asked.size[rows] > GAIN * start[rows]]
            before, now = (images.flatten(1)[rows, pixel[rows]] for images in (asked.x, asked.best))
            _move_back(asked, rows[(now != before) & (asked.left[rows] > RESERVE)], pixel)
        rows = rows[start[rows] - asked.size[rows] > GAIN * start[rows]]
        if not len(rows):
            return


def _move_back(asked: Queries, rows: Int[Tensor, " r"], pixel: Int[Tensor, " n"]) -> None:
    """Move one pixel of each image's nearest success back as far as the decision allows."""
    if not len(rows):
        return
    place = pixel[rows, None]
    origin, z = asked.x[rows].flatten(1).gather(1, place), asked.best[rows]
    change = z.flatten(1).gather(1, place) - origin
    # Of the way back: what was found possible, and what was not.
    possible, too_far = torch.zeros_like(change), torch.ones_like(change)
    share = torch.ones_like(change)
    for _ in range(MOVES):
        moved = z.flatten(1).scatter(1, place, origin + (1 - share) * change)
        far = asked.far(rows, moved.reshape(z.shape)[:, None])
        possible, too_far = torch.where(far, share, possible), torch.where(far, too_far, share)
        share = torch.where(possible > 0, (possible + too_far) / 2, share / CAUTION)


def explore(asked: Queries, *, keep: int) -> None:
    """Look for nearer successes at random points, uniform in the ball up to the nearest one.

    The points are the same for every image, but for the ball's size, and at every call.

    Args:
        asked: The images and what is known of them.
        keep: How many queries to leave.
    """
    shape, d = asked.x.shape[1:], asked.x[0].numel()
    generator = torch.Generator().manual_seed(0)
    rows = _able(asked, keep)
    while len(rows):
        points = torch.randn(POINTS, d, generator=generator, dtype=torch.float64)
        radii = torch.rand(POINTS, 1, generator=generator, dtype=torch.float64) ** (1 / d)
        points = (radii * points / points.norm(dim=1, keepdim=True)).reshape(-1, *shape)
        steps = by_image(asked.size[rows])[:, None] * points.to(asked.x)
        asked.far(rows, asked.x[rows, None] + steps)
        rows = rows[asked.left[rows] > keep]
