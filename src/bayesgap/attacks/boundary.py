"""Walking along a decision boundary: the attack that does not flatter a classifier.

A gradient that vanishes, as an RBF SVM's does far from its support vectors, leaves gradient
attacks with the easy points only, and the mean over their successes misleads. Here every image
has a start that cannot fail: the nearest samples that the classifier puts into another class.
The boundary between is found by bisection, then followed towards the image.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.classifiers.module import decisions, margin, placed
from bayesgap.errors import BayesgapError

BISECTIONS = 40  # of the way from an image to its end: 1e-12 of its length
FIRST_BISECTIONS = 12  # enough where a walk follows
CROSSINGS = 3  # evaluations to find the crossing on a turned ray, which is close to its end
SMALLEST_TURN = 1e-3  # a ray that cannot even turn by this share is finished
SMALLEST_GAIN = 1e-5  # as is one that gets shorter by less than this share
SAFETY = 32  # roundings of the image that a perturbation is lengthened by, and of the gap beyond 0
NUDGES = 4  # evaluations that show how far a gap is rounded
LENGTHENING = 4.0  # factor by which a perturbation's extra length grows until the gap is clear of 0
LONGEST = 1e-4  # share of its length beyond which a perturbation is not lengthened again
TINY = 1e-30  # keeps vanished gradients from dividing by 0, in float32 too


NO_GRADIENT = (
    "This attack follows gradients, and the classifier's logits have none with respect to the "
    "images: it detaches them, or computes outside torch."
)

Gap = Callable[[Tensor], Tensor]  # of images: positive where the decision is still the old one


def norms(x: Float[Tensor, "n *image"]) -> Float[Tensor, " n"]:
    """‖x_i‖₂ of each image.

    Args:
        x: The images, or differences of images.
    """
    lengths: Float[Tensor, " n"] = x.flatten(1).norm(dim=1)
    return lengths


def by_image(values: Tensor) -> Tensor:
    """One value an image, shaped (n, 1, 1, 1) so that it multiplies images.

    Args:
        values: The values, of shape (n,).
    """
    return values[:, None, None, None]


def value_and_gradient(
    function: Gap, x: Float[Tensor, "n C H W"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n C H W"]]:
    """The function's value at each image and its gradient in that image.

    Args:
        function: A function of images, each value of which depends on its image alone.
        x: The images.

    Raises:
        BayesgapError: it has no gradient.
    """
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        value = function(z)
        if not value.requires_grad:
            raise BayesgapError(NO_GRADIENT)
        (gradient,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), gradient


def gaps(classifier: nn.Module, y: Int[Tensor, " n"]) -> Gap:
    """The margin of y as a function of the images: negative where the decision is another.

    Args:
        classifier: The classifier that decides.
        y: The class whose margin is meant, for each image.
    """
    # Of a copy, for a forward may change its input in place; its logits may have another dtype.
    return lambda images: margin(classifier(images.clone()), y).to(images.dtype)


def bisect(
    gap: Gap, x: Float[Tensor, "n C H W"], z: Float[Tensor, "n C H W"], steps: int = BISECTIONS
) -> Float[Tensor, "n C H W"]:
    """On the segment from x to z, the boundary's far side within 2^-steps of its length.

    z must lie on the far side. Where it does not, z or a point of negative gap in between comes
    back.

    Args:
        gap: The function of images that is negative on the far side.
        x: One end of each segment, on the near side.
        z: The other end of each segment.
        steps: How often to halve each segment.
    """
    low = torch.zeros_like(norms(x))
    high = torch.ones_like(low)
    with torch.no_grad():
        for _ in range(steps):
            middle = (low + high) / 2
            crossed = gap(x + by_image(middle) * (z - x)) < 0
            high = torch.where(crossed, middle, high)
            low = torch.where(crossed, low, middle)
    return torch.where(by_image(high < 1), x + by_image(high) * (z - x), z)


def nearest_crossing(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    starts: Iterable[Float[Tensor, "n C H W"]],
    steps: int,
) -> Float[Tensor, "n C H W"]:
    """Bring each start onto the boundary and walk from there; the nearest end of each image.

    An image none of whose starts lies on the far side comes back itself.

    Args:
        classifier: The classifier whose boundary is meant, with gradients.
        x: The images.
        y: The decision on each image.
        starts: Points to start from, one for each image at a time.
        steps: The largest number of turns of each walk.
    """
    gap = gaps(classifier, y)

    def candidates() -> Iterator[Float[Tensor, "n C H W"]]:
        for start in starts:
            crossing = bisect(gap, x, start, FIRST_BISECTIONS)
            walked = walk(classifier, x, y, crossing, steps)
            # Rounding may take the end back to the near side; then the start is not lost with it.
            yield from (start, crossing, beyond(gap, x, walked))

    return settled(gap, x, nearest_success(classifier, x, y, candidates()))


def nearest_success(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    candidates: Iterable[Float[Tensor, "n C H W"]],
) -> Float[Tensor, "n C H W"]:
    """For each image the nearest of the candidates that the classifier decides otherwise.

    An image none of whose candidates is decided otherwise comes back itself.

    Args:
        classifier: The classifier that decides.
        x: The images.
        y: The decision on each image.
        candidates: Points to choose from, one for each image at a time.
    """
    best, best_norm = x, torch.full_like(norms(x), torch.inf)
    for z in candidates:
        with torch.no_grad():
            # Not by the gap: where logits are equal it is 0, and the first of them decides.
            stays = classifier(z.clone()).argmax(dim=1) == y
        reached = norms(z - x).masked_fill(stays, torch.inf)
        nearer = reached < best_norm
        best = torch.where(by_image(nearer), z, best)
        best_norm = torch.where(nearer, reached, best_norm)
    return best


def settled(
    gap: Gap,
    x: Float[Tensor, "n C H W"],
    z: Float[Tensor, "n C H W"],
    bisections: int = BISECTIONS,
) -> Float[Tensor, "n C H W"]:
    """The successes of an attack, brought near the boundary yet clear of its rounding.

    Args:
        gap: The function of images that is negative on the far side.
        x: The images.
        z: A success for each image, which stands where nothing nearer is one; without one, the
            image itself.
        bisections: How often to halve the segment from image to success.
    """
    end = beyond(gap, x, bisect(gap, x, z, bisections))
    with torch.no_grad():
        return torch.where(by_image(gap(end) < 0), end, z)


def beyond(
    gap: Gap, x: Float[Tensor, "n C H W"], z: Float[Tensor, "n C H W"]
) -> Float[Tensor, "n C H W"]:
    """z further from x until rounding cannot take it back, as in a batch of another size.

    The lengthening starts at a few roundings of the image and grows until the gap lies clear of
    0: beyond its own rounding, which is judged by its size at x and by what changes of the last
    bits make of it, as log-densities of millions of nats that cancel round coarser than their
    difference. Where it never does, as on a plateau, the first lengthening stands.

    Args:
        gap: The function of images that is negative on the far side.
        x: The images.
        z: A point of the boundary for each image, or the image itself.
    """
    epsilon = torch.finfo(x.dtype).eps
    length = norms(z - x)
    share = SAFETY * epsilon * (length + norms(x)) / length.clamp(min=TINY) * (length > 0)
    first = end = z + by_image(share) * (z - x)
    with torch.no_grad():
        values = torch.stack([gap(z * (1 + nudge * epsilon)) for nudge in range(NUDGES)])
        rounding = values.amax(dim=0) - values.amin(dim=0) + epsilon * gap(x).abs()
        clear = -SAFETY * rounding
        safe = gap(end) < clear
        while (~safe & (length > 0) & (share <= LONGEST)).any():
            share = torch.where(safe, share, LENGTHENING * share)
            end = torch.where(by_image(safe), end, z + by_image(share) * (z - x))
            safe = gap(end) < clear
    return torch.where(by_image(safe), end, first)


def walk(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    z: Float[Tensor, "n C H W"],
    steps: int,
) -> Float[Tensor, "n C H W"]:
    """Follow the boundary from z, on its far side, to where its distance to x is least.

    The tangent plane at z with normal n has its point nearest to x along n. The ray from x to
    z is turned towards it; where the turned ray reaches another decision at no greater
    distance, it is kept and shortened to its crossing, else the next turn is a quarter of it.
    Rays that no longer turn or shorten are left where they are.

    Args:
        classifier: The classifier whose boundary is meant, with gradients.
        x: The images.
        y: The decision on each image.
        z: The point to start from for each image.
        steps: The largest number of turns of each ray.

    Returns:
        For each image the end of its walk, which rounding may have taken to the near side.
    """
    z = z.clone()
    turns = torch.ones_like(norms(x))
    rows = torch.arange(len(x), device=x.device)
    for _ in range(steps):
        gap = gaps(classifier, y[rows])
        _, gradient = value_and_gradient(gap, z[rows])
        ray = z[rows] - x[rows]
        radius = norms(ray)
        direction = ray / by_image(radius.clamp(min=TINY))
        normal = -gradient / by_image(norms(gradient).clamp(min=TINY))
        foot = by_image((direction * normal).flatten(1).sum(dim=1)) * normal
        turned = direction + by_image(turns[rows]) * (foot - direction)
        turned = turned / by_image(norms(turned).clamp(min=TINY))
        slope = (gradient * turned).flatten(1).sum(dim=1)
        reached, crossed = _shorten(gap, x[rows], turned, radius, slope)
        z[rows] = torch.where(by_image(crossed), x[rows] + by_image(reached) * turned, z[rows])
        turns[rows] = torch.where(crossed, (2 * turns[rows]).clamp(max=1.0), turns[rows] / 4)
        stuck = torch.where(
            crossed, radius - reached < SMALLEST_GAIN * radius, turns[rows] < SMALLEST_TURN
        )
        rows = rows[~stuck]
        if not len(rows):
            break
    return z


def _shorten(
    gap: Gap,
    x: Float[Tensor, "n C H W"],
    direction: Float[Tensor, "n C H W"],
    radius: Float[Tensor, " n"],
    slope: Float[Tensor, " n"],
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """How far along each unit direction the gap turns negative, at most `radius`; and whether.

    Newton's method from the far side with an approximate slope, held inside the bracket of
    distances known to be on either side; what is returned has been evaluated as negative.
    """
    with torch.no_grad():
        value = gap(x + by_image(radius) * direction)
        crossed = value < 0
        low, high = torch.zeros_like(radius), radius
        for evaluation in range(CROSSINGS):
            # Newton's point, a little short of the crossing so that it stays on the far side.
            step = value / slope.clamp(max=-TINY) * (1 - 0.1 ** (evaluation + 1))
            trial = high - step
            trial = torch.where((trial > low) & (trial < high), trial, (low + high) / 2)
            there = gap(x + by_image(trial) * direction)
            beyond = there < 0
            high = torch.where(beyond, trial, high)
            value = torch.where(beyond, there, value)
            low = torch.where(beyond, low, trial)
    return high, crossed


def nearest_samples(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    pool: Float[Tensor, "m C H W"],
    count: int,
) -> Iterator[Float[Tensor, "n C H W"]]:
    """For each image the images of the pool that are decided otherwise, the nearest ones first.

    Where there are fewer of them than asked for, others follow.

    Args:
        classifier: The classifier that decides.
        x: The images.
        y: The decision on each image.
        pool: The images to choose from.
        count: How many to yield, one for each image at a time; all where the pool holds fewer.
    """
    if not len(pool):
        return
    pool, decided, distances = _measured(classifier, x, pool)
    distances = distances.masked_fill(decided[None] == y[:, None], torch.inf)
    nearest = distances.topk(min(count, len(pool)), largest=False).indices
    for index in nearest.unbind(dim=1):
        yield pool[index]


def nearest_of_each(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    pool: Float[Tensor, "m C H W"],
    count: int,
) -> Iterator[Float[Tensor, "n C H W"]]:
    """For each image the nearest image of each other decision, of the nearest decisions first.

    Where there are fewer of them than asked for, others follow.

    Args:
        classifier: The classifier that decides.
        x: The images.
        y: The decision on each image.
        pool: The images to choose from.
        count: How many decisions to take, one for each image at a time; all where there are fewer.
    """
    if not len(pool):
        return
    pool, decided, distances = _measured(classifier, x, pool)
    known = decided.unique()
    # (n, decisions): the distance to the nearest image of each, and which it is.
    parts = [distances.masked_fill(decided[None] != each, torch.inf).min(dim=1) for each in known]
    least = torch.stack([part.values for part in parts], dim=1)
    least = least.masked_fill(known[None] == y[:, None], torch.inf)
    which = torch.stack([part.indices for part in parts], dim=1)
    others = int(least.isfinite().sum(dim=1).max().clamp(min=1))
    for place in least.topk(min(count, others), largest=False).indices.unbind(dim=1):
        yield pool[which.gather(1, place[:, None])[:, 0]]


def _measured(
    classifier: nn.Module, x: Float[Tensor, "n C H W"], pool: Float[Tensor, "m C H W"]
) -> tuple[Float[Tensor, "m C H W"], Int[Tensor, " m"], Float[Tensor, "n m"]]:
    """The pool as the classifier takes it, its decisions, and its distances from the images."""
    pool = placed(classifier, pool)
    decided = decisions(classifier, pool).to(x.device)
    return pool, decided, torch.cdist(x.flatten(1), pool.flatten(1))


class BoundaryWalk(Attack):
    """Walks from every start at hand along the boundary to the point nearest to the image.

    Starts are the successes of other attacks, and the nearest samples that the classifier puts
    into another class; the latter exist for every image.
    """

    name = "boundary-walk"

    def __init__(
        self,
        pool: Float[Tensor, "m C H W"],
        *,
        attacks: Sequence[Attack] = (),
        samples: int = 1,
        steps: int = 20,
    ):
        """Hold the starting points.

        Args:
            pool: Images to start from, such as samples of the task; for each decision that is
                attacked, at least one of another.
            attacks: Attacks whose successes to start from as well.
            samples: How many images of the pool, the nearest ones, to walk from.
            steps: The largest number of turns of each walk.
        """
        self.pool = pool
        self.attacks = tuple(attacks)
        self.samples = samples
        self.steps = steps

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Walk from each start.

        Args:
            classifier: The classifier to attack, with gradients.
            x: The images.
            y: The decision on each image.
        """
        return nearest_crossing(classifier, x, y, self._starts(classifier, x, y), self.steps)

    def _starts(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Iterator[Float[Tensor, "n C H W"]]:
        for attack in self.attacks:
            yield attack(classifier, x, y).images.to(x)
        yield from nearest_samples(classifier, x, y, self.pool, self.samples)


def slack(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    z: Float[Tensor, "n C H W"],
) -> Float[Tensor, " n"]:
    """How far successes are from satisfying the first-order condition of the nearest one.

    At the point of a smooth boundary that is nearest to x, the way there runs along the margin's
    gradient. Where it makes an angle θ with it, the plane tangent to the margin at z comes
    nearer to x than z by the share 1 − cos θ of the distance: what a step along the boundary
    would gain if the boundary were that plane.

    Args:
        classifier: The classifier that decides, with gradients.
        x: The images.
        y: The decision on each image.
        z: A success for each image, on the boundary.

    Returns:
        The share, between 0 and 1: 0 at a stationary point, and where z is x itself; 1 where the
        margin has no gradient, as nothing shows that such a point is stationary, or where it
        falls towards x.
    """
    _, gradient = value_and_gradient(gaps(classifier, y), z)
    way = z - x
    lengths = norms(way) * norms(gradient)
    cosine = -(way * gradient).flatten(1).sum(dim=1) / lengths.clamp(min=TINY)
    return torch.where(norms(way) > 0, 1 - cosine.clamp(0.0, 1.0), 0.0)
