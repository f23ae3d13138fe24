"""What came of a case: its points, its optimum's radii, and the attacks on it in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesgap.errors import BayesgapError
from bayesgap.estimates import UNKNOWN, Estimate
from bayesgap.evaluation.measure import (
    CERTIFIED_NORM,
    Gap,
    Outcome,
    PixelChanges,
    Summary,
    best_outcome,
    gap_to_optimum,
    pixel_changes,
    size_table,
    summarise,
)
from bayesgap.evaluation.statistics import (
    mean_with_interval,
    ratio_with_interval,
    share_with_interval,
)
from bayesgap.experiment.graph import CaseGraph
from bayesgap.experiment.kinds import OPTIMUM, Kind
from bayesgap.experiment.setting import REAL, SYMMETRIC, Case
from bayesgap.experiment.stages.data import as_task
from bayesgap.norms import Norm
from bayesgap.runs.run import Finished
from bayesgap.runs.store import Result
from bayesgap.tasks.task import Task

CERTIFIED_LOWER = "certified_lower"  # the key of a record's mean certified lower bound


@dataclass(frozen=True)
class Measured:
    """What came of one kind of classifier of a case.

    Attributes:
        case: The task and its variant.
        kind: The kind of classifier.
        summary: The numbers of the nearest success at each point over all attacks.
        attacks: The numbers of each attack by its name.
        best: For each training, the nearest success at each point over all attacks.
        outcomes: For each attack by its name, the outcome of each training that it faced.
        sizes: Sizes of the nearest successes (trainings, points), NaN where none counts.
        correct: For each training, how many fresh samples or real test images it decides
            correctly.
        images: How many those images were.
        pixels: How much the nearest successes changed pixels.
        gap: How much less robust than the optimum the kind is; None of the optimum itself.
        certified: The optimum's mean certified lower bound; None of all other kinds.
        certified_by_attack: The optimum's mean certified lower bound over the points that each
            attack broke, by the attack's name; empty of all other kinds.
    """

    case: Case
    kind: Kind
    summary: Summary
    attacks: Mapping[str, Summary]
    best: list[Outcome]
    outcomes: Mapping[str, list[Outcome]]
    sizes: Float[Tensor, "trainings points"]
    correct: list[int]
    images: int
    pixels: PixelChanges
    gap: Gap | None
    certified: Estimate | None
    certified_by_attack: Mapping[str, Estimate]

    @property
    def accuracy(self) -> Estimate:
        """The share of fresh samples, or of real test images, that are decided correctly."""
        return share_with_interval(self.correct, self.images)

    @property
    def trainings(self) -> int | None:
        """How many trained classifiers the numbers rest on; None of the optimum."""
        return None if self.kind is OPTIMUM else self.summary.seeds

    def record(self) -> dict[str, Any]:
        """The numbers of the best attack, as `results.json` holds them."""
        against: dict[str, Any] = {} if self.gap is None else self.gap.record()
        if self.certified is not None:
            against |= self.certified.record(CERTIFIED_LOWER)
        return {
            **self.about,
            "attack": "best of " + ", ".join(self.outcomes),
            **self.summary.record(),
            "test_images": self.images,
            "test_correct": self.correct,
            **against,
            **self.pixels.record(),
        }

    def attack_records(self) -> list[dict[str, Any]]:
        """The numbers of each attack, as `results.json` holds them."""
        return [
            {
                **self.about,
                "attack": name,
                **summary.record(),
                **(
                    self.certified_by_attack[name].record(CERTIFIED_LOWER)
                    if name in self.certified_by_attack
                    else {}
                ),
            }
            for name, summary in self.attacks.items()
        ]

    @property
    def about(self) -> dict[str, str]:
        """What tells its records from others, as `results.json` holds it."""
        task, variant = self.case.task, self.case.variant
        return {"task": task, "variant": variant, "classifier": self.kind.name}


@dataclass(frozen=True)
class Part:
    """One kind's numbers on a part of a case's points.

    Attributes:
        measured: What came of the kind on all points.
        among: What the points of the part have in common, in words.
        summary: The numbers of the nearest success at each of these points.
        certified: The optimum's mean certified lower bound there; None of all other kinds.
    """

    measured: Measured
    among: str
    summary: Summary
    certified: Estimate | None

    def record(self) -> dict[str, Any]:
        """The numbers as `results.json` holds them."""
        certified = {} if self.certified is None else self.certified.record(CERTIFIED_LOWER)
        return {**self.measured.about, "among": self.among, **self.summary.record(), **certified}


@dataclass(frozen=True)
class CaseResults:
    """All that came of one case.

    Attributes:
        graph: The stages of the case.
        finished: The results of all stages.
        points: The attacked points: images "x", labels "y", and "outlier" and "own_side" as
            `draw_points` has them.
        measured: What came of each kind of classifier.
    """

    graph: CaseGraph
    finished: Finished
    points: dict[str, Tensor]
    measured: Mapping[Kind, Measured]

    @property
    def case(self) -> Case:
        """The task and its variant."""
        return self.graph.case

    @property
    def y(self) -> Int[Tensor, " points"]:
        """The labels of the attacked points."""
        return self.points["y"]

    @property
    def task(self) -> Task:
        """The task in its variant."""
        return as_task(self.finished[self.graph.data])

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of where the task's densities came from."""
        facts: dict[str, Any] = self.finished[self.graph.data].values.get("facts", {})
        return facts

    @property
    def optimum(self) -> dict[str, Any] | None:
        """What the study of the optimum found, where it was made."""
        stage = self.graph.optimum
        return None if stage is None else self.finished[stage].values

    @property
    def width(self) -> dict[str, Any] | None:
        """The width of the CNNs and how it was found, where there are any."""
        return None if self.graph.width is None else self.finished[self.graph.width].values

    @property
    def gamma(self) -> Result | None:
        """The curve over gamma and the one that was chosen, where RBF SVMs were trained."""
        return None if self.graph.gamma is None else self.finished[self.graph.gamma]

    def lower(self) -> Float[Tensor, " points"]:
        """The optimum's certified distances at the points; NaN where it decides wrongly."""
        lower = _lower(self.graph, self.finished)
        if lower is None:
            raise BayesgapError(f"The optimum of {self.case} is not known.")
        return lower

    def relative_size(self, kind: Kind) -> Estimate:
        """A kind's mean size over the optimum's mean certified lower bound.

        Both means are over the points that both decide correctly. Certificates are of L2: of
        sizes by another norm nothing is known.
        """
        if self.measured[kind].summary.norm != CERTIFIED_NORM:
            return UNKNOWN
        return ratio_with_interval(self.measured[kind].sizes, self.lower()[None])

    def parts(self) -> list[Part]:
        """Each kind's numbers on the parts of the points, those that are empty left out."""
        outlier, own_side = self.points["outlier"], self.points["own_side"]
        among = {
            "without outliers' points": ~outlier,
            "own outlier likelier, without outliers' points": own_side & ~outlier,
            "other outlier likelier, without outliers' points": ~own_side & ~outlier,
        }
        return [
            Part(
                measured,
                name,
                summarise(measured.best, self.y, among=chosen),
                None if measured.certified is None else _mean(self.lower(), chosen),
            )
            for kind, measured in self.measured.items()
            for name, chosen in among.items()
            if chosen.any()
        ]

    def facts_record(self) -> dict[str, Any]:
        """Where the case came from and what was chosen on it, as `results.json` holds it."""
        settings, gamma = self.graph.data.settings, self.gamma
        chosen = {} if gamma is None else gamma.values
        linear = [
            self.finished[stage].values["converged"]
            for stages in self.graph.classifiers.values()
            for stage in stages
            if "converged" in self.finished[stage].values
        ]
        return {
            "task": self.case.task,
            "variant": self.case.variant,
            "version": settings.get("version"),
            "sha256": settings.get("sha256") or settings.get("checksum"),
            "facts": self.facts,
            "optimum": self.optimum,
            "cnn_width_sought_on": REAL if self.case.variant == REAL else SYMMETRIC,
            "cnn_width": self.width,
            "linear_svm_converged": linear,
            "gamma": chosen.get("gamma"),
            "gamma_reached": chosen.get("reached"),
            "gamma_curve": chosen.get("curve"),
        }


def collect(graph: CaseGraph, finished: Finished, norm: Norm) -> CaseResults:
    """Read the results of a case and put its attacks into numbers."""
    points = finished[graph.points].tensors
    measured = {kind: _measure(graph, kind, finished, norm) for kind in graph.classifiers}
    return CaseResults(graph, finished, points, measured)


def _measure(graph: CaseGraph, kind: Kind, finished: Finished, norm: Norm) -> Measured:
    points = finished[graph.points].tensors
    x, y = points["x"], points["y"]
    outcomes = {
        name: [_outcome(finished[stage].tensors, norm) for stage in stages]
        for name, stages in graph.attacks[kind].items()
    }
    best = _best_of(outcomes, kind, len(graph.classifiers[kind]))
    summary, sizes = summarise(best, y), size_table(best, y)
    lower = _lower(graph, finished)
    trained = [finished[stage].values for stage in graph.classifiers[kind]]
    at = sizes.isfinite()
    own = kind is OPTIMUM and norm == CERTIFIED_NORM
    return Measured(
        case=graph.case,
        kind=kind,
        summary=summary,
        attacks={name: summarise(each, y[: len(each[0].sizes)]) for name, each in outcomes.items()},
        best=best,
        outcomes=outcomes,
        sizes=sizes,
        correct=[_stored(values, "correct", kind) for values in trained],
        images=_stored(trained[0], "images", kind),
        pixels=pixel_changes(
            torch.cat([x[chosen] for chosen in at]),
            torch.cat([f.images[c].double() for f, c in zip(best, at, strict=True)]),
            at=at,
        ),
        gap=None if own else gap_to_optimum(sizes, lower, summary.success_rate, norm=norm),
        certified=_mean(lower) if own and lower is not None else None,
        certified_by_attack={
            name: _mean(lower, size_table(each[:1], y[: len(each[0].sizes)])[0].isfinite())
            for name, each in outcomes.items()
            if own and lower is not None
        },
    )


def _stored(values: Mapping[str, Any], name: str, kind: Kind) -> int:
    """A value that every stage that trains a classifier stores."""
    if name not in values:
        raise BayesgapError(
            f"The stage that trains a {kind} stores no {name!r}: give its Result the values of "
            "experiment.stages.trained.score."
        )
    return int(values[name])


def _best_of(outcomes: Mapping[str, list[Outcome]], kind: Kind, trainings: int) -> list[Outcome]:
    """Each training's nearest successes over the attacks that it faced.

    The checks, which the first training alone faces, may find a nearer success there too.
    """
    checks = [found[0] for name, found in outcomes.items() if name not in kind.attacks]
    return [
        best_outcome(
            [outcomes[name][replicate] for name in kind.attacks] + (checks if not replicate else [])
        )
        for replicate in range(trainings)
    ]


def _lower(graph: CaseGraph, finished: Finished) -> Float[Tensor, " points"] | None:
    """The certified lower bounds, NaN where the optimum decides wrongly; None of real images."""
    if graph.certificate is None:
        return None
    found = finished[graph.certificate].tensors
    correct = found["before"] == finished[graph.points].tensors["y"]
    return torch.where(correct, found["lower"], torch.nan)


def _mean(lower: Float[Tensor, " points"], among: Bool[Tensor, " first"] | None = None) -> Estimate:
    """The mean certified lower bound, over some of the first points where these are given."""
    if among is not None:
        lower = torch.where(among, lower[: len(among)], torch.nan)
    return mean_with_interval(lower[None])


def _outcome(tensors: Mapping[str, Tensor], norm: Norm) -> Outcome:
    before, after, sizes, images = (
        tensors[name] for name in ("before", "after", "sizes", "images")
    )
    return Outcome(before, after, sizes, images, norm)
