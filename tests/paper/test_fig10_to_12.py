"""The claims of figures 10 to 12, judged by results that are made up."""

import pytest
import torch

from bayesgap.evaluation.measure import Outcome, l2_table, summarise
from bayesgap.evaluation.statistics import ratio_with_interval
from bayesgap.paper import fig10, fig11, fig12
from bayesgap.paper.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED
from bayesgap.paper.exhibit import Setting
from bayesgap.paper.jobs import NOISY, REAL, ROBUST, SYMMETRIC, Measured
from bayesgap.paper.results import Results
from bayesgap.runs.run import Finished
from bayesgap.runs.store import Store
from toys import normal

POINTS, TRAININGS, OPTIMUM = 200, 3, 3.0
TASK = "celeba-male"


class MadeUp(Results):
    """Results of one task, whose optimum's radius is the same everywhere."""

    def tasks_with(self, variant, kind=None):
        there = any((v, kind or k) == (variant, k) for _, v, k in self.measured)
        return [TASK] if there else []

    def relative_l2(self, task, variant, kind):
        own = l2_table(self.measured[task, variant, kind].best, self.points[task, variant]["y"])
        return ratio_with_interval(own, torch.full((1, POINTS), OPTIMUM, dtype=torch.float64))


def made_up(kinds):
    """Results from every classifier's mean L2 and accuracy, by variant and kind."""
    y = torch.arange(2).repeat(POINTS // 2)
    measured = {}
    for (variant, kind), (mean, accuracy) in kinds.items():
        best = outcomes(y, mean, accuracy)
        tested = {"test_correct": [round(1_000 * accuracy)] * TRAININGS, "test_images": 1_000}
        headline = {**summarise(best, y), **tested}
        measured[TASK, variant, kind] = Measured(headline, [], best, {})
    return MadeUp(
        Setting("default", 0, {}),
        [],
        Finished(Store("memory://unused"), 1, []),
        measured,
        {(TASK, variant): {"y": y} for variant, _ in kinds},
        {},
        None,
    )


def outcomes(y, mean, accuracy):
    made = []
    for training in range(TRAININGS):
        l2 = mean * (1 + 0.02 * (training - 1) + 0.02 * normal(training, POINTS))
        before = torch.where(torch.arange(POINTS) < accuracy * POINTS, y, 1 - y)
        made.append(Outcome(before, 1 - before, l2, torch.zeros(POINTS, 1, 1, 1)))
    return made


@pytest.mark.parametrize(
    ("noisy", "verdict"),
    [
        ((1.0, 1.0), REPRODUCED),
        ((1.0, 0.65), NOT_REPRODUCED),  # has not learned
        ((1.6, 1.0), NOT_REPRODUCED),  # more robust
        ((0.5, 1.0), NOT_REPRODUCED),  # less
    ],
)
def test_noise_is_judged_by_accurate_cnns(noisy, verdict):
    results = made_up({(SYMMETRIC, "cnn"): (1.0, 1.0), (NOISY, "cnn"): noisy})
    assert fig10.cnn_stays_brittle(results).verdict == verdict


def test_each_ball_is_judged_by_itself():
    kinds = dict(zip(ROBUST, [(1.5, 1.0), (2.9, 1.0), (1.5, 0.65)], strict=True))
    cnn = {(SYMMETRIC, "cnn"): (1.0, 1.0)}
    results = made_up(cnn | {(SYMMETRIC, kind): numbers for kind, numbers in kinds.items()})
    claims = [judged(results) for judged in fig11.EXHIBIT.judges]
    assert [claim.verdict for claim in claims] == [REPRODUCED, NOT_REPRODUCED, NOT_REPRODUCED]
    assert len({claim.name for claim in claims}) == len({c.statement for c in claims}) == 3
    assert f"The ball's radius is 1 on {TASK}." in claims[0].remarks
    brittler = made_up(cnn | {(SYMMETRIC, kind): (0.8, 1.0) for kind in ROBUST})
    assert fig11.EXHIBIT.judges[0](brittler).verdict == NOT_REPRODUCED
    nothing = fig11.EXHIBIT.judges[0](made_up(cnn))
    assert (nothing.verdict, nothing.numbers) == (NOT_DECIDED, [])


@pytest.mark.parametrize(
    ("cnn", "linear", "rbf", "verdict"),
    [
        ((0.6, 0.96), (0.2, 0.9), (2.9, 0.9), REPRODUCED),
        ((0.6, 0.96), (0.2, 0.9), (1.5, 0.9), NOT_DECIDED),  # neither robust nor brittle
        ((0.6, 0.96), (0.2, 0.9), (1.2, 0.9), NOT_REPRODUCED),  # clearly larger, and brittle too
        ((2.0, 0.96), (0.2, 0.9), (2.9, 0.9), NOT_REPRODUCED),
        ((0.6, 0.96), (0.2, 0.9), (2.9, 0.55), NOT_REPRODUCED),  # has not learned
        ((0.6, 0.55), (0.2, 0.9), (2.9, 0.9), NOT_REPRODUCED),
    ],
)
def test_real_faces_are_judged_by_size_and_accuracy(cnn, linear, rbf, verdict):
    kinds = {"cnn": cnn, "linear-svm": linear, "rbf-svm": rbf}
    results = made_up({(REAL, kind): numbers for kind, numbers in kinds.items()})
    assert fig12.trend_on_faces(results).verdict == verdict
    digits = fig12.trend_on_digits(results)
    assert (digits.verdict, digits.numbers) == (NOT_DECIDED, [])
