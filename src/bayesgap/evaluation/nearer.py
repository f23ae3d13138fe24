"""Are there nearer images than those that attacks found? Each way to look needs other things.

By decisions a little aside, by differences of scores, by single pixels, by descents from random
points about, by the optimum's own images and by the slope of the boundary: at the nearest points
there is nothing to find, whatever the classifier is. What is found is nearer beyond doubt.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.attacks.boundary import SAFETY, bisect, by_image, gaps, norms, slack, unit
from bayesgap.attacks.closest import RESTARTED as CLOSEST_RESTARTS
from bayesgap.attacks.closest import restarted
from bayesgap.classifiers.module import outputs, placed
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.doubts import NOT_NEAREST, Doubt
from bayesgap.evaluation.measure import Outcome

LEANING = 0.05  # share by which the boundary's tangent plane is nearer than what was found
TOO_FAR = 0.2  # share on average, beyond which sizes mean nothing
MANY = 0.25  # share of the points looked at
NEARER, ON_AVERAGE = 0.03, 0.01  # shares of the size, at one point or over all, worth a doubt
ROUNDED = 0.005  # share by which rounding may lengthen a size, for nearer ones to mean something
LOOKED_AT = 32  # points whose boundary is looked at
COMPARED = 6  # points whose gradient is also taken by score differences
DIRECTIONS = 1_024  # at most, along which differences are taken
NUMBERS = 2**24  # at most, in all directions together
SCANNED = 4  # points whose pixels are changed one by one
FEW_PIXELS, SCATTERED = 16, 256  # up to which, and how often, all are changed at random
SHORT = 0.1  # share by which such a change is shorter than what was found
RESTARTED, AGAIN = 16, 2  # points that descents start about, and how many at each
STEP = 0.05  # of the distance found, over which differences are taken
SHORTER = (0.02, 0.1)  # shares by which ways are shortened that are turned aside
TURNED = (0.1, 0.3)  # from the way to what was found towards a sample
ASIDE = 8  # samples that ways are turned towards
FEW_NEARER, MOST = 0.1, 0.5  # shares of the points looked at
TURNS = (1.0, 0.5, 0.25, 0.1)  # from the way to what was found towards the difference's gradient
BISECTIONS = 12  # along a turned way


class Pool(NamedTuple):
    """Images of a task, and the decision on each."""

    images: Float[Tensor, "m C H W"]
    decided: Int[Tensor, " m"]


class Broken(NamedTuple):
    """Points that were broken, where the classifier is and in its precision."""

    images: Float[Tensor, "n C H W"]
    own: Int[Tensor, " n"]  # the decision on each
    found: Float[Tensor, "n C H W"]
    size: Float[Tensor, " n"]
    rows: Int[Tensor, " n"]  # which of the points they are

    @classmethod
    def some(
        cls, classifier: nn.Module, x: Float[Tensor, "m C H W"], best: Outcome, count: int
    ) -> "Broken":
        """Up to so many of the points that were broken, over all of them."""
        rows = (best.sizes.isfinite() & (best.sizes > 0)).nonzero().flatten()
        rows = rows[torch.linspace(0, len(rows) - 1, min(len(rows), count)).round().long()]
        images, found = placed(classifier, x[rows]), placed(classifier, best.images[rows])
        own = best.before[rows].to(images.device)
        return cls(images, own, found, norms(found - images), rows)

    def of(self, which: list[int]) -> "Broken":
        """Those of some rows alone, which may come several times."""
        return Broken(*(part[which] for part in self))


def otherwise(
    classifier: nn.Module, images: Float[Tensor, "n C H W"], own: Int[Tensor, "..."]
) -> Bool[Tensor, " n"]:
    """Whether each image is decided otherwise; by outputs that are not finite, none is.

    Args:
        classifier: The classifier, in evaluation mode.
        images: The images.
        own: The decision before, of each or of all.
    """
    out = outputs(classifier, images)
    return (out.argmax(dim=1) != own.cpu()) & out.isfinite().all(dim=1)


def clear_of_rounding(classifier: nn.Module, x: Float[Tensor, "n C H W"], best: Outcome) -> Outcome:
    """What was found at points whose distance rounding does not lengthen by a share that counts.

    Args:
        classifier: The classifier that was attacked.
        x: The points.
        best: The nearest success at each point over all attacks.

    Returns:
        The same, of infinite size where the classifier's precision is too coarse.
    """
    epsilon = torch.finfo(placed(classifier, x[:1]).dtype).eps
    rounding = SAFETY * epsilon * (norms(x.double()) + best.sizes)
    coarse = (rounding > ROUNDED * best.sizes).to(best.sizes.device)
    return replace(best, sizes=best.sizes.masked_fill(coarse, torch.inf))


def leaning_doubt(
    classifier: nn.Module, x: Float[Tensor, "n C H W"], best: Outcome
) -> Doubt | None:
    """Is the boundary at what was found at right angles to the way there, as at a nearest point?

    Args:
        classifier: The classifier that was attacked, in evaluation mode.
        x: The points.
        best: The nearest success at each point over all attacks.

    Returns:
        A doubt where tangent planes are nearer; None where they are not, or have no gradients.
    """
    broken = Broken.some(classifier, x, best, LOOKED_AT)
    try:
        share = slack(classifier, broken.images, broken.own, broken.found)
    except BayesgapError:  # there are no gradients, which is a doubt already
        return None
    leaning = share > LEANING
    if not int(leaning.sum()) > MANY * len(share):
        return None
    return Doubt(
        NOT_NEAREST,
        f"at {int(leaning.sum())} of {len(share)} adversarial images the boundary leans: its "
        f"tangent plane is nearer by {share[leaning].median().item():.0%}",
        "Attacks stopped before the nearest point, or at a kink of the boundary: sizes may be "
        "too large by so much. Add other attacks.",
    )


def turned_doubt(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    best: Outcome,
    *,
    pool: Pool,
) -> Doubt | None:
    """Are there nearer images a little aside? By decisions alone, so that nothing masks them.

    The way to what was found is turned a little towards samples of another decision, and
    shortened. At a nearest point none of that is decided otherwise.

    Args:
        classifier: The classifier that was attacked, in evaluation mode.
        x: The points.
        best: The nearest success at each point over all attacks.
        pool: Images of the task, of which some are decided otherwise than a point.

    Returns:
        A doubt whose evidence is nearer adversarial images; None where there are none.
    """
    images, own, found, size, rows = Broken.some(classifier, x, best, LOOKED_AT)
    samples = placed(classifier, pool.images)
    distances = torch.cdist(images.flatten(1), samples.flatten(1))
    same = best.before[rows][:, None] == pool.decided[None]
    distances = distances.masked_fill(same.to(distances.device), torch.inf)
    nearest = distances.topk(min(ASIDE, len(samples)), largest=False)
    away = (found - images) / by_image(size)
    nearer = torch.zeros(len(SHORTER), len(rows), dtype=torch.bool)
    for place in range(nearest.indices.shape[1]):
        sample = samples[nearest.indices[:, place]]
        way = unit(sample - images)
        there = nearest.values[:, place].isfinite().cpu()
        for share in TURNED:
            turned = unit((1 - share) * away + share * way)
            for level, shorter in enumerate(SHORTER):
                ends = images + by_image((1 - shorter) * size) * turned
                nearer[level] |= otherwise(classifier, ends, own) & there
    little, much = nearer.sum(dim=1).tolist()
    if not little > FEW_NEARER * len(rows):
        return None
    return Doubt(
        NOT_NEAREST,
        f"at {little} of {len(rows)} points an image a little aside of what was found, nearer by "
        f"{SHORTER[0]:.0%}, is decided otherwise too; at {much} one nearer by {SHORTER[1]:.0%}",
        "Attacks stopped short, or gradients lead them astray: add others, such as those that go "
        "by scores or decisions.",
        voids=much >= MOST * len(rows),
    )


def changes_doubt(
    classifier: nn.Module, x: Float[Tensor, "n C H W"], best: Outcome
) -> Doubt | None:
    """Do changes that no slope leads to make another decision, nearer? By decisions alone.

    One pixel alone is changed, which matters beyond a threshold only where it is a trigger; and
    where there are few pixels, random changes are tried as well.

    Args:
        classifier: The classifier that was attacked, in evaluation mode.
        x: The points.
        best: The nearest success at each point over all attacks.

    Returns:
        A doubt whose evidence is nearer adversarial images; None where there are none.
    """
    generator, pixels = torch.Generator().manual_seed(0), x[0].numel()
    chosen = torch.randperm(pixels, generator=generator)[: _directions(pixels)]
    axes = torch.nn.functional.one_hot(chosen, pixels).float()
    ways = {f"one pixel alone, changed by {1 - SHORT:.0%} of": (SCANNED, torch.cat([axes, -axes]))}
    if pixels <= FEW_PIXELS:
        drawn = torch.randn(SCATTERED, pixels, generator=generator)
        radii = torch.rand(SCATTERED, 1, generator=generator) ** (1 / pixels)  # uniform in a ball
        scattered = radii * drawn / drawn.norm(dim=1, keepdim=True)
        ways[f"a random change of up to {1 - SHORT:.0%} of"] = LOOKED_AT, scattered
    for what, (count, changes) in ways.items():
        broken = Broken.some(classifier, x, best, count)
        changes = changes.view(-1, *x.shape[1:]).to(broken.images)
        flipped = torch.stack(
            [
                otherwise(classifier, image + (1 - SHORT) * size * changes, own)
                for image, own, _, size, _ in zip(*broken, strict=True)
            ]
        )
        points = flipped.any(dim=1)
        if points.any():
            return Doubt(
                NOT_NEAREST,
                f"{what} the distance found, changes the decision on {int(points.sum())} of "
                f"{len(points)} points ({int(flipped.any(dim=0).sum())} of {len(changes)} such "
                "changes do)",
                "No slope leads there, as to a trigger: sizes are too large.",
                voids=points.double().mean().item() >= MOST,
            )
    return None


def certified_doubt(
    classifier: nn.Module, best: Outcome, upper: Float[Tensor, " n"], images: Tensor
) -> Doubt | None:
    """Are the optimum's nearest images of another decision decided otherwise, and nearer?

    Args:
        classifier: The classifier that was attacked, in evaluation mode.
        best: The nearest success at each point over all attacks.
        upper: The distance of each of the optimum's images; infinite where there is none.
        images: The optimum's images, (n, C, H, W).
    """
    other = otherwise(classifier, images, best.before)
    nearer = other & (upper < (1 - SHORTER[0]) * best.sizes) & best.sizes.isfinite()
    if not int(nearer.sum()) > FEW_NEARER * len(upper):
        return None
    return Doubt(
        NOT_NEAREST,
        f"at {int(nearer.sum())} of {len(upper)} points the optimum's own adversarial image is "
        f"nearer, on average {(best.sizes / upper)[nearer].clamp(max=1e3).mean():.3g} times",
        "Attacks stopped short: add others.",
    )


def differences_doubt(
    classifier: nn.Module, x: Float[Tensor, "n C H W"], best: Outcome
) -> Doubt | None:
    """Do differences of scores show nearer images than gradients led to? Looked at on a few.

    Args:
        classifier: The classifier that was attacked, in evaluation mode.
        x: The points.
        best: The nearest success at each point over all attacks.

    Returns:
        A doubt whose evidence is nearer adversarial images; None where there are none.
    """
    broken = Broken.some(classifier, x, best, COMPARED)
    basis = _basis(broken.found)
    each = [_nearer(classifier, broken.of([k]), basis) for k in range(len(broken.own))]
    shares = torch.tensor(each)
    return _shares_doubt(
        shares,
        "differences of scores show images",
        "Attacks stopped short, or their gradients lead astray: add others, such as those that go "
        "by scores or decisions.",
    )


def restarts_doubt(
    classifier: nn.Module, x: Float[Tensor, "n C H W"], best: Outcome
) -> Doubt | None:
    """Do descents from random points about what was found end nearer? Looked at on a few.

    They do where the boundary has many points that are nearest among their neighbours.

    Args:
        classifier: The classifier that was attacked, in evaluation mode and with gradients.
        x: The points.
        best: The nearest success at each point over all attacks.

    Returns:
        A doubt whose evidence is nearer adversarial images; None where there are none.
    """
    broken = Broken.some(classifier, x, best, RESTARTED)
    images, own, found, size, _ = broken.of(list(range(len(broken.own))) * AGAIN)
    ends = restarted(classifier, images, own, found, 1)
    shares = 1 - (norms(ends - images) / size).view(AGAIN, -1).amin(dim=0)
    return _shares_doubt(
        shares,
        "descents from random points about end",
        f'The boundary has many local minima: add attacks, such as "{CLOSEST_RESTARTS}"; sizes may '
        "still be too large.",
    )


def _shares_doubt(shares: Float[Tensor, " n"], what: str, remedy: str) -> Doubt | None:
    """A doubt where distances were shortened by shares worth it, at one point or on average."""
    better = shares > NEARER
    if not better.any() and not shares.mean() > ON_AVERAGE:
        return None
    better = shares > 0 if not better.any() else better
    return Doubt(
        NOT_NEAREST,
        f"{what} nearer by {shares[better].mean().item():.0%} at {int(better.sum())} of "
        f"{len(shares)} points",
        remedy,
        voids=shares.mean().item() > TOO_FAR,
    )


def _nearer(classifier: nn.Module, broken: Broken, basis: Float[Tensor, "k C H W"]) -> float:
    """The share of its distance by which the adversarial image of one point gets nearer.

    The way to it is turned towards the gradient that score differences give, and bisected.
    """
    x, own, found, size, _ = broken
    normal = _difference_gradient(classifier, own, found, basis, STEP * size.item())
    length = normal.norm()
    if not length > 0:
        return 0.0
    away = (found - x) / size
    ways = unit(torch.cat([(1 - turn) * away - turn * normal / length for turn in TURNS]))
    gap = gaps(classifier, own.expand(len(TURNS)))
    start, end = x.expand_as(ways), x + size * ways
    with torch.no_grad():
        crossed = gap(end) < 0
    reached = norms(bisect(gap, start, end, BISECTIONS) - start)
    least = torch.where(crossed, reached, size).amin()
    return 1 - (least / size).item()


def _directions(pixels: int) -> int:
    """Along how many directions images of so many pixels are looked at."""
    return min(DIRECTIONS, max(1, NUMBERS // pixels), pixels)


def _basis(like: Float[Tensor, "n C H W"]) -> Float[Tensor, "k C H W"]:
    """Directions of length 1 at right angles: all pixels, or a random subspace of large images."""
    pixels = like[0].numel()
    count = _directions(pixels)
    if count == pixels:
        basis = torch.eye(pixels)
    else:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(pixels, count, generator=generator, dtype=torch.float64)
        basis = torch.linalg.qr(drawn).Q.mT
    return basis.reshape(-1, *like.shape[1:]).to(like)


def _difference_gradient(
    classifier: nn.Module,
    own: Int[Tensor, " 1"],
    z: Float[Tensor, "1 C H W"],
    basis: Float[Tensor, "k C H W"],
    step: float,
) -> Float[Tensor, "1 C H W"]:
    """The gradient of the margin by central differences, within the basis' span."""
    slopes = []
    with torch.no_grad():
        for part in basis.split(256):
            gap = gaps(classifier, own.expand(len(part)))
            slopes.append(gap(z + step * part) - gap(z - step * part))
    return (torch.cat(slopes).to(basis) @ basis.flatten(1)).reshape(z.shape)
