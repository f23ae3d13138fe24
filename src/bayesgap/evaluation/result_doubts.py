"""What is doubtful of what attacks found: does it stand, and is there nothing nearer?"""

from collections.abc import Collection, Iterator, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.closed_form import ClosedForm
from bayesgap.attacks.closest import Closest
from bayesgap.attacks.decision_walk import DecisionWalk
from bayesgap.attacks.score_walk import ScoreWalk
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
from bayesgap.evaluation.nearer import Pool, leaning_doubt, otherwise
from bayesgap.norms import L2

ENOUGH = 10  # sizes, to tell that they hardly differ
UNVARIED = 1e-3  # standard deviation over mean, of sizes that do not vary as distances do
STANDING = 0.99  # of the successes, which must be decided otherwise when asked about again
BEYOND = 1 + 1e-6  # of the distance to a sample: rounding alone ends no farther
FEW = 0.01  # of the points, that may end farther than samples
STRAIGHT = 1e-6  # 1 less the cosine, of what lies on the way to a sample
HINGING = 0.5  # share of successes that lie there
FREE_WINS, FREE_FAILS = 1.1, 1.5  # ratios of means, of attacks with and without gradients
GRADIENT_FREE = (ScoreWalk.name, DecisionWalk.name)


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
            leaning = leaning_doubt(classifier, x, best)
            doubts += [] if leaning is None else [leaning]
    return doubts


def _standing(classifier: nn.Module, best: Outcome) -> Iterator[Doubt]:
    """Are adversarial images still decided otherwise, in other batches and one by one?"""
    broken = (best.sizes.isfinite() & (best.sizes > 0)).nonzero().flatten()
    if not len(broken):
        return
    order = torch.cat([broken[start::2] for start in (0, 1)])
    stands = [
        otherwise(classifier, best.images[part], best.before[part]) for part in order.chunk(2)
    ]
    fell = int((~torch.cat(stands)).sum())
    if fell > (1 - STANDING) * len(broken):
        yield Doubt(
            UNSTABLE,
            f"{fell} of {len(broken)} adversarial images were decided as before when asked about "
            "again",
            "What is attacked must be a function of the image: look for noise, dropout, counters "
            "and layers that look at the batch.",
            voids=True,
        )


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
