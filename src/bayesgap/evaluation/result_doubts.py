"""What is doubtful of what attacks found: does it stand, and is there nothing nearer?"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.attacks.boundary import bisect, by_image, gaps, norms, slack
from bayesgap.attacks.closed_form import ClosedForm
from bayesgap.attacks.closest import Closest
from bayesgap.attacks.decision_walk import DecisionWalk
from bayesgap.attacks.score_walk import ScoreWalk
from bayesgap.classifiers.module import outputs, placed
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.doubts import (
    ALIKE,
    ATTACKS,
    BATCH,
    FARTHER,
    NOT_NEAREST,
    OF_GRADIENTS,
    RANDOM,
    SAMPLES,
    UNBROKEN,
    UNSTABLE,
    Doubt,
)
from bayesgap.evaluation.measure import HEADLINE_SUCCESS, Outcome, Summary
from bayesgap.norms import L2

ENOUGH = 10  # sizes, to tell that they hardly differ
UNVARIED = 1e-3  # standard deviation over mean, of sizes that do not vary as distances do
STANDING = 0.99  # of the successes, which must be decided otherwise when asked about again
BEYOND = 1 + 1e-6  # of the distance to a sample: rounding alone ends no farther
FEW = 0.01  # of the points, that may end farther than samples
STRAIGHT = 1e-6  # 1 less the cosine, of what lies on the way to a sample
HINGING = 0.5  # share of successes that lie there
LEANING = 0.05  # share by which the boundary's tangent plane is nearer than what was found
TOO_FAR = 0.2  # share on average, beyond which sizes mean nothing
MANY = 0.25  # share of the points looked at
NEARER = 0.03  # share by which score differences find a nearer image, to be worth a doubt
LOOKED_AT = 32  # points whose boundary is looked at
COMPARED = 8  # points whose gradient is also taken by score differences
DIRECTIONS = 1_024  # at most, along which differences are taken
STEP = 0.05  # of the distance found, over which differences are taken
SHORTER = (0.02, 0.1)  # shares by which ways are shortened that are turned aside
TURNED = (0.1, 0.3)  # from the way to what was found towards a sample
ASIDE = 8  # samples that ways are turned towards
FEW_NEARER, MOST = 0.1, 0.5  # shares of the points looked at
TURNS = (1.0, 0.5, 0.25, 0.1)  # from the way to what was found towards the difference's gradient
BISECTIONS = 12  # along a turned way
FREE_WINS, FREE_FAILS = 1.1, 1.5  # ratios of means, of attacks with and without gradients
GRADIENT_FREE = (ScoreWalk.name, DecisionWalk.name)


class Pool(NamedTuple):
    """Images of a task, and the decision on each."""

    images: Float[Tensor, "m C H W"]
    decided: Int[Tensor, " m"]


def result_doubts(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    best: Outcome,
    summary: Summary,
    outcomes: Mapping[str, Outcome],
    pool: Pool,
    *,
    known: Collection[str],
    boxed: bool = False,
) -> list[Doubt]:
    """Examine what attacks found of a classifier in evaluation mode.

    Args:
        classifier: The classifier that was attacked.
        x: The points.
        y: The label of each point.
        best: The nearest success at each point over all attacks.
        summary: The numbers of `best`.
        outcomes: What each attack found, by its name.
        pool: Images of the task, of which some are decided otherwise than a point.
        known: The names of what is doubted already.
        boxed: Whether adversarial images were confined to a box, in which the nearest ones may
            lie anywhere on its sides.
    """
    doubts = [*_standing(classifier, best)]
    if {RANDOM, BATCH} & set(known):  # of what is no function of the image there is no more to say
        return doubts
    doubts += [*_unbroken(summary, best, y, outcomes), *_beside(outcomes), *_alike(best)]
    if best.norm == L2 and best.sizes.isfinite().any() and not boxed:
        doubts += _samples(x, best, pool, outcomes)
        if ClosedForm.name not in outcomes and not (OF_GRADIENTS | {NOT_NEAREST}) & set(known):
            doubts += _leaning(classifier, x, best)
    return doubts


def _standing(classifier: nn.Module, best: Outcome) -> Iterator[Doubt]:
    """Are adversarial images still decided otherwise, in other batches and one by one?"""
    broken = (best.sizes.isfinite() & (best.sizes > 0)).nonzero().flatten()
    if not len(broken):
        return
    order = torch.cat([broken[start::2] for start in (0, 1)])
    again = torch.cat([_decided(classifier, best.images[part]) for part in order.chunk(2)])
    fell = int((again == best.before[order]).sum())
    if fell > (1 - STANDING) * len(broken):
        yield Doubt(
            UNSTABLE,
            f"{fell} of {len(broken)} adversarial images were decided as before when asked about "
            "again",
            "What is attacked must be a function of the image: look for noise, dropout, counters "
            "and layers that look at the batch.",
            voids=True,
        )


def _decided(classifier: nn.Module, images: Float[Tensor, "n C H W"]) -> Int[Tensor, " n"]:
    return outputs(classifier, images).argmax(dim=1)


def _unbroken(
    summary: Summary, best: Outcome, y: Int[Tensor, " n"], outcomes: Mapping[str, Outcome]
) -> Iterator[Doubt]:
    """Were nearly all points broken, and of each class, however small its prior is?"""
    correct = best.before == y
    shares = [
        best.sizes[correct & (y == k)].isfinite().double().mean() for k in y[correct].unique()
    ]
    if summary.unbroken and (not summary.complete or min(shares) < HEADLINE_SUCCESS):
        yield Doubt(
            UNBROKEN,
            f"{summary.unbroken} of the correctly decided points were not broken, more than "
            f"{1 - HEADLINE_SUCCESS:.0%} of all or of a class",
            f"The mean {summary.norm.name} leaves them out, and says little{_advice(outcomes)}",
            voids=True,
        )


def _advice(outcomes: Mapping[str, Outcome]) -> str:
    """The end of a remedy: an attack that was not run yet and cannot fail for want of a start."""
    if Closest.name in outcomes:
        return ": add other attacks."
    return f': add attacks, such as "{Closest.name}", which starts from samples too.'


def _alike(best: Outcome) -> Iterator[Doubt]:
    """Do sizes differ, as distances do, or are they those that an attack was set to?"""
    sizes = best.sizes[best.sizes.isfinite() & (best.sizes > 0)].double()
    if len(sizes) >= ENOUGH and sizes.std() < UNVARIED * sizes.mean():
        yield Doubt(
            ALIKE,
            f"all {len(sizes)} lie within {(sizes.max() / sizes.min() - 1).item():.2g} of "
            f"{sizes.mean().item():.4g}",
            "An attack within a fixed radius finds images at that radius: take one that minimises, "
            'such as "closest".',
            voids=True,
        )


def _beside(outcomes: Mapping[str, Outcome]) -> Iterator[Doubt]:
    """Attacks with and without gradients beside each other, over what both broke."""
    free = [outcome for name, outcome in outcomes.items() if name in GRADIENT_FREE]
    others = [outcome for name, outcome in outcomes.items() if name not in GRADIENT_FREE]
    if not free or not others:
        return
    sides = [torch.stack([o.sizes for o in side]).amin(dim=0) for side in (others, free)]
    both = torch.stack(sides)[:, torch.stack(sides).isfinite().all(dim=0)]
    if not both.shape[1]:
        return
    follows, goes_without = both.mean(dim=1).tolist()
    if follows > FREE_WINS * goes_without or goes_without > FREE_FAILS * follows:
        yield Doubt(
            ATTACKS,
            f"over the same points those that follow gradients need {follows:.4g} on average, "
            f"those that do not {goes_without:.4g}",
            "The nearer ones count. Where gradients lose they are masked; where they win by much, "
            "the others had too few queries.",
        )


def _samples(
    x: Float[Tensor, "n C H W"],
    best: Outcome,
    pool: Pool,
    outcomes: Mapping[str, Outcome],
) -> Iterator[Doubt]:
    """Is anything nearer than the nearest sample of another decision, or than the way there?"""
    flat, samples = x.double().flatten(1), pool.images.double().flatten(1)
    distances = torch.cdist(flat, samples)
    same = best.before[:, None] == pool.decided[None]
    least, nearest = distances.masked_fill(same, torch.inf).min(dim=1)
    broken = best.sizes.isfinite() & least.isfinite() & (best.sizes > 0)
    if not broken.any():
        return
    farther = broken & (best.sizes > BEYOND * least)
    if int(farther.sum()) > FEW * int(broken.sum()):
        yield Doubt(
            FARTHER,
            f"{int(farther.sum())} of {int(broken.sum())} adversarial images are farther away "
            "than a sample that is decided otherwise",
            f"The attacks failed there{_advice(outcomes)}",
            voids=True,
        )
    change = best.images.double().flatten(1) - flat
    way = samples[nearest] - flat
    cosine = (change * way).sum(dim=1) / (change.norm(dim=1) * way.norm(dim=1)).clamp(min=1e-300)
    straight = broken & (cosine > 1 - STRAIGHT)
    if int(straight.sum()) > HINGING * int(broken.sum()) and x[0].numel() > 1:
        yield Doubt(
            SAMPLES,
            f"{int(straight.sum())} of {int(broken.sum())} adversarial images lie straight on the "
            "way to a sample of another decision",
            "Attacks only bisected towards samples, and found no slope to follow: the sizes say "
            "how far samples are.",
            voids=True,
        )


def _leaning(classifier: nn.Module, x: Float[Tensor, "n C H W"], best: Outcome) -> Iterator[Doubt]:
    """Is the boundary at what was found at right angles to the way there, as at a nearest point?"""
    rows = _some(best, LOOKED_AT)
    images, own, found = _at(classifier, x, best, rows)
    try:
        share = slack(classifier, images, own, found)
    except BayesgapError:  # there are no gradients, which is a doubt already
        return
    leaning = share > LEANING
    if len(share) and int(leaning.sum()) > MANY * len(share):
        yield Doubt(
            NOT_NEAREST,
            f"at {int(leaning.sum())} of {len(share)} adversarial images the boundary leans: its "
            f"tangent plane is nearer by {share[leaning].median().item():.0%}",
            "Attacks stopped before the nearest point, or at a kink of the boundary: sizes may be "
            "too large by so much. Add other attacks.",
            voids=share.mean().item() > TOO_FAR,
        )


def turned_doubt(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    best: Outcome,
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
    rows = _some(best, LOOKED_AT)
    if best.norm != L2 or not len(rows):
        return None
    images, own, found = _at(classifier, x, best, rows)
    samples = placed(classifier, pool.images)
    distances = torch.cdist(images.flatten(1), samples.flatten(1))
    same = best.before[rows][:, None] == pool.decided[None]
    distances = distances.masked_fill(same.to(distances.device), torch.inf)
    nearest = distances.topk(min(ASIDE, len(samples)), largest=False)
    size = norms(found - images)
    away = (found - images) / by_image(size)
    nearer = torch.zeros(len(SHORTER), len(rows), dtype=torch.bool)
    for place in range(nearest.indices.shape[1]):
        sample = samples[nearest.indices[:, place]]
        way = (sample - images) / by_image(norms(sample - images).clamp(min=1e-30))
        there = nearest.values[:, place].isfinite().cpu()
        for share in TURNED:
            turned = (1 - share) * away + share * way
            turned = turned / by_image(norms(turned).clamp(min=1e-30))
            for level, shorter in enumerate(SHORTER):
                ends = images + by_image((1 - shorter) * size) * turned
                nearer[level] |= (_decided(classifier, ends) != own.cpu()) & there
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
    other = _decided(classifier, images) != best.before
    nearer = other & upper.isfinite() & (upper < (1 - SHORTER[0]) * best.sizes)
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
    rows = _some(best, COMPARED)
    if best.norm != L2 or not len(rows):
        return None
    images, own, found = _at(classifier, x, best, rows)
    shares = torch.tensor(
        [
            _nearer(classifier, images[k : k + 1], own[k : k + 1], found[k : k + 1])
            for k in range(len(rows))
        ]
    )
    better = shares > NEARER
    if not better.any():
        return None
    return Doubt(
        NOT_NEAREST,
        f"differences of scores show images nearer by {shares[better].mean().item():.0%} at "
        f"{int(better.sum())} of {len(rows)} points",
        "Attacks stopped short, or their gradients lead astray: add others, such as those that go "
        "by scores or decisions.",
        voids=shares.mean().item() > TOO_FAR,
    )


def _nearer(
    classifier: nn.Module,
    x: Float[Tensor, "1 C H W"],
    own: Int[Tensor, " 1"],
    found: Float[Tensor, "1 C H W"],
) -> float:
    """The share of its distance by which an adversarial image gets nearer to x.

    The way to it is turned towards the gradient that score differences give, and bisected.
    """
    size = norms(found - x)
    normal = _difference_gradient(classifier, own, found, STEP * size.item())
    length = normal.norm()
    if not length > 0:
        return 0.0
    away = (found - x) / size
    ways = torch.cat([(1 - turn) * away - turn * normal / length for turn in TURNS])
    ways = ways / by_image(norms(ways).clamp(min=1e-30))
    gap = gaps(classifier, own.expand(len(TURNS)))
    start, end = x.expand_as(ways), x + size * ways
    with torch.no_grad():
        crossed = gap(end) < 0
    reached = norms(bisect(gap, start, end, BISECTIONS) - start)
    least = torch.where(crossed, reached, size).amin()
    return 1 - (least / size).item()


def _difference_gradient(
    classifier: nn.Module, own: Int[Tensor, " 1"], z: Float[Tensor, "1 C H W"], step: float
) -> Float[Tensor, "1 C H W"]:
    """The gradient of the margin by central differences, within a subspace of large images."""
    pixels = z[0].numel()
    if pixels <= DIRECTIONS:
        basis = torch.eye(pixels, dtype=z.dtype, device=z.device)
    else:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(pixels, DIRECTIONS, generator=generator, dtype=torch.float64)
        basis = torch.linalg.qr(drawn).Q.mT.to(z)
    gap = gaps(classifier, own.expand(1))
    slopes = []
    with torch.no_grad():
        for part in basis.reshape(-1, *z.shape[1:]).split(256):
            gap = gaps(classifier, own.expand(len(part)))
            slopes.append(gap(z + step * part) - gap(z - step * part))
    return (torch.cat(slopes).to(basis) @ basis).reshape(z.shape)


def _some(best: Outcome, count: int) -> Int[Tensor, " few"]:
    """Up to so many of the points that were broken, over all of them."""
    broken: Bool[Tensor, " n"] = best.sizes.isfinite() & (best.sizes > 0)
    rows = broken.nonzero().flatten()
    return rows[torch.linspace(0, len(rows) - 1, min(len(rows), count)).round().long()]


def _at(
    classifier: nn.Module, x: Float[Tensor, "n C H W"], best: Outcome, rows: Int[Tensor, " few"]
) -> tuple[Float[Tensor, "few C H W"], Int[Tensor, " few"], Float[Tensor, "few C H W"]]:
    """Points, decisions and adversarial images of some rows, as the classifier takes them."""
    images = placed(classifier, x[rows])
    return images, best.before[rows].to(images.device), placed(classifier, best.images[rows])
