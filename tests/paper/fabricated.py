"""Findings made of given numbers, as though a run had come to them.

The statistics are the package's own; nothing is trained, attacked or read. Sizes and radii scatter
by so little that a number 1 % beside a claim's threshold is decided, and one on it is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from bayesgap.evaluation.measure import (
    Outcome,
    PixelChanges,
    gap_to_optimum,
    size_table,
    summarise,
)
from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.experiment.kinds import OPTIMUM
from bayesgap.experiment.measured import CaseResults, Measured
from bayesgap.experiment.setting import Setting
from bayesgap.paper.engine.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED
from bayesgap.paper.engine.exhibit import Findings, Wants
from bayesgap.runs.stage import seed_of
from bayesgap.tasks.catalog import known_tasks
from toys import normal, spherical_task

YES, OPEN, NO = REPRODUCED, NOT_DECIDED, NOT_REPRODUCED
POINTS = 100  # of which one is a percent
IMAGES = 1_000_000  # that accuracies are counted on: they are known to less than 0.1 %
SCATTER = 0.001  # of sizes, from point to point
ONE_TASK = Setting("quick", 0, {"mnist-0-6": known_tasks()["mnist-0-6"][-1]})
TASK = spherical_task([[0.0], [1.0]], 0.01)  # whose optimum puts a pixel of y in class y


@dataclass(frozen=True)
class Given:
    """What a run shall have found of one kind of classifier of a case.

    Attributes:
        size: The mean size of the nearest successes.
        trainings: How many classifiers there are; of the optimum it is always one.
        points: How many points are attacked.
        wrong: How many of them, the last ones, are decided wrongly.
        unbroken: How many of them, the first ones, are not broken; if need be for each training.
        turned: Of how many, the last ones, the changed image is one of the other class.
        accuracy: On fresh samples or real test images.
        within_5: The share of pixels that changed by 5/255 at most.
        attacks: What single attacks found, by their names.
        certified: Of the optimum, its mean certified lower bound; None without certificates.
        rules_agree: Of the optimum, the share of samples that both decision rules decide alike.
    """

    size: float = 1.0
    trainings: int = 3
    points: int = POINTS
    wrong: int = 0
    unbroken: int | tuple[int, ...] = 0
    turned: int = 0
    accuracy: float = 1.0
    within_5: float = 0.5
    attacks: Mapping[str, "Given"] = field(default_factory=dict, hash=False)
    certified: float | None = None
    rules_agree: float = 1.0


class Fabricated(CaseResults):
    """A case of which nothing is stored."""

    # Given, where the properties read the store.
    case: Any = None
    task: Any = None
    optimum: Any = None
    radii: Any = None

    def __init__(self, **given):
        vars(self).update(given)

    def lower(self):
        assert self.radii is not None
        return self.radii


def findings(cases, results=None, scale="quick"):
    """What an exhibit is handed.

    Args:
        cases: For each `Case` and kind of classifier what was found.
        results: Those of the exhibit's own stages.
        scale: The scale of the run.
    """
    made = {case: _case(case, kinds) for case, kinds in cases.items()}
    wanted = Wants({case: tuple(kinds) for case, kinds in cases.items()})
    return Findings(Setting(scale, 0, {}), made, wanted, results or {})


def scattered(mean, *about, trainings=1, points=POINTS):
    """Numbers (trainings, points) that scatter in their own way `about` and have that mean."""
    away = normal(seed_of(*map(str, about)), trainings, points)
    return mean * (1 + SCATTER * (away - away.mean(dim=1, keepdim=True)))


def _case(case, kinds):
    optimum = kinds.get(OPTIMUM)
    return Fabricated(
        case=case,
        points={"y": _labels(POINTS)},
        measured={kind: _measured(case, kind, given, optimum) for kind, given in kinds.items()},
        radii=_radii(case, optimum),
        optimum=None if optimum is None else _study(optimum),
        task=TASK,
    )


def _study(given):
    return {
        "images": IMAGES,
        "correct": round(given.accuracy * IMAGES),
        "rules_agree": round(given.rules_agree * IMAGES),
    }


def _radii(case, optimum):
    """The optimum's certified radii, NaN where it decides wrongly."""
    if optimum is None or optimum.certified is None:
        return None
    radii = scattered(optimum.certified, "certified", case)[0]
    return torch.where(torch.arange(POINTS) < POINTS - optimum.wrong, radii, torch.nan)


@cache
def _measured(case, kind, given, optimum):
    radii = _radii(case, optimum)
    trainings = 1 if kind is OPTIMUM else given.trainings
    best = _outcomes(given, trainings, case, kind)
    attacks = {
        name: _outcomes(each, trainings, case, kind, name) for name, each in given.attacks.items()
    }
    sizes, summary = size_table(best, _labels(POINTS)), summarise(best, _labels(POINTS))
    own = kind is OPTIMUM
    return Measured(
        case=case,
        kind=kind,
        summary=summary,
        attacks={
            name: summarise(each, _labels(len(each[0].sizes))) for name, each in attacks.items()
        },
        best=best,
        outcomes=attacks,
        sizes=sizes,
        correct=[round(given.accuracy * IMAGES)] * trainings,
        images=IMAGES,
        pixels=PixelChanges(mean_with_interval(scattered(given.within_5, case, kind)), [], []),
        gap=None if own else gap_to_optimum(sizes, radii, summary.success_rate),
        certified=mean_with_interval(radii[None]) if own and radii is not None else None,
        certified_by_attack={},
    )


def _outcomes(given, trainings, *about):
    y, place = _labels(given.points), torch.arange(given.points)
    last = given.points - place  # 1 at the last
    before = torch.where(last > given.wrong, y, 1 - y)
    images = torch.where(last > given.turned, y, 1 - y).double().reshape(-1, 1, 1, 1)
    sizes = scattered(given.size, *about, trainings=trainings, points=given.points)
    unbroken = given.unbroken
    left = [unbroken] * trainings if isinstance(unbroken, int) else unbroken
    return [
        Outcome(
            before,
            torch.where(place < least, before, 1 - before),
            torch.where(place < least, torch.inf, row),
            images,
        )
        for row, least in zip(sizes, left, strict=True)
    ]


def _labels(points):
    return torch.arange(points) % 2
