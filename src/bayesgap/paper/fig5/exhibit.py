"""Figure 5: brittle because of the data, or because of the learning?

On the left the data are asymmetric and the optimum itself is brittle; on the right they are
symmetric and the optimum is robust, but gradient descent from a bad start ends at a brittle
classifier.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from bayesgap.drawing import Picture, Section, Table, number, with_interval
from bayesgap.estimates import Estimate
from bayesgap.evaluation.statistics import (
    mean_with_interval,
    ratio_with_interval,
    share_with_interval,
)
from bayesgap.experiment import ASYMMETRIC, SYMMETRIC, Setting
from bayesgap.paper.engine import Claim, Exhibit, Findings, Key, Named, Number, Wants
from bayesgap.paper.fig5 import plots
from bayesgap.paper.fig5.study import study_data
from bayesgap.paper.fig5.training import study_training
from bayesgap.paper.medians import quotient
from bayesgap.runs.stage import Stage, seed_of

STARTS = {"good": 0.0, "bad": 200.0}  # weight across the line between the classes, either sign
HALF_DISTANCE = 0.5  # between the means of the classes
ROBUST = 0.5  # of that distance: at least that is robust
BRITTLE = 0.5  # of the optimum's mean radius: at most that is brittle
CLOSE = 0.1  # of the symmetric data's mean radius: at most that is brittle data
ACCURATE = 0.99


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Attributes:
        per_class: The number of points of each class that distances are measured at.
        trainings: The number of trainings from either start.
    """

    per_class: int
    trainings: int


SIZES = {"quick": Size(50, 5), "default": Size(200, 10), "paper": Size(1_000, 50)}


def wants(setting: Setting, *, sizes: Mapping[str, Size]) -> Wants:
    """The two tasks, and the trainings from either start."""
    size = sizes[setting.scale]
    draw = {"sample_seed": seed_of("fig5", setting.seed)}
    stages: dict[Key, Stage] = {}
    for variant in (ASYMMETRIC, SYMMETRIC):
        settings: dict[str, Any] = {"variant": variant, "per_class": size.per_class, **draw}
        label = f"figure 5, {variant}"
        stages[Named(variant)] = Stage("line", study_data, settings, label=label)
    data = {"data": stages[Named(SYMMETRIC)]}
    for name, start in STARTS.items():
        settings = {"start": start, "trainings": size.trainings, **draw}
        label = f"figure 5, from a {name} start"
        stages[Named(name)] = Stage("line-training", study_training, settings, data, label)
    return Wants(stages=stages)


def trainings(findings: Findings, start: str) -> int:
    """How many trainings began at a start, "good" or "bad"."""
    return len(findings[Named(start)].tensors["parameters"])


def relative(findings: Findings, start: str) -> Estimate:
    """Mean distance to the learned boundary over the optimum's mean certified lower bound."""
    lower = findings[Named(SYMMETRIC)].tensors["lower"]
    return ratio_with_interval(findings[Named(start)].tensors["distance"], lower[None])


def accuracy(findings: Findings, start: str) -> Estimate:
    """The share of fresh samples that trainings from a start, "good" or "bad", decide correctly."""
    values = findings[Named(start)].values
    return share_with_interval(values["correct"], values["images"])


def asymmetric_ratio(findings: Findings) -> Estimate:
    """Class 1's mean upper bound on asymmetric data over its lower one on symmetric data."""
    sides = []
    for variant, end in ((ASYMMETRIC, "upper"), (SYMMETRIC, "lower")):
        tensors = findings[Named(variant)].tensors
        sides.append(mean_with_interval(tensors[end][tensors["y"] == 0][None]))
    return quotient(*sides)


def claims(findings: Findings) -> list[Claim]:
    """Both halves of the figure."""
    return [brittle_data(findings), brittle_learning(findings)]


def brittle_data(findings: Findings) -> Claim:
    """The left half."""
    return Claim(
        "brittle data",
        "Where the data are asymmetric, the optimum itself is brittle.",
        "a brittle learned classifier is then no surprise (section 4, figure 5 left)",
        f"class 1's mean upper bound at most {CLOSE:g} of its mean certified lower bound on "
        "the symmetric data; the interval is from the ends of both means' intervals, so it is "
        "wider than 95 %",
        [
            Number(
                "mean radius, asymmetric over symmetric", asymmetric_ratio(findings), at_most=CLOSE
            )
        ],
    )


def brittle_learning(findings: Findings) -> Claim:
    """The right half."""
    lower = findings[Named(SYMMETRIC)].tensors["lower"][None] / HALF_DISTANCE
    trained = partial(Number, trainings=trainings(findings, "bad"))
    good = relative(findings, "good")
    remarks = []
    if None not in good:
        remarks.append(
            "From a start at 0 the same descent on the same kind of samples reaches "
            f"{good.value:.2f} of the optimum's mean radius ({good.low:.2f} – {good.high:.2f}): "
            "it is the start that makes the difference."
        )
    return Claim(
        "brittle learning",
        "Where the data are symmetric and the optimum is robust, gradient descent from a bad "
        "start still finds a classifier that is accurate and brittle.",
        "the data distribution is not to blame, the learning method is (section 4, figure 5 right)",
        f"mean certified lower bound of the optimum at least {ROBUST:g} of half the distance "
        f"between the classes; learned classifiers' accuracy at least {ACCURATE:g}, and their "
        f"mean distance at most {BRITTLE:g} of the optimum's mean lower bound",
        [
            Number("optimum", mean_with_interval(lower), at_least=ROBUST),
            trained("accuracy from a bad start", accuracy(findings, "bad"), at_least=ACCURATE),
            trained(
                "distance from a bad start over the optimum's",
                relative(findings, "bad"),
                at_most=BRITTLE,
            ),
        ],
        remarks,
    )


def section(findings: Findings) -> Section:
    """An optimum that is brittle, and a robust one that training misses."""
    count = trainings(findings, "bad")
    return Section(
        [
            "Two Gaussians that are narrow across the line between them. Left: the second class "
            "is broad instead, and the optimum's mean radius for the first falls to "
            f"{with_interval(asymmetric_ratio(findings))} of what it is on the right. Right: the "
            "optimum's boundary lies half way, but the data hardly move a weight across the line: "
            "a linear classifier keeps what it started with.",
            f"From a bad start {count} trainings end with a mean distance of "
            f"{with_interval(relative(findings, 'bad'))} of the optimum's radius; from a start at "
            f"0 they reach {with_interval(relative(findings, 'good'))}.",
        ],
        [
            Picture(
                plots.boundaries_and_distances(findings),
                "Decision regions of two optima with samples, learned boundaries from bad and "
                "good starts on the second, and the distributions of the distances to all "
                "boundaries.",
                "Background: the decision of the optimum. Lines: the boundaries that gradient "
                "descent ends with, one for each training; those from a good start lie on the "
                "optimum's. Below: how near the closest other decision is, over points that are "
                "decided correctly.",
                kind="png",
            )
        ],
        [
            Table(
                heading=[
                    "start",
                    "weight across at the start",
                    "at the end",
                    "accuracy",
                    "mean distance ÷ optimum's",
                ],
                rows=[
                    [
                        start,
                        f"{weight:g}",
                        number(_weight_across(findings, start)),
                        with_interval(accuracy(findings, start)),
                        with_interval(relative(findings, start)),
                    ]
                    for start, weight in STARTS.items()
                ],
                note=f"{count} trainings each; 95 % intervals over trainings and points.",
            )
        ],
    )


def _weight_across(findings: Findings, start: str) -> float:
    """The mean weight across the line, without its sign, that trainings end with."""
    return findings[Named(start)].tensors["parameters"][:, 1].abs().mean().item()


def exhibit(sizes: Mapping[str, Size] = SIZES) -> Exhibit:
    """The figure.

    Args:
        sizes: How much is computed at each scale, by its name.
    """
    return Exhibit(
        name="fig5",
        label="Figure 5",
        title="Brittle because of the data, or because of the learning",
        needs="nothing but the package",
        wants=partial(wants, sizes=sizes),
        section=section,
        claims=claims,
    )


EXHIBIT = exhibit()
