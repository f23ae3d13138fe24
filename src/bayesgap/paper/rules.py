"""The thresholds that decide the paper's claims about classifiers, and the numbers they judge."""

import math

from bayesgap.estimates import UNKNOWN, Estimate
from bayesgap.evaluation.measure import HEADLINE_SUCCESS
from bayesgap.experiment import CaseResults, Kind, Measured
from bayesgap.norms import L2
from bayesgap.paper.engine import Number

IMPERCEPTIBLE = 1.5  # mean L2 below which the paper calls a change almost indistinguishable
RECOVERED = 0.8  # of the optimum's mean L2: at least that recovers it, less is brittle
ACCURATE = 0.98  # on fresh samples; the lowest of table 1's accuracies of CNNs
RBF_ON_FACES = 0.86  # the lowest of table 1's accuracies of RBF SVMs, which is on faces
ALIKE = (0.8, 1.25)  # ratio of two mean L2 that the paper calls similar


def guarded(
    estimate: Estimate, success: float | None, *, at_least: float = HEADLINE_SUCCESS
) -> Estimate:
    """The estimate, unless too few attacks succeeded.

    A mean over too few successes would be one over the easy points: it decides nothing.
    """
    return estimate if success is not None and success >= at_least else UNKNOWN


def lowest_success(*measured: Measured) -> float:
    """The lowest success rate of several kinds; 0 where one decides no point correctly."""
    return min(one.summary.success_rate or 0.0 for one in measured)


def mean_size(measured: Measured, at_least: float = -math.inf, at_most: float = math.inf) -> Number:
    """The mean size of the best attack on classifiers of a kind."""
    summary = measured.summary
    known = summary.mean if summary.norm == L2 else UNKNOWN  # the paper's sizes are of L2
    return Number(
        f"{measured.case.task}, {measured.kind}, mean L2",
        guarded(known, summary.success_rate),
        trainings=measured.trainings,
        at_least=at_least,
        at_most=at_most,
    )


def accuracy(measured: Measured, at_least: float = -math.inf, at_most: float = math.inf) -> Number:
    """How many fresh samples, or real test images, classifiers of a kind decide correctly."""
    label = f"{measured.case.task}, {measured.kind}, accuracy"
    return Number(
        label,
        measured.accuracy,
        trainings=measured.summary.seeds,
        at_least=at_least,
        at_most=at_most,
    )


def relative_size(
    case: CaseResults, kind: Kind, at_least: float = -math.inf, at_most: float = math.inf
) -> Number:
    """The mean size of the best attack over the optimum's mean certified lower bound."""
    summary = case.measured[kind].summary
    ratio = guarded(case.relative_size(kind), summary.success_rate)
    return Number(
        f"{case.case.task}, L2 / optimum's",
        ratio,
        trainings=summary.seeds,
        at_least=at_least,
        at_most=at_most,
    )
