"""Anyone's classifier, attacked on a task's samples and compared with the certified optimum."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.attacks.named import BOUNDARY_WALK, AnyAttack, as_attack
from bayesgap.classifiers.module import evaluating, logits
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.measure import (
    CERTIFIED_NORM,
    Gap,
    Outcome,
    Summary,
    attack_decisions,
    best_outcome,
    gap_to_optimum,
    size_table,
    summarise,
)
from bayesgap.norms import L2, Norm
from bayesgap.radius.certify import Bracket, certify
from bayesgap.tasks.task import Task, check_task

POOL_IMAGES = 2_000  # samples from which boundary walks start
NO_CERTIFICATE = "certificates exist for mixtures of factor analyzers alone"


@dataclass(frozen=True)
class Evaluation:
    """How robust a classifier is on a task.

    Attributes:
        attacks: The numbers of each attack by its name.
        best: The numbers of the nearest success at each point over all attacks.
        to_optimum: How much less robust the classifier is than the optimum provably is.
        bracket: The optimum's certified distances at the points; None where the task's densities
            or the norm have no certificates.
        outcomes: The decisions, sizes and images at each point, for each attack by its name.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> optimum = task.bayes_classifier()
        >>> report = bayesgap.evaluate(optimum, task, attacks="ld-grad", per_class=2)
        >>> abs(report.gap) < 0.5, report.no_gap
        (True, None)
    """

    attacks: dict[str, Summary]
    best: Summary
    to_optimum: Gap
    bracket: Bracket | None
    outcomes: dict[str, Outcome] = field(repr=False)

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


def evaluate(
    classifier: nn.Module,
    task: Task,
    *,
    attacks: AnyAttack | Sequence[AnyAttack] = BOUNDARY_WALK,
    per_class: int = 100,
    seed: int = 0,
    norm: Norm = L2,
) -> Evaluation:
    """Attack a classifier at fresh samples of a task, and compare it with the task's optimum.

    Args:
        classifier: A module from images (n, *task.image_shape) to logits (n, task.classes);
            images are cast to its dtype and device.
        task: The task whose samples are attacked.
        attacks: One attack or more: names (`bayesgap.named_attack`), instances of `Attack`, or
            functions of a classifier, images and labels. All named ones but "closed-form" follow
            gradients.
        per_class: How many points of each class are attacked.
        seed: Seed of the random generator that draws the points.
        norm: What perturbations are measured by; certificates, and so gaps, are of L2 alone.

    Raises:
        BayesgapError: an unknown attack, or a classifier that does not fit the task.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> bayesgap.evaluate(task.bayes_classifier(), task, per_class=2).best.success_rate
        1.0
    """
    check_task(task)
    x, y, chosen = _asked_for(task, attacks, per_class, seed)
    _check_outputs(classifier, task, x)
    outcomes = {
        attack.name: attack_decisions(classifier, attack, x, norm=norm) for attack in chosen
    }
    nearest = best_outcome(list(outcomes.values()))
    best = summarise([nearest], y)
    if best.unbroken and not best.complete:
        hint = "" if BOUNDARY_WALK in outcomes else f' Add "{BOUNDARY_WALK}".'
        warnings.warn(
            f"Only {best.success_rate:.1%} of the correctly decided points were broken: the "
            f"mean {norm.name} leaves out those that withstood, and says little.{hint}",
            stacklevel=2,
        )
    certified = task.certifiable and norm == CERTIFIED_NORM
    bracket = certify(task, x, y) if certified else None
    lower = torch.where(bracket.correct, bracket.lower, torch.nan) if bracket else None
    sizes = size_table([nearest], y)
    return Evaluation(
        attacks={name: summarise([outcome], y) for name, outcome in outcomes.items()},
        best=best,
        to_optimum=gap_to_optimum(
            sizes, lower, best.success_rate, norm=norm, unknown=NO_CERTIFICATE
        ),
        bracket=bracket,
        outcomes=outcomes,
    )


def _asked_for(
    task: Task, attacks: AnyAttack | Sequence[AnyAttack], per_class: int, seed: int
) -> tuple[Float[Tensor, "n C H W"], Int[Tensor, " n"], list[Attack]]:
    """The points, their labels and the attacks."""
    several = isinstance(attacks, Sequence) and not isinstance(attacks, str)
    given: list[AnyAttack] = list(attacks) if several else [attacks]  # type: ignore[arg-type,list-item]
    if not given or per_class < 1:
        raise BayesgapError(
            f"At least one attack and one point a class are needed; got {given} and {per_class}."
        )
    y = torch.arange(task.classes).repeat(per_class)
    x, _ = task.sample_given(y, seed=seed)
    pool, _ = task.sample(POOL_IMAGES, seed=seed + 1)
    chosen = [as_attack(attack, pool=pool) for attack in given]
    names = [attack.name for attack in chosen]
    if len(set(names)) < len(names):
        raise BayesgapError(f"Attacks need different names; got {', '.join(names)}.")
    return x, y, chosen


def _check_outputs(classifier: nn.Module, task: Task, x: Float[Tensor, "n C H W"]) -> None:
    with evaluating(classifier):
        outputs = logits(classifier, x[:1]).shape[1]
    if outputs != task.classes:
        raise BayesgapError(
            f"The classifier gives {outputs} logits, the task {task.name} has {task.classes} "
            "classes."
        )
