"""From attacks to numbers: accuracies, success, mean L2 and the pixels that changed.

An attack is asked to change the *decision* of every point, of the misclassified ones too: the
paper's adversarial accuracy counts all attacked points, and its clean and adversarial
accuracies add up to 100 % when every attack succeeds. Mean L2 is over successful attacks on
points that were decided correctly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.classifiers.module import decisions, evaluating
from bayesgap.evaluation.statistics import mean_with_interval, ratio_with_interval

NORM = "L2"
HEADLINE_SUCCESS = 0.99  # a mean over fewer successes would flatter
PIXEL_UNIT = 1 / 255
ROUNDING = 1e-9  # units: 5 levels of 8 bits may differ by a little more than 5/255
SMALL_CHANGE = 5  # units; the paper looks at the share of pixels within 5/255
HISTOGRAM_LIMIT = 101  # units; larger changes are counted in the outermost bins
HISTOGRAM_STEP = 2  # odd edges put the unchanged pixels into the middle of a bin


@dataclass(frozen=True)
class Outcome:
    """One attack on one trained classifier.

    Attributes:
        before: The decision on each point.
        after: The decision on what the attack made of it.
        l2: Size of the change; infinite where the decision stayed.
        images: What the attack made of the points.
    """

    before: Int[Tensor, " points"]
    after: Int[Tensor, " points"]
    l2: Float[Tensor, " points"]
    images: Float[Tensor, "points C H W"]


def attack_decisions(classifier: nn.Module, attack: Attack, x: Float[Tensor, "n C H W"]) -> Outcome:
    """Attack the decision on every point, whether it is correct or not."""
    with evaluating(classifier):
        before = decisions(classifier, x)
        found = attack(classifier, x, before)
        return Outcome(before, decisions(classifier, found.images), found.l2, found.images)


def best_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """For each point the nearest of several attacks' successes on the same classifier.

    An attack may have seen only the first points; the first of the outcomes must have seen all.
    """
    first = outcomes[0]
    after, l2, images = first.after.clone(), first.l2.clone(), first.images.clone()
    for other in outcomes[1:]:
        nearer = (other.l2 < l2[: len(other.l2)]).nonzero().flatten()
        after[nearer], l2[nearer], images[nearer] = (
            other.after[nearer],
            other.l2[nearer],
            other.images[nearer],
        )
    return Outcome(first.before, after, l2, images)


def summarise(
    outcomes: Sequence[Outcome],
    y: Int[Tensor, " points"],
    *,
    among: Bool[Tensor, " points"] | None = None,
) -> dict[str, Any]:
    """The numbers of one attack on one kind of classifier, over its training seeds.

    Args:
        outcomes: One for each training seed, all on the same points.
        y: The labels.
        among: Which points to count; all by default.

    Returns:
        Accuracies and rates in [0, 1], mean L2 in pixel units with its 95 % interval (None
        where nothing succeeded), and how many points were decided correctly but not broken.
    """
    chosen = torch.ones_like(y, dtype=torch.bool) if among is None else among
    y = y[chosen]
    before = torch.stack([outcome.before[chosen] for outcome in outcomes])
    after = torch.stack([outcome.after[chosen] for outcome in outcomes])
    l2 = torch.stack([outcome.l2[chosen] for outcome in outcomes])
    correct, broken = before == y, l2.isfinite()
    mean, low, high = mean_with_interval(torch.where(correct & broken, l2, torch.nan))
    return {
        "norm": NORM,
        "seeds": len(outcomes),
        "points": len(y),
        "clean_accuracy": _share(correct),
        "robust_accuracy": _share(correct & ~broken),
        "adversarial_accuracy": _share(after == y),
        "success_rate": _share(broken[correct]),
        "unbroken": int((correct & ~broken).sum()),
        "mean_l2": mean,
        # Student's interval over few trainings may reach below what a norm can be.
        "mean_l2_low": low if low is None else max(0.0, low),
        "mean_l2_high": high,
    }


def l2_table(
    outcomes: Sequence[Outcome], y: Int[Tensor, " points"]
) -> Float[Tensor, "seeds points"]:
    """L2 of successful attacks on correctly decided points, NaN elsewhere."""
    rows = [
        torch.where((outcome.before == y) & outcome.l2.isfinite(), outcome.l2, torch.nan)
        for outcome in outcomes
    ]
    return torch.stack(rows)


def gap_to_optimum(
    l2: Float[Tensor, "seeds points"],
    lower: Float[Tensor, " points"] | None,
    success_rate: float | None,
) -> dict[str, Any]:
    """How much less robust a classifier is than the optimum provably is.

    1 − (mean L2 needed against the classifier) / (mean certified lower bound of the optimum),
    over the broken points that both decide correctly. The attack bounds the classifier from above,
    the certificate the optimum from below, so over these points the true gap is at least this.

    Args:
        l2: What `l2_table` gives.
        lower: The optimum's certified lower bounds, NaN where it decides wrongly; None where the
            optimum is not known.
        success_rate: Of the attacks; without 0.99 there is no gap.

    Returns:
        `gap` with its 95 % interval `gap_low` to `gap_high`, all None where there is none, and
        `no_gap` with the reason.
    """
    none = {"gap": None, "gap_low": None, "gap_high": None}
    if lower is None:
        return {**none, "no_gap": "the optimum is not known"}
    if success_rate is None:
        return {**none, "no_gap": "the classifier decides no point correctly"}
    if success_rate < HEADLINE_SUCCESS:
        reason = f"only {success_rate:.1%} of the points were broken, not {HEADLINE_SUCCESS:.0%}"
        return {**none, "no_gap": reason}
    ratio, low, high = ratio_with_interval(l2, lower[None])
    if ratio is None or low is None or high is None:
        return {**none, "no_gap": "no point is decided correctly by both"}
    return {"gap": 1 - ratio, "gap_low": 1 - high, "gap_high": 1 - low, "no_gap": None}


def pixel_changes(
    x: Float[Tensor, "n C H W"],
    images: Float[Tensor, "n C H W"],
    *,
    at: Bool[Tensor, "seeds points"] | None = None,
) -> dict[str, Any]:
    """How much each pixel changed, in units of 1/255.

    Args:
        x: Original images.
        images: What became of them.
        at: Of which training seed and point they are, row by row; by default of as many points
            under one seed.

    Returns:
        The share of pixels within 5 units of their original value, with its 95 % interval over
        seeds and points, and a histogram of signed changes: counts in bins of 2 units from −101
        to 101, whose outermost also hold what lies beyond.
    """
    changes = ((images.double() - x.double()) / PIXEL_UNIT).flatten(1).cpu()
    small = (changes.abs() <= SMALL_CHANGE + ROUNDING).double().mean(dim=1)
    at = torch.ones(1, len(small), dtype=torch.bool) if at is None else at
    table = torch.full(at.shape, torch.nan, dtype=torch.float64).masked_scatter(at, small)
    share, low, high = mean_with_interval(table)
    edges = torch.arange(-HISTOGRAM_LIMIT, HISTOGRAM_LIMIT + 1, HISTOGRAM_STEP).double()
    inside = changes.flatten().clamp(min=-HISTOGRAM_LIMIT, max=HISTOGRAM_LIMIT)
    counts, _ = torch.histogram(inside, edges)
    return {
        "share_within_5": share,
        "share_within_5_low": low,
        "share_within_5_high": high,
        "pixel_histogram": {"edges": edges.tolist(), "counts": counts.long().tolist()},
    }


def _share(which: Bool[Tensor, "..."]) -> float | None:
    return which.double().mean().item() if which.numel() else None
