"""The decision boundary as attacks meet it: margins, gradients, crossings, and walks along it.

What all walks rest on: where a segment crosses the boundary, how a success is brought near it yet
clear of rounding, and which samples lie beyond it.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.classifiers.module import called, decisions, gradient_of, margin, placed

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


def unit(x: Float[Tensor, "n *image"]) -> Float[Tensor, "n *image"]:
    """x_i / ‖x_i‖₂ of each image; zeros of zeros.

    Args:
        x: The images, or differences of images.
    """
    return x / by_image(norms(x).clamp(min=TINY))


def value_and_gradient(
    function: Gap, x: Float[Tensor, "n C H W"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n C H W"]]:
    """The function's value at each image and its gradient in that image.

    Args:
        function: A function of images, each value of which depends on its image alone.
        x: The images.

    Raises:
        BayesgapError: it has no gradient, or its backward pass failed.
    """
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        value = function(z)
        return value.detach(), gradient_of(value, z)


def gaps(classifier: nn.Module, y: Int[Tensor, " n"]) -> Gap:
    """The margin of y as a function of the images: negative where the decision is another.

    Where logits are equal the margin is 0, and the first of them decides: without a gradient, a
    decision that is another by such a tie has the negative number that is next to 0.

    Args:
        classifier: The classifier that decides.
        y: The class whose margin is meant, for each image.
    """

    def gap(images: Tensor) -> Tensor:
        logits = called(classifier, images.clone())  # a forward may change its input in place
        value: Tensor = margin(logits, y).to(images.dtype)
        if torch.is_grad_enabled():
            return value
        tied = (logits.argmax(dim=1) != y) & (value >= 0)
        return torch.where(tied, -torch.finfo(value.dtype).tiny, value)

    return gap


def across(gap: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Whether decisions are others by more than a tie.

    Args:
        gap: The value of a gap at each image.
    """
    return gap < -torch.finfo(gap.dtype).tiny


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
    low, high = torch.zeros_like(norms(x)), torch.ones_like(norms(x))
    with torch.no_grad():
        for _ in range(steps):
            middle = (low + high) / 2
            crossed = across(gap(x + by_image(middle) * (z - x)))
            high = torch.where(crossed, middle, high)
            low = torch.where(crossed, low, middle)
    return torch.where(by_image(high < 1), x + by_image(high) * (z - x), z)


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
            logits = called(classifier, z.clone())
        stays = (logits.argmax(dim=1) == y) | ~logits.isfinite().all(dim=1)
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
        clear = across(gap(end))
        end = torch.where(by_image(clear), end, z)
        if (clear | (norms(z - x) == 0)).all():
            return end
        # Some are successes by a tie: twice its gap is more than one.
        tied = beyond(gap, x, bisect(lambda images: 2 * gap(images), x, z, bisections))
        return torch.where(by_image(~clear & (gap(tied) < 0)), tied, end)


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
        direction, normal = unit(ray), -unit(gradient)
        foot = by_image((direction * normal).flatten(1).sum(dim=1)) * normal
        turned = unit(direction + by_image(turns[rows]) * (foot - direction))
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
        crossed = across(value)
        low, high = torch.zeros_like(radius), radius
        for evaluation in range(CROSSINGS):
            # Newton's point, a little short of the crossing so that it stays on the far side.
            trial = high - value / slope.clamp(max=-TINY) * (1 - 0.1 ** (evaluation + 1))
            trial = torch.where((trial > low) & (trial < high), trial, (low + high) / 2)
            there = gap(x + by_image(trial) * direction)
            beyond = across(there)
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
    for index in distances.topk(min(count, len(pool)), largest=False).indices.unbind(dim=1):
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
