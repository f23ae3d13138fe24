"""Exams: how far above the certified distance does an attack land, and at what cost?

On a task's Bayes-optimal classifier the smallest perturbation is known with a proof. An attack's
L2 over that is its grade: 1 is perfect, and less is impossible.
"""

import math
import time
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesgap.attacks.base import Adversarials
from bayesgap.attacks.named import AnyAttack, as_attack
from bayesgap.errors import LARGEST_SEED, BayesgapError, check_integer, check_seed
from bayesgap.estimates import Estimate
from bayesgap.evaluation.counting import CountingOptimum, Within
from bayesgap.evaluation.statistics import mean_with_interval, share_with_interval
from bayesgap.radius.certify import certify
from bayesgap.tasks.task import Task, check_task

PER_CLASS = 25
POOL_IMAGES = 2_000  # samples from which boundary walks start
QUANTILES = (0.5, 0.9)
NEAR = 1.01  # an L2 of at most so many times the lower bound counts as found


@dataclass(frozen=True)
class Exam:
    """How an attack did on a task's optimum, at points that the optimum decides correctly.

    Attributes:
        attack: The attack's name.
        task: The task's name.
        temperature: What the optimum's logits were divided by, over the default temperature.
        points: How many points were attacked.
        successes: How many points were broken.
        success: The share of points that were broken.
        mean_ratio: The mean over successes of L2 over the certified lower bound; unknown without
            successes.
        median_ratio: The median of these ratios; None without successes.
        high_ratio: The ratio that 90 % of successes do not exceed; None without successes.
        found: The share of all points broken within 1 % of the lower bound.
        below: How many successes are nearer than the lower bound. There can be none.
        forwards: How many images went through the classifier for each point; those that check
            success included.
        backwards: How many images gradients came back for, for each point.
        seconds: How long the attack took for all points.
        within: How near it got within fewer passes, from few to many.
        ratios: L2 over the certified lower bound at each point; infinite where it was not broken.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> graded = bayesgap.exam("ld-grad", task, per_class=2)
        >>> graded.points, graded.below
        (4, 0)
    """

    attack: str
    task: str
    temperature: float
    points: int
    successes: int
    success: Estimate
    mean_ratio: Estimate
    median_ratio: float | None
    high_ratio: float | None
    found: float
    below: int
    forwards: float
    backwards: float
    seconds: float
    within: list[Within]
    ratios: Float[Tensor, " points"] = field(repr=False)

    def __repr__(self) -> str:
        return (
            f"Exam({self.attack} on {self.task}: success {self.success}, L2 over the certified "
            f"distance {self.mean_ratio}, {self.forwards:.0f} forward and {self.backwards:.0f} "
            f"backward passes for each of {self.points} points)"
        )

    def record(self) -> dict[str, Any]:
        """All but the single points under the keys of `exams.csv`, as JSON values."""
        _, low, high = self.success
        values: dict[str, Any] = {}
        for each in fields(self):
            if each.name == "success":
                values |= {"success_rate": self.success.value}
                values |= {"success_low": low, "success_high": high}
            elif each.name == "mean_ratio":
                values |= self.mean_ratio.record("mean_ratio")
            elif each.name == "within":
                for passes, success, ratio in self.within:
                    values |= {f"success_{passes}": success, f"ratio_{passes}": ratio}
            elif each.name != "ratios":
                values[each.name] = getattr(self, each.name)
        return values


def exam(
    attack: AnyAttack,
    task: Task,
    *,
    per_class: int = PER_CLASS,
    seed: int = 0,
    temperature: float = 1.0,
    points: "CertifiedPoints | None" = None,
) -> Exam:
    """Grade an attack on a task's Bayes-optimal classifier.

    Args:
        attack: An `Attack`, the name of one (`bayesgap.named_attack`), a function of a classifier,
            images and labels that returns images, or an attack of foolbox, ART, torchattacks or
            adv-lib as it is.
        task: The task whose optimum is attacked.
        per_class: How many points of each class are drawn; by default so few that a DDN takes
            seconds.
        seed: Seed of the random generator that draws the points.
        temperature: What the optimum's logits are divided by, as a multiple of the default
            temperature. The decisions and the radius do not depend on it.
        points: The points to attack; by default those of `certified_points`, which several exams
            of a task can share.

    Raises:
        BayesgapError: an attack, a task or a temperature that is none, or no point that the
            optimum decides correctly.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> bayesgap.exam("ld-grad-tight", task, per_class=2).mean_ratio.value < 1.01
        True
    """
    check_task(task)
    seed = check_seed(seed)
    if not (isinstance(temperature, Real) and 0 < temperature < math.inf):
        raise BayesgapError(f"A temperature is positive and finite; got {temperature!r}.")
    if not (points is None or isinstance(points, CertifiedPoints)):
        raise BayesgapError(
            "The points of an exam are what certified_points gives, or None; got a "
            f"{type(points).__name__}."
        )
    with torch.inference_mode(False), torch.enable_grad():
        x, y, lower = points or certified_points(task, per_class=per_class, seed=seed)
        pool, _ = task.sample(POOL_IMAGES, seed=(seed + 1) % LARGEST_SEED)
        able = as_attack(attack, pool=pool)
        default = task.bayes_classifier().temperature
        optimum = CountingOptimum(task, default * temperature, x, y)
        start = time.perf_counter()
        made = able(optimum, x, y)
        seconds = time.perf_counter() - start
        return _graded(able.name, task.name, temperature, made, lower, optimum, seconds)


class CertifiedPoints(NamedTuple):
    """Points that the optimum decides correctly, and its certified distances there."""

    x: Float[Tensor, "n C H W"]
    y: Int[Tensor, " n"]
    lower: Float[Tensor, " n"]


def certified_points(task: Task, *, per_class: int = PER_CLASS, seed: int = 0) -> CertifiedPoints:
    """Samples of a task, as many of each class, less those that its optimum decides wrongly.

    Points so near the boundary that no distance above 0 is proven are left out too.

    Raises:
        BayesgapError: a task that is none, or no points.
    """
    check_task(task)
    per_class = check_integer(per_class, "number of points a class", least=1)
    y = torch.arange(task.classes).repeat(per_class)
    bracket = certify(task, task.sample_given(y, seed=seed)[0], y)
    chosen = bracket.correct & (bracket.lower > 0)
    if not chosen.any():
        raise BayesgapError(
            f"None of the {len(y)} points has a certified distance above 0: take more."
        )
    return CertifiedPoints(bracket.x[chosen], y[chosen], bracket.lower[chosen])


def _graded(
    attack: str,
    task: str,
    temperature: float,
    made: Adversarials,
    lower: Float[Tensor, " n"],
    optimum: CountingOptimum,
    seconds: float,
) -> Exam:
    success: Bool[Tensor, " n"] = made.success
    ratios = torch.where(success, made.sizes / lower, torch.inf)
    successes, points = int(success.sum()), len(lower)
    quantiles: list[float | None] = [None, None]
    if successes:
        quantiles = ratios[success].quantile(torch.tensor(QUANTILES).double()).tolist()
    return Exam(
        attack=attack,
        task=task,
        temperature=temperature,
        points=points,
        successes=successes,
        success=share_with_interval([successes], points),
        mean_ratio=mean_with_interval(torch.where(success, ratios, torch.nan)[None]),
        median_ratio=quantiles[0],
        high_ratio=quantiles[1],
        found=(ratios <= NEAR).double().mean().item(),
        below=int((ratios < 1).sum()),
        forwards=optimum.forwards / points,
        backwards=optimum.backwards / points,
        seconds=seconds,
        within=optimum.within(lower),
        ratios=ratios,
    )
