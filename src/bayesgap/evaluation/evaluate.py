"""Anyone's classifier, attacked on a task's samples and compared with the certified optimum."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bayesgap.attacks.named import BOUNDARY_WALK, AnyAttack, as_attack
from bayesgap.classifiers.module import evaluating, logits
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.measure import (
    HEADLINE_SUCCESS,
    Outcome,
    attack_decisions,
    best_outcome,
    gap_to_optimum,
    l2_table,
    summarise,
)
from bayesgap.radius.certify import Bracket, certify
from bayesgap.tasks.task import Task, check_task

POOL_IMAGES = 2_000  # samples from which boundary walks start


@dataclass(frozen=True)
class Evaluation:
    """How robust a classifier is on a task.

    Attributes:
        records: For each attack its `clean_accuracy`, `robust_accuracy` (decided correctly and not
            broken), `adversarial_accuracy` (decided correctly after the attack, of all points),
            `success_rate`, and `mean_l2` with its 95 % interval `mean_l2_low` to `mean_l2_high`,
            over successes on correctly decided points: None without any, and an understatement
            where the success rate is below 0.99.
        best: The same for the nearest success at each point over all attacks.
        gap: How much less robust the classifier is than the optimum provably is (see
            `measure.gap_to_optimum`); None below a success rate of 0.99.
        gap_low: Lower end of its 95 % interval over points.
        gap_high: Upper end.
        no_gap: Why there is no gap, where there is none.
        bracket: The optimum's certified distances at the points.
        outcomes: For each attack the decisions, L2 and images at each point.
    """

    records: dict[str, dict[str, Any]]
    best: dict[str, Any]
    gap: float | None
    gap_low: float | None
    gap_high: float | None
    no_gap: str | None
    bracket: Bracket
    outcomes: dict[str, Outcome] = field(repr=False)


def evaluate(
    classifier: nn.Module,
    task: Task,
    *,
    attacks: AnyAttack | Sequence[AnyAttack] = BOUNDARY_WALK,
    per_class: int = 100,
    seed: int = 0,
) -> Evaluation:
    """Attack a classifier at fresh samples of a task, and compare it with the task's optimum.

    Args:
        classifier: From images (n, *task.image_shape) to logits (n, task.classes); images are
            cast to its dtype and device.
        task: Whose samples to attack at.
        attacks: One or more: names (`bayesgap.named_attack`), instances of `Attack`, or functions
            of a classifier, images and labels. All named ones but "closed-form" follow gradients.
        per_class: Points of each class.
        seed: Of the points.

    Raises:
        BayesgapError: an unknown attack, or a classifier that does not fit the task.
    """
    check_task(task)
    given = (
        list(attacks)
        if isinstance(attacks, Sequence) and not isinstance(attacks, str)
        else [attacks]
    )
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
    with evaluating(classifier):
        outputs = logits(classifier, x[:1]).shape[1]
    if outputs != task.classes:
        raise BayesgapError(
            f"The classifier gives {outputs} logits, the task {task.name} has {task.classes} "
            "classes."
        )
    outcomes = {attack.name: attack_decisions(classifier, attack, x) for attack in chosen}
    nearest = best_outcome(list(outcomes.values()))
    best = summarise([nearest], y)
    if best["unbroken"] and best["success_rate"] < HEADLINE_SUCCESS:
        hint = "" if BOUNDARY_WALK in names else f' Add "{BOUNDARY_WALK}".'
        warnings.warn(
            f"Only {best['success_rate']:.1%} of the correctly decided points were broken: the "
            f"mean L2 leaves out those that withstood, and says little.{hint}",
            stacklevel=2,
        )
    bracket = certify(task, x, y)
    lower = torch.where(bracket.correct, bracket.lower, torch.nan)
    return Evaluation(
        records={name: summarise([outcome], y) for name, outcome in outcomes.items()},
        best=best,
        **gap_to_optimum(l2_table([nearest], y), lower, best["success_rate"]),
        bracket=bracket,
        outcomes=outcomes,
    )
