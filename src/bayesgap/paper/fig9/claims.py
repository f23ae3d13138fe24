"""The claims of figure 9: more data, width or depth do not make CNNs robust (appendix D.1)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bayesgap.estimates import UNKNOWN
from bayesgap.evaluation.statistics import paired_ratio_with_interval, ratio_with_interval
from bayesgap.paper.engine import Claim, Findings, Number
from bayesgap.paper.fig9.curves import Curve, curves
from bayesgap.paper.rules import ACCURATE, RECOVERED, guarded

PAPER_SAMPLES = 1_000_000  # appendix D.1
GROWTH = 1.25  # of the mean L2: what is less is no improvement


def claims(findings: Findings) -> list[Claim]:
    """Section 4 and appendix D.1."""
    made = curves(findings)
    more = [_more_does_not_help(what, about, made) for what, about in MORE.items()]
    return [_still_brittle(made), *more]


def _still_brittle(made: list[Curve]) -> Claim:
    numbers = [
        Number(
            f"{curve.task}, {curve.name}, {curve.samples[-1]:,} samples",
            guarded(ratio_with_interval(curve.l2[-1], curve.lower[None]), curve.success[-1]),
            at_most=RECOVERED,
            trainings=len(curve.l2[-1]),
        )
        for curve in made
        if curve.accurate(-1)
    ]
    numbers += [
        _nothing(f"{task}: no network has learned it in every training")
        for task in dict.fromkeys(curve.task for curve in made)
        if not any(curve.accurate(-1) for curve in made if curve.task == task)
    ]
    return Claim(
        "still brittle after the longest training",
        "After the longest training on samples that it has never seen before, a CNN that has "
        "learned its task is still less robust than the optimum.",
        "all curves lie far below the dashed line of the optimum (figure 9)",
        f"after the last checkpoint, mean L2 at most {RECOVERED} of the optimum's certified lower "
        f"bound, for every network of which all trainings have an accuracy of {ACCURATE:.0%}",
        numbers,
        _remarks(made),
    )


@dataclass(frozen=True)
class More:
    """Something of which more is said not to help.

    Attributes:
        statement: What the paper says, in our words.
        paper: The paper's words, and where they stand.
        compared: From what to what the mean L2 may not grow much.
        numbers: Computes these growths from one task's curves.
    """

    statement: str
    paper: str
    compared: str
    numbers: Callable[[list[Curve]], list[Number]]


def _more_does_not_help(what: str, more: More, made: list[Curve]) -> Claim:
    numbers = []
    for task in dict.fromkeys(curve.task for curve in made):
        found = more.numbers([curve for curve in made if curve.task == task])
        numbers += found or [_nothing(f"{task}: nothing that has learned it to compare")]
    return Claim(
        f"more {what} does not help",
        more.statement,
        more.paper,
        f"mean L2 grows by a factor of {GROWTH} at most, {more.compared}; accurate are "
        f"{ACCURATE:.0%} in every training",
        numbers,
        _how_far(made),
    )


def _over_samples(own: list[Curve]) -> list[Number]:
    """How each network's mean L2 grows in training."""
    numbers = []
    for curve in own:
        first = next((k for k in range(len(curve.samples) - 1) if curve.accurate(k)), None)
        if first is not None and curve.accurate(-1):
            label = f"{curve.samples[-1]:,} over {curve.samples[first]:,} samples"
            numbers.append(_growth(f"{curve.task}, {curve.name}: {label}", curve, -1, curve, first))
    return numbers


def _over_networks(own: list[Curve], *, size: str, alike: str) -> list[Number]:
    """How the mean L2 grows with one size of networks, of those that are alike in the other."""
    numbers = []
    accurate = [curve for curve in own if curve.accurate(-1)]
    for value in dict.fromkeys(getattr(curve, alike) for curve in accurate):
        least, *larger = sorted(
            (curve for curve in accurate if getattr(curve, alike) == value),
            key=lambda curve: getattr(curve, size),
        )
        numbers += [
            _growth(f"{curve.task}: {curve.name} over {least.name}", curve, -1, least, -1)
            for curve in larger
        ]
    return numbers


def _nothing(label: str) -> Number:
    """What could not be measured, so that the claim is not decided by the rest alone."""
    return Number(label, UNKNOWN)


def _growth(label: str, curve: Curve, at: int, base: Curve, since: int) -> Number:
    ratio = guarded(
        # All networks of a replicate see the same images.
        paired_ratio_with_interval(curve.l2[at], base.l2[since]),
        min(curve.success[at], base.success[since]),
    )
    return Number(label, ratio, at_most=GROWTH, trainings=len(curve.l2[at]))


def _remarks(made: list[Curve]) -> list[str]:
    remarks = [
        "The widths and depths of the paper's networks stand in a drawing only, and its appendix "
        "D.1 speaks of strides where B.3 pools; ours are named.",
        *_how_far(made),
    ]
    left = [f"{curve.task}, {curve.name}" for curve in made if not curve.accurate(-1)]
    if left:
        remarks.append("Left out, as a training has not learned its task: " + "; ".join(left) + ".")
    return remarks


def _how_far(made: list[Curve]) -> list[str]:
    longest = max(curve.samples[-1] for curve in made)
    if longest >= PAPER_SAMPLES:
        return []
    return [f"Training ends at {longest:,} samples here, the paper's at {PAPER_SAMPLES:,}."]


MORE = {
    "data": More(
        "Longer training on fresh samples does not make CNNs more robust.",
        "more data do not improve robustness (appendix D.1)",
        "from a network's first accurate checkpoint to its last",
        _over_samples,
    ),
    "width": More(
        "Wider CNNs are not more robust.",
        "wider networks do not improve robustness (appendix D.1)",
        "from the narrowest accurate network to each wider one of the same depth, after the last "
        "checkpoint",
        partial(_over_networks, size="width", alike="scales"),
    ),
    "depth": More(
        "Deeper CNNs are not more robust.",
        "no improvement by changing the number of layers (section 4)",
        "from the shallowest accurate network to each deeper one of the same width, after the last "
        "checkpoint",
        partial(_over_networks, size="scales", alike="width"),
    ),
}
