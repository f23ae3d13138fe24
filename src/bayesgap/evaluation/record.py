"""What an evaluation found, in numbers and images; saved, read again and compared by content.

All numbers follow from what is measured at each point (`measured`), so that a file holds the
measurements alone and reading it computes the numbers anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesgap import files
from bayesgap.errors import BayesgapError
from bayesgap.estimates import UNKNOWN, Estimate
from bayesgap.evaluation.contents import KIND, metadata_of, tensors_of, timeless
from bayesgap.evaluation.doubts import Doubt, voiding
from bayesgap.evaluation.explanation import Explanation, explained
from bayesgap.evaluation.html import as_html
from bayesgap.evaluation.measure import (
    CERTIFIED_NORM,
    Gap,
    Outcome,
    Summary,
    best_outcome,
    gap_to_optimum,
    size_table,
    summarise,
)
from bayesgap.evaluation.statistics import (
    binomial_interval,
    mean_with_interval,
    table_share_with_interval,
)
from bayesgap.radius.certify import Bracket
from bayesgap.tasks.digest import settings_digest

NO_CERTIFICATE = "certificates exist for mixtures of factor analyzers alone"
NOT_ASKED = "the optimum was not certified at these points: ask with certificates=True"


class Passes(NamedTuple):
    """What an attack took.

    Attributes:
        forwards: How many images went through the classifier for each point.
        backwards: How many images gradients came back for, for each point.
        seconds: How long the attack took for all points.
    """

    forwards: float
    backwards: float
    seconds: float


@dataclass(frozen=True)
class Facts:
    """What was evaluated, and how.

    Attributes:
        classifier: What the classifier was: its type's name, or the name that it was given by.
        task: The task's name.
        task_sha256: SHA-256 of all that defines the task; None of densities without files.
        points_sha256: SHA-256 of the attacked images and their labels.
        class_names: What results call each class.
        priors: The probability of each class.
        components: The number of components of each class; empty of other densities.
        settings: What `evaluate` was asked for, by the names of its arguments.
        versions: The versions of this package and of the numerical libraries.
    """

    classifier: str
    task: str
    task_sha256: str | None
    points_sha256: str
    class_names: list[str]
    priors: list[float]
    components: list[int]
    settings: dict[str, Any]
    versions: dict[str, str]

    @property
    def settings_sha256(self) -> str:
        """SHA-256 of the settings, which follows from them and so is in no file of its own."""
        return settings_digest(self.settings)


@dataclass(frozen=True, eq=False)
class Certified:
    """The optimum's certified distances at the points, as `certify` gives them.

    Attributes:
        lower: The proven lower bound of each radius; 0 where the optimum decides wrongly.
        upper: The upper bound of each radius; infinite where no other decision was found.
        images: For each point, the nearest one found that the optimum decides otherwise.
        correct: Whether the optimum decides each point as its label.
        source: The component of the own class that holds out longest, counted over all classes.
        target: The component that decides the radius, counted over all classes.
        target_class: The class of that component.
    """

    lower: Float[Tensor, " n"]
    upper: Float[Tensor, " n"]
    images: Float[Tensor, "n C H W"]
    correct: Bool[Tensor, " n"]
    source: Int[Tensor, " n"]
    target: Int[Tensor, " n"]
    target_class: Int[Tensor, " n"]

    @classmethod
    def of(cls, bracket: Bracket) -> "Certified":
        """What a bracket says of its points."""
        return cls(**{each.name: getattr(bracket, each.name) for each in fields(cls)})


class Curve(NamedTuple):
    """Accuracies under perturbations of at most each radius.

    Attributes:
        radii: The radii, in pixel units.
        accuracy: The classifier's: the share of points that are decided correctly and were not
            broken within the radius. An upper bound of what holds.
        certified: What is proven of the optimum: the share of points with a larger radius. None
            without certificates.
    """

    radii: list[float]
    accuracy: list[Estimate]
    certified: list[Estimate] | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How robust a classifier is on a task.

    Attributes:
        attacks: The numbers of each attack by its name.
        best: The numbers of the nearest success at each point over all attacks.
        by_class: The same of each class alone, by its name.
        to_optimum: How much less robust the classifier is than the optimum provably is.
        doubts: What makes the numbers say less than they seem to; none of a plain case.
        bracket: The optimum's certified distances at the points; None where the task's densities
            or the norm have no certificates, or none were asked for.
        outcomes: The decisions, sizes and images at each point, for each attack by its name.
        passes: What each attack took, by its name.
        x: The attacked points.
        y: The label of each point.
        weights: What each point counts for: as much as its class's prior asks for.
        facts: What was evaluated, and how.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> optimum = task.bayes_classifier()
        >>> report = bayesgap.evaluate(optimum, task, attacks="ld-grad-tight", per_class=12)
        >>> abs(report.gap) < 0.5, report.no_gap, report.doubts
        (True, None, ())
    """

    attacks: Mapping[str, Summary]
    best: Summary
    by_class: Mapping[str, Summary]
    to_optimum: Gap
    doubts: tuple[Doubt, ...]
    bracket: Certified | None
    outcomes: Mapping[str, Outcome] = field(repr=False)
    passes: Mapping[str, Passes] = field(repr=False)
    x: Float[Tensor, "n C H W"] = field(repr=False)
    y: Int[Tensor, " n"] = field(repr=False)
    weights: Float[Tensor, " n"] = field(repr=False)
    facts: Facts = field(repr=False)

    @property
    def gap(self) -> float | None:
        """The gap to the optimum; None where there is none, and `no_gap` says why."""
        return self.to_optimum.estimate.value

    @property
    def gap_low(self) -> float | None:
        """The lower end of the gap's 95 % interval over points."""
        return self.to_optimum.estimate.low

    @property
    def gap_high(self) -> float | None:
        """The upper end of the gap's 95 % interval over points."""
        return self.to_optimum.estimate.high

    @property
    def no_gap(self) -> str | None:
        """Why there is no gap; None where there is one."""
        return self.to_optimum.reason

    @property
    def ratio(self) -> float | None:
        """Mean size over the optimum's mean certified lower bound; None where there is no gap."""
        return self.to_optimum.ratio.value

    @property
    def nearest(self) -> Outcome:
        """The nearest success at each point over all attacks."""
        return best_outcome(list(self.outcomes.values()))

    @property
    def accuracy(self) -> Estimate:
        """The share of points decided correctly, before any attack."""
        return _share(self.nearest.before == self.y, self.weights)

    def robust_accuracy(self, radius: float) -> Estimate:
        """The share of points decided correctly and not broken within a radius, in pixel units.

        An upper bound, as another attack may break more; of the task's priors. Of an infinite
        radius it is the share that withstood every attack.

        Raises:
            BayesgapError: the radius is no number, or below 0.
        """
        nearest, within = self.nearest, _radius(radius)
        broken = nearest.sizes.isfinite() & (nearest.sizes <= within)
        return _share((nearest.before == self.y) & ~broken, self.weights)

    def certified_accuracy(self, radius: float) -> Estimate:
        """The share of points whose radius is proven to be larger, of the optimum.

        Raises:
            BayesgapError: there are no certificates, or the radius is no number, or below 0.
        """
        if self.bracket is None:
            raise BayesgapError(f"There are no certificates: {self.no_gap}.")
        larger = self.bracket.lower > _radius(radius)
        return _share(self.bracket.correct & larger, self.weights)

    def curve(self, radii: Sequence[float] | None = None) -> Curve:
        """Accuracies over radii, of the classifier and, where it is certified, of the optimum.

        Args:
            radii: The radii in pixel units; by default 41 of them, from 0 to the largest size.

        Raises:
            BayesgapError: they are no list, or one is no number, or below 0.
        """
        if radii is None:
            sizes = [self.nearest.sizes, *([self.bracket.lower] if self.bracket else [])]
            finite = torch.cat([each.double() for each in sizes])
            most = finite[finite.isfinite()].max().item() if finite.isfinite().any() else 1.0
            radii = torch.linspace(0, most, 41).tolist()
        if not isinstance(radii, Iterable):
            raise BayesgapError(f"Radii are a list of numbers, in pixel units; got {radii!r}.")
        asked = [*map(_radius, radii)]
        certified = None if self.bracket is None else [*map(self.certified_accuracy, asked)]
        return Curve(asked, [*map(self.robust_accuracy, asked)], certified)

    def explain(self, index: int) -> Explanation:
        """One point: what its nearest adversarial images are, and what changed in them.

        Args:
            index: Which of the points.

        Raises:
            BayesgapError: there is no such point.
        """
        if not isinstance(index, Integral) or not -len(self.y) <= index < len(self.y):
            raise BayesgapError(f"There are points 0 to {len(self.y) - 1}; got {index!r}.")
        return explained(self, int(index) % len(self.y))

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON values; images and single points are in what `save` writes."""
        return {
            "format": "bayesgap.evaluation/1",
            **asdict(self.facts),
            "settings_sha256": self.facts.settings_sha256,
            "best": self.best.record(),
            "by_class": {name: summary.record() for name, summary in self.by_class.items()},
            "attacks": {
                name: summary.record() | self.passes[name]._asdict()
                for name, summary in self.attacks.items()
            },
            **self.to_optimum.record(),
            **self.to_optimum.ratio.record("ratio"),
            **self.optimum.record("certified_lower"),
            "doubts": [doubt.record() for doubt in self.doubts],
        }

    @property
    def optimum(self) -> Estimate:
        """The optimum's mean certified lower bound over the points that it decides correctly."""
        if self.bracket is None:
            return UNKNOWN
        lower = torch.where(self.bracket.correct, self.bracket.lower, torch.nan)
        return mean_with_interval(lower[None], weights=self.weights)

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, which `load_evaluation` reads.

        Args:
            path: Where to write; an existing file is replaced.

        Raises:
            BayesgapError: the folder is missing or not writable.
        """
        files.save_tensors(path, tensors_of(self), kind=KIND, metadata=metadata_of(self))

    def __eq__(self, other: object) -> bool:
        """Equal in content: the same points, measurements, doubts and facts, times aside."""
        if not isinstance(other, Evaluation):
            return NotImplemented
        mine, yours = tensors_of(self), tensors_of(other)
        return (
            timeless(metadata_of(self)) == timeless(metadata_of(other))
            and mine.keys() == yours.keys()
            and all(torch.equal(tensor, yours[name]) for name, tensor in mine.items())
        )

    __hash__ = None  # type: ignore[assignment]  # of content that is compared point by point

    def _repr_html_(self) -> str:
        """A short table, for notebooks."""
        return as_html(self)

    def __repr__(self) -> str:
        size = self.best.mean
        gap = f"no gap: {self.no_gap}" if self.gap is None else f"gap {self.gap:.3g}"
        several = self.attacks if len(self.attacks) > 1 else {}
        attacks = "".join(f"\n  {name}: {_short(each)}" for name, each in several.items())
        doubts = "".join(f"\n  doubt: {doubt}" for doubt in self.doubts)
        return (
            f"Evaluation({self.facts.classifier} on {self.facts.task}: "
            f"accuracy {self.best.clean_accuracy:.1%}, {len(self.y)} points, "
            f"mean {self.best.norm.name} {size}, optimum's {self.optimum}, {gap}){attacks}{doubts}"
        )


def _short(summary: Summary) -> str:
    """What one attack found, in a few words."""
    if summary.success_rate is None:
        return "nothing to break"
    return f"broke {summary.success_rate:.1%}, mean {summary.norm.name} {summary.mean}"


def measured(
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    weights: Float[Tensor, " n"],
    outcomes: Mapping[str, Outcome],
    certified: Certified | None,
    doubts: Sequence[Doubt],
    passes: Mapping[str, Passes],
    facts: Facts,
    no_gap: str,
) -> Evaluation:
    """Put what was measured at each point into numbers.

    Args:
        x: The points.
        y: The label of each point.
        weights: What each point counts for.
        outcomes: What each attack found, by its name.
        certified: The optimum's certified distances; None where there are none.
        doubts: What was found doubtful.
        passes: What each attack took, by its name.
        facts: What was evaluated, and how.
        no_gap: Why there is no gap, where there are no certificates.
    """
    nearest = best_outcome(list(outcomes.values()))
    best = summarise([nearest], y, weights=weights)
    lower = None
    if certified is not None:
        lower = torch.where(certified.correct, certified.lower, torch.nan)
    gap = gap_to_optimum(
        size_table([nearest], y),
        lower,
        best.success_rate,
        norm=nearest.norm,
        weights=weights,
        unknown=no_gap,
    )
    reason = voiding(doubts)
    if reason is not None and lower is not None and nearest.norm == CERTIFIED_NORM:
        gap = Gap(UNKNOWN, reason)
    return Evaluation(
        attacks={name: summarise([one], y, weights=weights) for name, one in outcomes.items()},
        best=best,
        by_class={
            name: summarise([nearest], y, among=y == label)
            for label, name in enumerate(_different(facts.class_names))
            if (y == label).any()
        },
        to_optimum=gap,
        doubts=tuple(doubts),
        bracket=certified,
        outcomes=dict(outcomes),
        passes=dict(passes),
        x=x,
        y=y,
        weights=weights,
        facts=facts,
    )


def _different(names: Sequence[str]) -> list[str]:
    """The names of classes, told apart by their numbers where any two are alike."""
    alike = len(set(names)) < len(names)
    return [f"{name} ({k})" if alike else name for k, name in enumerate(names)]


def _radius(given: object) -> float:
    """A radius as a plain number."""
    single = isinstance(given, Tensor) and given.ndim == 0
    number = given.item() if single else given  # type: ignore[attr-defined]
    if not isinstance(number, Real) or not float(number) >= 0:
        raise BayesgapError(f"A radius is a number of pixel units, 0 or more; got {given!r}.")
    return float(number)


def _share(which: Bool[Tensor, " n"], weights: Float[Tensor, " n"]) -> Estimate:
    if (weights == weights[0]).all():
        return table_share_with_interval(which.double()[None])
    mean, low, high = mean_with_interval(which.double()[None], weights=weights)
    if mean is None or low is None or high is None:
        return UNKNOWN
    # As many points of equal weight say as much (Kish's effective sample size).
    alike = max(1, round((weights.sum().square() / weights.square().sum()).item()))
    least, most = binomial_interval(round(mean * alike), alike)
    return Estimate(mean, min(low, least), max(high, most))
