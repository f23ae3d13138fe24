"""From attacks to numbers: accuracies, success, mean sizes and the pixels that changed.

An attack is asked to change the *decision* of every point, of the misclassified ones too: the
paper's adversarial accuracy counts all attacked points, and its clean and adversarial
accuracies add up to 100 % when every attack succeeds. Mean sizes are over successful attacks on
points that were decided correctly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Adversarials, Attack
from bayesgap.classifiers.module import Boxed, decisions, evaluating
from bayesgap.errors import BayesgapError
from bayesgap.estimates import UNKNOWN, Estimate
from bayesgap.evaluation.statistics import mean_with_interval, ratio_with_interval
from bayesgap.norms import L2, Norm

CERTIFIED_NORM = L2  # of the optimum's certificates
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
        before: The classifier's decision on each point.
        after: The classifier's decision on what the attack made of each point.
        sizes: The size of each change in pixel units; infinite where the decision stayed.
        images: What the attack made of the points.
        norm: What the sizes were measured by.
    """

    before: Int[Tensor, " points"]
    after: Int[Tensor, " points"]
    sizes: Float[Tensor, " points"]
    images: Float[Tensor, "points C H W"]
    norm: Norm = L2


@dataclass(frozen=True)
class Summary:
    """The numbers of one attack on one kind of classifier, over its trainings.

    Attributes:
        norm: What perturbations were measured by.
        seeds: How many trained classifiers were attacked.
        points: How many points each of them was attacked at.
        clean_accuracy: The share of points that were decided correctly before the attack.
        robust_accuracy: The share of points that were decided correctly and not broken.
        adversarial_accuracy: The share of all points, misclassified ones included, that are
            decided correctly after the attack.
        success_rate: The share of correctly decided points that were broken; None without any.
        unbroken: How many correctly decided points were not broken.
        mean: The mean size over successes on correctly decided points, in pixel units: an
            understatement where the success rate is below 0.99.
    """

    norm: Norm
    seeds: int
    points: int
    clean_accuracy: float | None
    robust_accuracy: float | None
    adversarial_accuracy: float | None
    success_rate: float | None
    unbroken: int
    mean: Estimate

    @property
    def complete(self) -> bool:
        """Whether so many points were broken that the mean says something."""
        return self.success_rate is not None and self.success_rate >= HEADLINE_SUCCESS

    def record(self) -> dict[str, Any]:
        """The numbers under the keys of `results.json`, such as `mean_l2`."""
        plain = (each.name for each in fields(self) if each.name not in ("norm", "mean"))
        values = {name: getattr(self, name) for name in plain}
        return {"norm": self.norm.name, **values, **self.mean.record(f"mean_{self.norm.key}")}


@dataclass(frozen=True)
class Gap:
    """How much less robust a classifier is than the optimum provably is.

    Attributes:
        estimate: 1 − (mean size needed against the classifier) / (mean certified lower bound of
            the optimum), over the broken points that both decide correctly. The attack bounds the
            classifier from above, the certificate the optimum from below, so over these points
            the true gap is at least this. Unknown where there is none.
        reason: Why there is no gap; None where there is one.
    """

    estimate: Estimate
    reason: str | None = None

    @property
    def ratio(self) -> Estimate:
        """Mean size needed against the classifier over the optimum's: 1 less the gap."""
        value, low, high = self.estimate
        if value is None or low is None or high is None:
            return UNKNOWN
        return Estimate(1 - value, 1 - high, 1 - low)

    def record(self) -> dict[str, Any]:
        """The numbers and the reason under the keys of `results.json`."""
        return {**self.estimate.record("gap"), "no_gap": self.reason}


@dataclass(frozen=True)
class PixelChanges:
    """How much each pixel changed, in units of 1/255.

    Attributes:
        share_within_5: The share of pixels within 5 units of their original value, over seeds
            and points.
        edges: The edges of the histogram's bins, in units; the outermost bins hold all beyond.
        counts: How many pixels changed by an amount within each bin.
    """

    share_within_5: Estimate
    edges: list[float] = field(repr=False)
    counts: list[int] = field(repr=False)

    def record(self) -> dict[str, Any]:
        """The share and the histogram under the keys of `results.json`."""
        histogram = {"edges": self.edges, "counts": self.counts}
        return {**self.share_within_5.record("share_within_5"), "pixel_histogram": histogram}


def attack_decisions(
    classifier: nn.Module,
    attack: Attack,
    x: Float[Tensor, "n C H W"],
    *,
    norm: Norm = L2,
    box: tuple[float, float] | None = None,
) -> Outcome:
    """Attack the decision on every point, whether it is correct or not.

    Args:
        classifier: The classifier to attack.
        attack: The attack.
        x: The points.
        norm: What perturbations are measured by.
        box: Smallest and largest pixel value of adversarial images; None for no limits.
    """
    with evaluating(classifier):
        before = decisions(classifier, x)
        if box is not None:
            return _within(classifier, attack, x, before, norm, box)
        found = _found(attack, classifier, x, before, norm)
        after = decisions(classifier, found.images)
        return Outcome(before, after, found.sizes, found.images, norm)


def _found(
    attack: Attack,
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    before: Int[Tensor, " n"],
    norm: Norm,
) -> Adversarials:
    found: object = attack(classifier, x, before, norm=norm)
    if not isinstance(found, Adversarials):
        raise BayesgapError(
            f"Calling the attack {attack.name} gives Adversarials; it gave a "
            f"{type(found).__name__}: leave __call__ to Attack, and return images from run."
        )
    return found


def _within(
    classifier: nn.Module,
    attack: Attack,
    x: Float[Tensor, "n C H W"],
    before: Int[Tensor, " n"],
    norm: Norm,
    box: tuple[float, float],
) -> Outcome:
    """Attack the classifier of clipped images, and clip what is found.

    Of a point in the box, clipping takes an image nowhere further from it, and each image in the
    box is its own clipping: so the nearest of the one problem is the nearest of the other.
    """
    found = _found(attack, Boxed(classifier, box), x, before, norm)
    images = found.images.clamp(*box)
    after = decisions(classifier, images)
    broken = found.success & (after != before)
    sizes = norm.size(images.double() - x.double().cpu())
    return Outcome(before, after, torch.where(broken, sizes, torch.inf), images, norm)


def best_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """For each point the nearest of several attacks' successes on the same classifier.

    An attack may have seen only the first points; the first of the outcomes must have seen all.
    """
    first = outcomes[0]
    after, sizes, images = first.after.clone(), first.sizes.clone(), first.images.clone()
    for other in outcomes[1:]:
        nearer = (other.sizes < sizes[: len(other.sizes)]).nonzero().flatten()
        after[nearer], sizes[nearer], images[nearer] = (
            other.after[nearer],
            other.sizes[nearer],
            other.images[nearer],
        )
    return Outcome(first.before, after, sizes, images, first.norm)


def summarise(
    outcomes: Sequence[Outcome],
    y: Int[Tensor, " points"],
    *,
    among: Bool[Tensor, " points"] | None = None,
    weights: Float[Tensor, " points"] | None = None,
) -> Summary:
    """The numbers of one attack on one kind of classifier, over its trainings.

    Args:
        outcomes: The attack on each trained classifier, all at the same points.
        y: The label of each point.
        among: Whether to count each point; all are counted by default.
        weights: What each point counts for, positive; by default all count alike.
    """
    chosen = torch.ones_like(y, dtype=torch.bool) if among is None else among
    y = y[chosen]
    weights = None if weights is None else weights[chosen]
    before = torch.stack([outcome.before[chosen] for outcome in outcomes])
    after = torch.stack([outcome.after[chosen] for outcome in outcomes])
    sizes = torch.stack([outcome.sizes[chosen] for outcome in outcomes])
    correct, broken = before == y, sizes.isfinite()
    return Summary(
        norm=outcomes[0].norm,
        seeds=len(outcomes),
        points=len(y),
        clean_accuracy=_share(correct, weights),
        robust_accuracy=_share(correct & ~broken, weights),
        adversarial_accuracy=_share(after == y, weights),
        success_rate=_share(broken[correct], _expanded(weights, correct)),
        unbroken=int((correct & ~broken).sum()),
        # Student's interval over few trainings may reach below what a norm can be.
        mean=mean_with_interval(
            torch.where(correct & broken, sizes, torch.nan), weights=weights
        ).at_least(0.0),
    )


def size_table(
    outcomes: Sequence[Outcome], y: Int[Tensor, " points"]
) -> Float[Tensor, "seeds points"]:
    """Sizes of successful attacks on correctly decided points, NaN elsewhere."""
    rows = [
        torch.where((outcome.before == y) & outcome.sizes.isfinite(), outcome.sizes, torch.nan)
        for outcome in outcomes
    ]
    return torch.stack(rows)


def gap_to_optimum(
    sizes: Float[Tensor, "seeds points"],
    lower: Float[Tensor, " points"] | None,
    success_rate: float | None,
    *,
    norm: Norm = L2,
    weights: Float[Tensor, " points"] | None = None,
    unknown: str = "the optimum is not known",
) -> Gap:
    """How much less robust a classifier is than the optimum provably is.

    Args:
        sizes: What `size_table` gives of the classifier's attacks.
        lower: The optimum's certified lower bound at each point, NaN where it decides wrongly;
            None where there are no certificates.
        success_rate: The attacks' success rate; below 0.99 there is no gap.
        norm: What the sizes were measured by; certificates are of L2.
        weights: What each point counts for, positive; by default all count alike.
        unknown: The reason to give where there are no certificates.
    """
    if norm != CERTIFIED_NORM:
        reason = f"certificates are of {CERTIFIED_NORM.name}, the sizes of {norm.name}"
        return Gap(UNKNOWN, reason)
    if lower is None:
        return Gap(UNKNOWN, unknown)
    if success_rate is None:
        return Gap(UNKNOWN, "the classifier decides no point correctly")
    if success_rate < HEADLINE_SUCCESS:
        reason = f"only {success_rate:.1%} of the points were broken, not {HEADLINE_SUCCESS:.0%}"
        return Gap(UNKNOWN, reason)
    ratio, low, high = ratio_with_interval(sizes, lower[None], weights=weights)
    if ratio is None or low is None or high is None:
        return Gap(UNKNOWN, "no point is decided correctly by both")
    return Gap(Estimate(1 - ratio, 1 - high, 1 - low))


def pixel_changes(
    x: Float[Tensor, "n C H W"],
    images: Float[Tensor, "n C H W"],
    *,
    at: Bool[Tensor, "seeds points"] | None = None,
) -> PixelChanges:
    """How much each pixel changed, in units of 1/255.

    Args:
        x: Original images.
        images: What became of each of them.
        at: Which entries of a table of trainings and points the images are, row by row; by
            default as many points of one training.

    Returns:
        The share of small changes, and a histogram of signed ones in bins of 2 units from −101
        to 101.
    """
    changes = ((images.double() - x.double()) / PIXEL_UNIT).flatten(1).cpu()
    small = (changes.abs() <= SMALL_CHANGE + ROUNDING).double().mean(dim=1)
    at = torch.ones(1, len(small), dtype=torch.bool) if at is None else at
    table = torch.full(at.shape, torch.nan, dtype=torch.float64).masked_scatter(at, small)
    edges = torch.arange(-HISTOGRAM_LIMIT, HISTOGRAM_LIMIT + 1, HISTOGRAM_STEP).double()
    inside = changes.flatten().clamp(min=-HISTOGRAM_LIMIT, max=HISTOGRAM_LIMIT)
    counts, _ = torch.histogram(inside, edges)
    return PixelChanges(mean_with_interval(table), edges.tolist(), counts.long().tolist())


def _share(which: Bool[Tensor, "..."], weights: Float[Tensor, "..."] | None = None) -> float | None:
    if not which.numel():
        return None
    if weights is None:
        return which.double().mean().item()
    weights = weights.double().expand(which.shape)
    return ((which * weights).sum() / weights.sum()).item()


def _expanded(
    weights: Float[Tensor, " points"] | None, chosen: Bool[Tensor, "seeds points"]
) -> Float[Tensor, " chosen"] | None:
    return None if weights is None else weights.expand(chosen.shape)[chosen]
