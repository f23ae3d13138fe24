"""The closest boundary point by a quasi-Newton method that knows how the boundary curves.

Where a classifier is far steeper in some directions than in others, as the optimum of densities
with unequal noise is, the boundary bends within a small share of the distance to it: a walk in
tangent planes turns by less and less and stops short, and steps of fixed length miss the other
side altogether. Here the bends are learned from the gradients met on the way.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.attacks.boundary import (
    FIRST_BISECTIONS,
    TINY,
    Gap,
    beyond,
    bisect,
    by_image,
    gaps,
    nearest_of_each,
    nearest_success,
    norms,
    settled,
    slack,
    unit,
    value_and_gradient,
    walk,
)
from bayesgap.errors import BayesgapError

STEPS = 200  # the largest number of gradients from one start
ROUND = 10  # gradients between two looks at which images are done
STILL = 1e-2  # share of its length by which a perturbation that is not done moves in a round
GAIN = 1e-3  # or by which its nearest success has come nearer
NEARER = 1e-2  # share of its length by which one is nearer that is not given up for standing still
PAIRS = 10  # steps and changes of the gradient that are remembered
MORE_PAIRS = 30  # where the boundary is too stiff for these
GROWTH = 1.3  # by which the multiplier grows in a step at most: in haste it passes near solutions
DECAY = 4.0  # by which it falls in a step at most
BEYOND = 0.5  # share of a positive gap by which steps aim beyond 0, so that they do get there
PENALTY = 1.2  # the penalty on a positive gap, over the multiplier: above 1, it is exact
FLEXIBLE = 2.0  # a penalty that many times over the multiplier is halved
SUFFICIENT = 1e-4  # share of the predicted decrease that a step must bring (Armijo)
FIRST_TURNS = 5  # of a walk from a sample's crossing, before the descent from there
SLACK = 0.01  # share of the distance that a tangent plane promises, above which a walk follows
LAST_TURNS = 20  # the largest number of its turns
RESTARTS = 8  # of the attack that looks for the nearest of many local minima
ASIDE = 0.7  # share of the distance found so far by which a restart lies off what was found
PLACES = 16  # about each image, where slopes are looked at in each restart
LEAST, MOST = 0.3, 64.0  # shares of the distance found that these places are away, on a log scale
CURVED = 1e-3  # curvature below which a pair is left out, in units of that of the distance


RESTARTED = "closest-restarts"


class Closest(Attack):
    """Quasi-Newton descents to the boundary point nearest to the image, from several starts.

    One descent starts from the image itself; others a few turns along the boundary from where the
    way to the nearest samples that the classifier decides otherwise crosses it. These samples
    exist for every image, so that none is left unbroken. An end that is far from stationary is
    followed along the boundary; the nearest one is brought onto it.
    """

    name = "closest"

    def __init__(
        self,
        pool: Float[Tensor, "m C H W"],
        *,
        samples: int = 9,
        steps: int = STEPS,
        restarts: int = 0,
    ):
        """Hold the starting points.

        Args:
            pool: Images to start from, such as samples of the task; for each decision that is
                attacked, at least one of another.
            samples: How many images of the pool to start from, each the nearest of another
                decision: of two classes there is one.
            steps: The largest number of gradients from each start.
            restarts: How often to start from random points as well, for boundaries with many
                points that are nearest among their neighbours: see `restarted`.
        """
        self.pool = pool
        self.samples = samples
        self.steps = steps
        self.restarts = restarts
        if restarts:
            self.name = RESTARTED

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Descend from each start.

        Args:
            classifier: The classifier to attack, with gradients.
            x: The images.
            y: The decision on each image.
        """
        gap = gaps(classifier, y)

        def candidates() -> Iterator[Float[Tensor, "n C H W"]]:
            yield from self._ends(classifier, x, y, x)
            for sample in nearest_of_each(classifier, x, y, self.pool, self.samples):
                yield sample
                crossing = bisect(gap, x, sample, FIRST_BISECTIONS)
                near = walk(classifier, x, y, crossing, FIRST_TURNS)
                yield from self._ends(classifier, x, y, near)

        found = nearest_success(classifier, x, y, candidates())
        found = restarted(classifier, x, y, found, self.restarts, self.steps)
        return settled(gap, x, found)

    def _ends(
        self, classifier: nn.Module, x: Tensor, y: Tensor, start: Tensor
    ) -> Iterator[Float[Tensor, "n C H W"]]:
        end = descend(classifier, x, y, start, self.steps)
        # Rounding may take an end back to the near side.
        yield beyond(gaps(classifier, y), x, end)
        rows = (slack(classifier, x, y, end) > SLACK).nonzero().flatten()
        if len(rows):  # far from stationary
            near, label = x[rows], y[rows]
            again = descend(classifier, near, label, end[rows], self.steps, MORE_PAIRS)
            # A walk never leaves the boundary; descents may, where gradients vanish on the way.
            for z in (again, walk(classifier, near, label, again, LAST_TURNS)):
                yield end.index_copy(0, rows, beyond(gaps(classifier, label), near, z))


def restarted(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    z: Float[Tensor, "n C H W"],
    restarts: int,
    steps: int = STEPS,
) -> Float[Tensor, "n C H W"]:
    """Nearer successes than those at hand, by descents from random points.

    Each restart makes two. One starts from a point near the nearest success: basin hopping (Wales
    and Doye, 1997) that accepts what is nearer only. The other starts where slopes promise most,
    see `_promising`. The points are the same in each call.

    Args:
        classifier: The classifier whose boundary is meant, with gradients.
        x: The images.
        y: The decision on each image.
        z: A success for each image; the image itself where there is none, which it stays.
        restarts: How many of them, one after the other.
        steps: The largest number of gradients of each descent.
    """
    generator = torch.Generator().manual_seed(0)
    for _ in range(restarts):
        z, place = _promising(classifier, x, y, z, generator)
        near = z + by_image(ASIDE * norms(z - x)) * _directions(x, generator)
        for start in (place, near):
            rows = (norms(start - x) > 0).nonzero().flatten()
            if not len(rows):
                continue
            end = descend(classifier, x[rows], y[rows], start[rows], steps)
            end = z.index_copy(0, rows, beyond(gaps(classifier, y[rows]), x[rows], end))
            z = nearest_success(classifier, x, y, [z, end])
    return z


def _promising(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    z: Float[Tensor, "n C H W"],
    generator: torch.Generator,
) -> tuple[Float[Tensor, "n C H W"], Float[Tensor, "n C H W"]]:
    """What slopes at random places about the images lead to.

    Where a margin is the least of several functions, as of a network of maxima, some of these may
    cross 0 nearby and yet be the least nowhere on the way to any sample. From afar they show: the
    margin that is linear with the value and slope at a place crosses 0 where that function does.

    Returns:
        Nearer successes at such crossings and places, or those that were given; and for each
        image the place that promises the nearest one, if it is worth a descent, else the image.
    """
    size, gap = norms(z - x), gaps(classifier, y)
    promise, place = (1 - NEARER) * size, x

    def crossings() -> Iterator[Float[Tensor, "n C H W"]]:
        nonlocal promise, place
        yield z
        for ring in range(PLACES):
            share = (ring + torch.rand((), generator=generator).item()) / PLACES
            radius = size * LEAST * (MOST / LEAST) ** share
            there = x + by_image(radius) * _directions(x, generator)
            try:
                value, gradient = value_and_gradient(gap, there)
            except BayesgapError:  # so far from all samples some classifiers refuse to answer
                return
            if ((value < 0) & (radius < size)).any():
                yield there
            slope = norms(gradient).clamp(min=TINY)
            distance = (value + _dot((x - there).flatten(1), gradient.flatten(1))) / slope
            near = (distance > 0) & (distance < size)
            reach = torch.where(near, (1 + GAIN) * distance / slope, 0.0)
            yield x - by_image(reach) * gradient.nan_to_num(0.0, 0.0, 0.0)
            better = near & (distance < promise)
            promise = torch.where(better, distance, promise)
            place = torch.where(by_image(better), there, place)

    return nearest_success(classifier, x, y, crossings()), place


def _directions(
    x: Float[Tensor, "n C H W"], generator: torch.Generator
) -> Float[Tensor, "n C H W"]:
    """Random directions of length 1, drawn on the CPU for any device."""
    return unit(torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x))


def descend(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    start: Float[Tensor, "n C H W"],
    steps: int,
    pairs: int = PAIRS,
) -> Float[Tensor, "n C H W"]:
    """The nearest success on the way from a start to a stationary point of the distance.

    Sequential quadratic programming (Nocedal and Wright, Numerical Optimization, 2006, algorithm
    18.3) for the least ½‖z − x‖² with a margin of at most 0. The Hessian of the Lagrangian,
    I + λ∇²margin, is that of a limited-memory BFGS; the multiplier λ grows slowly, so that the
    way follows the best trade-off between the two; iterates may be on either side.

    Args:
        classifier: The classifier whose boundary is meant, with gradients.
        x: The images.
        y: The decision on each image.
        start: The point to start from for each image, which may be the image itself.
        steps: The largest number of gradients.
        pairs: How many steps to remember with what they changed of the gradient.

    Returns:
        For each image the nearest point met that has a negative margin; the start where none has.
    """
    ends = start.clone()
    rows = torch.arange(len(x), device=x.device)
    state, memory = _State.at(classifier, x, y, start), _Pairs(pairs)
    for step in range(1, steps + 1):
        state.advance(gaps(classifier, y[rows]), memory)
        if step % ROUND == 0 or step == steps:
            ends[rows], going = state.nearest, state.going()
            rows, state, memory = rows[going], state.of(going), memory.of(going)
            if not len(rows):
                break
    return ends


class _Pairs:
    """Steps and what they changed of the margin's gradient; a Hessian's inverse by L-BFGS.

    Both are kept apart, as the Lagrangian's gradient changes by step + λ · change, and λ varies.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.pairs: list[tuple[Tensor, ...]] = []

    def add(
        self, step: Float[Tensor, "n d"], change: Float[Tensor, "n d"], known: Bool[Tensor, " n"]
    ) -> None:
        """Remember a step, and forget the oldest."""
        step, change = (torch.where(known[:, None], part, 0.0) for part in (step, change))
        products = _dot(step, step), _dot(step, change), _dot(change, change)
        self.pairs = [*self.pairs, (step, change, *products)][-self.most :]

    def of(self, which: Bool[Tensor, " n"]) -> "_Pairs":
        """Those of some images alone."""
        chosen = _Pairs(self.most)
        chosen.pairs = [tuple(part[which] for part in pair) for pair in self.pairs]
        return chosen

    def solve(
        self, multiplier: Float[Tensor, " n"], right: Float[Tensor, "k n d"]
    ) -> Float[Tensor, "k n d"]:
        """(I + λ∇²margin)⁻¹ times vectors, roughly: the two-loop recursion (algorithm 7.4)."""
        scale, used = torch.ones_like(multiplier), []
        for step, change, length, bend, size in self.pairs:
            curvature = length + multiplier * bend
            good = curvature > CURVED * length
            inverse = torch.where(good, 1 / curvature, 0.0)
            size = length + 2 * multiplier * bend + multiplier.square() * size
            scale = torch.where(good, (curvature / size).clamp(max=1.0), scale)
            used.append((step, torch.addcmul(step, multiplier[:, None], change), inverse))
        right, parts = right.clone(), []
        for step, bent, inverse in reversed(used):
            parts.append(inverse * _dot(step, right))
            right.addcmul_(parts[-1][..., None], bent, value=-1)
        right *= scale[:, None]
        for (step, bent, inverse), part in zip(used, reversed(parts), strict=True):
            right.addcmul_((part - inverse * _dot(bent, right))[..., None], step)
        return right


@dataclass
class _State:
    """Where each descent is. Margins are in units of the gradient's length at the start."""

    x: Float[Tensor, "n C H W"]
    z: Float[Tensor, "n C H W"]
    unit: Float[Tensor, " n"]
    value: Float[Tensor, " n"]
    gradient: Float[Tensor, "n C H W"]
    multiplier: Float[Tensor, " n"]
    penalty: Float[Tensor, " n"]
    share: Float[Tensor, " n"]  # of the full step that is tried next
    nearest: Float[Tensor, "n C H W"]
    size: Float[Tensor, " n"]  # of the nearest success
    last_z: Float[Tensor, "n C H W"]  # a round ago
    last_size: Float[Tensor, " n"]

    @classmethod
    def at(cls, classifier: nn.Module, x: Tensor, y: Tensor, z: Tensor) -> "_State":
        """The state at the start."""
        value, gradient = value_and_gradient(gaps(classifier, y), z)
        unit = norms(gradient).clamp(min=TINY)
        value, gradient = value / unit, gradient / by_image(unit)
        length = norms(z - x)
        multiplier = torch.where(length > 0, length, value.abs())
        size = torch.where(value < 0, length, torch.inf)
        ones = torch.ones_like(value)
        return cls(
            *(x, z, unit, value, gradient, multiplier, PENALTY * multiplier, ones),
            *(z, size, z, size),
        )

    def of(self, which: Bool[Tensor, " n"]) -> "_State":
        """That of some images alone."""
        return _State(*(getattr(self, field.name)[which] for field in fields(self)))

    def going(self) -> Bool[Tensor, " n"]:
        """Whether each has moved or gained enough in the round that ends here.

        One that is nearer than its nearest success may move as little as it likes: its multiplier
        has still to grow before it gets across.
        """
        moved, length = norms(self.z - self.last_z), norms(self.z - self.x)
        least = torch.where(length < (1 - NEARER) * self.size, 0.0, STILL * length)
        gained = self.size < (1 - GAIN) * self.last_size
        self.last_z, self.last_size = self.z, self.size
        return (moved > least) | gained

    def advance(self, gap: Gap, pairs: _Pairs) -> None:
        """Solve the quadratic model, try a step, and learn from the gradient where it leads."""
        way, gradient = (self.z - self.x).flatten(1), self.gradient.flatten(1)
        to_x, along = pairs.solve(self.multiplier, torch.stack([way, gradient]))
        excess = self.value.clamp(min=0)
        exact = (self.value + BEYOND * excess - _dot(gradient, to_x)) / _dot(gradient, along).clamp(
            min=TINY
        )
        exact = exact.clamp(min=0).minimum(GROWTH * self.multiplier)
        full = -(to_x + exact[:, None] * along)
        multiplier = exact.maximum(self.multiplier / DECAY)
        eased = torch.where(self.penalty > FLEXIBLE * multiplier, self.penalty / 2, self.penalty)
        penalty = eased.maximum(PENALTY * multiplier)
        slope = _dot(way, full) + penalty * torch.where(excess > 0, _dot(gradient, full), 0.0)
        least = _dot(way, way) / 2 + penalty * excess
        least = least + SUFFICIENT * self.share * slope.clamp(max=0)

        z = self.z + by_image(self.share) * full.view_as(self.z)
        value, bent = value_and_gradient(gap, z)
        value, bent = value / self.unit, bent / by_image(self.unit)
        length = norms(z - self.x)
        known = value.isfinite() & norms(bent).isfinite()
        kept = known & (length.square() / 2 + penalty * value.clamp(min=0) <= least)
        nearer = known & (value < 0) & (length < self.size)
        pairs.add((z - self.z).flatten(1), (bent - self.gradient).flatten(1), known)
        self.share = torch.where(kept, 1.0, self.share / 2)
        # They fall with a step that is taken alone, lest a kink's far side, where the margin is
        # nearly flat, sends the descent back to x again and again.
        self.multiplier = torch.where(kept, multiplier, multiplier.maximum(self.multiplier))
        self.penalty = torch.where(kept, penalty, penalty.maximum(self.penalty))
        self.nearest = torch.where(by_image(nearer), z, self.nearest)
        self.size = torch.where(nearer, length, self.size)
        self.z = torch.where(by_image(kept), z, self.z)
        self.value = torch.where(kept, value, self.value)
        self.gradient = torch.where(by_image(kept), bent, self.gradient)


def _dot(a: Float[Tensor, "... d"], b: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
    return (a * b).sum(dim=-1)
