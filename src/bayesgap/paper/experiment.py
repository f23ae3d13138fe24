"""The stages of the paper's experiment on one task, from a fitted density to attacked points.

Training and test images are drawn again wherever they are needed: they follow from the task and
a seed faster than a file could be read. Every classifier of one replicate is trained on the same
images, and all are attacked at the same points. What holds of a task's samples holds of real
images too, except that there is no optimum, and that replicates share none of the images: each
has a `fold` of them.
"""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from bayesgap.attacks.boundary import BoundaryWalk
from bayesgap.attacks.named import named_attack
from bayesgap.classifiers import stored
from bayesgap.classifiers.allconv import Training, train_allconv
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import train_linear_svm, train_rbf_svms
from bayesgap.classifiers.trades import Ball, train_trades
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.measure import attack_decisions, l2_table, summarise
from bayesgap.paper.observations import observations
from bayesgap.paper.real import ONE_FOLD, RealImages, as_data, draw
from bayesgap.radius.certify import certify
from bayesgap.runs.stage import seed_of
from bayesgap.runs.store import Result
from bayesgap.tasks.catalog import VARIANTS, known_tasks
from bayesgap.tasks.symmetry import NOISE_STD, symmetric
from bayesgap.tasks.task import Task

BAYES = "bayes-optimal"
OBSERVATION_SEEDS = 2**31  # they add small numbers to theirs
VALIDATION_IMAGES = 2_000  # for choosing a width or a gamma; never those that are attacked
TEST_IMAGES = 5_000  # for the accuracy of a trained classifier, besides the attacked points
POOL_IMAGES = 2_000  # from which boundary walks start
MANY_IMAGES = 10_000  # for the optimum's accuracy, and whether its two rules agree


def make_task(
    *,
    name: str,
    version: int,
    sha256: str,
    seed: int,
    noise_multiple: int | None = None,
    folder: str | None = None,
) -> Result:
    """Load a task by name; its checksum stands among the settings, so in the key.

    Args:
        name: With its variant.
        version: Of the fit.
        sha256: Of the file.
        seed: Of nothing.
        noise_multiple: Replace the symmetric variant's noise by so many times the paper's.
        folder: Of the user's own tasks, where it is one.

    Raises:
        BayesgapError: the file is not the one that was meant when the run was planned.
    """
    base, _, variant = name.partition("/")
    chosen = [
        one for one in known_tasks(Path(folder) if folder else None)[base] if one.version == version
    ]
    if not chosen or chosen[0].sha256 != sha256:
        raise BayesgapError(f"The catalogue's {base} version {version} changed during the run.")
    task = chosen[0].load()
    if noise_multiple is None:
        task = VARIANTS[variant](task)
    else:
        task = symmetric(task, noise_std=noise_multiple * NOISE_STD)
    return Result(*task.to_tensors())


def as_task(result: Result) -> Task:
    """The task that `make_task` stored."""
    return Task.from_tensors(result.tensors, result.values, source="the stored task")


def draw_points(
    task: Result, *, per_class: int, sample_seed: int, seed: int, drawn_as: int | None = None
) -> Result:
    """The points that all classifiers are attacked at: equally many of each class, in turn.

    `outlier` marks points drawn from an outlier component. `own_side` marks points where the
    outlier of the own class is at least as likely as any other class's: there the way to
    another decision is longer. Of real images, points are of the test part. Points `drawn_as`
    those of another stage follow from its seed.
    """
    known = as_data(task)
    seed = seed_of(sample_seed, seed if drawn_as is None else drawn_as)
    if isinstance(known, RealImages):
        x, y = known.sample(per_class * known.classes, seed=seed, part="test")
        order = torch.stack([(y == label).nonzero().flatten() for label in range(known.classes)])
        x, y = x[order.mT.flatten()], y[order.mT.flatten()]
        nowhere = torch.zeros(len(y), dtype=torch.bool)
        return Result({"x": x, "y": y, "outlier": nowhere, "own_side": ~nowhere})
    y = torch.arange(known.classes).repeat(per_class)
    x, outlier = known.sample_given(y, seed=seed)
    own_side = torch.ones_like(outlier)
    if known.outliers is not None:
        scores = torch.stack(
            [
                density.component_log_prob(x.flatten(1))[:, component] + prior.log()
                for density, component, prior in zip(
                    known.densities, known.outliers, known.priors, strict=True
                )
            ],
            dim=1,
        )
        own_side = scores.argmax(dim=1) == y
    return Result({"x": x, "y": y, "outlier": outlier, "own_side": own_side})


def study_optimum(task: Result, *, sample_seed: int, seed: int) -> Result:
    """The optimum's accuracy on many samples, and how often its two rules decide alike."""
    known = as_task(task)
    x, y = known.sample(MANY_IMAGES, seed=seed_of(sample_seed, seed))
    optimum = known.bayes_classifier()
    exact = decisions(optimum, x)
    largest = decisions(known.bayes_classifier(temperature=1.0, rule="max-component"), x)
    return Result(
        values={
            "kind": BAYES,
            "temperature": optimum.temperature,
            "images": MANY_IMAGES,
            "correct": int((exact == y).sum()),
            "rules_agree": int((exact == largest).sum()),
        }
    )


def certify_optimum(task: Result, points: Result, *, seed: int) -> Result:
    """How far the optimum's nearest other decision is from each point, with a proof.

    As of an attack on every decision, correct or not, and the certified lower bounds beside.
    """
    known, x = as_task(task), points.tensors["x"]
    optimum = known.bayes_classifier()
    before = decisions(optimum, x)
    found = certify(known, x, before)
    return Result(
        {
            "before": before,
            "after": decisions(optimum, found.images),
            "l2": found.upper,
            "images": found.images,
            "lower": found.lower,
        }
    )


def study_theory(*, sample_seed: int, seed: int) -> Result:
    """Observations 1 to 4 as experiments."""
    return observations(seed=sample_seed % OBSERVATION_SEEDS)


def find_width(
    task: Result,
    *,
    images: int,
    sample_seed: int,
    widths: Sequence[int],
    target: float,
    training: dict[str, Any],
    fold: Sequence[int] = ONE_FOLD,
    seed: int,
) -> Result:
    """The smallest width whose CNN reaches the target accuracy on validation images.

    Widths are tried in turn; where none reaches it, the best is taken (the widest of equals).
    A single width is taken as it is.
    """
    if len(widths) == 1:
        return Result(values={"width": widths[0], "reached": None, "tried": []})
    known = as_data(task)
    x, y, unseen, truth = _training_and_validation(known, images, sample_seed, fold, seed)
    tried = []
    for width in widths:
        network, _ = train_allconv(
            x, y, width=width, classes=known.classes, seed=seed, training=Training(**training)
        )
        tried.append((accuracy(network, unseen, truth), width))
        if tried[-1][0] >= target:
            break
    reached, width = max(tried)
    return Result(
        values={
            "width": width,
            "reached": reached >= target,
            "tried": [{"width": w, "validation_accuracy": a} for a, w in tried],
        }
    )


def train_cnn(
    task: Result,
    width: Result,
    *,
    images: int,
    sample_seed: int,
    training: dict[str, Any],
    fold: Sequence[int] = ONE_FOLD,
    seed: int,
) -> Result:
    """One CNN at the width that was found."""
    known = as_data(task)
    x, y = draw(known, "training", images, seed=sample_seed, fold=fold)
    network, losses = train_allconv(
        x,
        y,
        width=width.values["width"],
        classes=known.classes,
        seed=seed,
        training=Training(**training),
    )
    return _tested(network, known, seed, losses=losses)


def train_robust(
    task: Result,
    width: Result,
    *,
    images: int,
    sample_seed: int,
    training: dict[str, Any],
    ball: dict[str, Any],
    beta: float,
    fold: Sequence[int] = ONE_FOLD,
    seed: int,
) -> Result:
    """One CNN by TRADES at the width that was found (appendix D.3)."""
    known = as_data(task)
    x, y = draw(known, "training", images, seed=sample_seed, fold=fold)
    network, losses = train_trades(
        x,
        y,
        width=width.values["width"],
        classes=known.classes,
        seed=seed,
        training=Training(**training),
        ball=Ball(**ball),
        beta=beta,
    )
    return _tested(network, known, seed, losses=[loss._asdict() for loss in losses])


def train_linear(
    task: Result, *, images: int, sample_seed: int, seed: int, fold: Sequence[int] = ONE_FOLD
) -> Result:
    """One linear SVM, and whether its solver converged at scikit-learn's defaults."""
    known = as_data(task)
    x, y = draw(known, "training", images, seed=sample_seed, fold=fold)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it becomes a result instead
        machine = train_linear_svm(x, y, classes=known.classes, seed=seed)
    return _tested(machine, known, seed, converged=machine.converged)


def study_gamma(
    task: Result,
    points: Result,
    *,
    images: int,
    sample_seed: int,
    gammas: Sequence[float],
    costs: Sequence[float],
    target: float,
    per_class: int,
    fold: Sequence[int] = ONE_FOLD,
    seed: int,
) -> Result:
    """Accuracy and mean L2 of RBF SVMs over gamma, and the gamma that the paper's rule chooses.

    The rule: the largest gamma that still classifies well, here with at least the target
    accuracy on validation images, at the first of the costs C. The curve is measured at the
    first points of each class, by walks from the nearest training images of another decision.
    """
    known = as_data(task)
    x, y, unseen, truth = _training_and_validation(known, images, sample_seed, fold, seed)
    count = per_class * known.classes
    at, labels = points.tensors["x"][:count], points.tensors["y"][:count]
    curve, l2 = [], []
    for cost in costs:
        machines = train_rbf_svms(x, y, gammas=gammas, classes=known.classes, cost=cost)
        for gamma, machine in zip(gammas, machines, strict=True):
            walk = BoundaryWalk(x[:POOL_IMAGES])
            outcome = attack_decisions(machine, walk, at)
            l2.append(l2_table([outcome], labels))
            curve.append(
                {
                    "cost": cost,
                    "gamma": gamma,
                    "support_vectors": len(machine.support),
                    "validation_accuracy": accuracy(machine, unseen, truth),
                    **summarise([outcome], labels),
                }
            )
    first = [row for row in curve if row["cost"] == costs[0]]
    good = [row["gamma"] for row in first if row["validation_accuracy"] >= target]
    best = max(first, key=lambda row: row["validation_accuracy"])["gamma"]
    return Result(
        {"l2": torch.cat(l2)},
        {"gamma": max(good, default=best), "reached": bool(good), "curve": curve},
    )


def train_rbf(
    task: Result,
    gamma: Result,
    *,
    images: int,
    sample_seed: int,
    cost: float,
    seed: int,
    fold: Sequence[int] = ONE_FOLD,
) -> Result:
    """One RBF SVM at the gamma that was chosen."""
    chosen = gamma.values["gamma"]
    return train_rbf_at(
        task, images=images, sample_seed=sample_seed, gamma=chosen, cost=cost, seed=seed, fold=fold
    )


def train_rbf_at(
    task: Result,
    *,
    images: int,
    sample_seed: int,
    gamma: float,
    cost: float,
    seed: int,
    fold: Sequence[int] = ONE_FOLD,
) -> Result:
    """One RBF SVM at a gamma that is given."""
    known = as_data(task)
    x, y = draw(known, "training", images, seed=sample_seed, fold=fold)
    (machine,) = train_rbf_svms(x, y, gammas=[gamma], classes=known.classes, cost=cost)
    return _tested(machine, known, seed)


def attack_classifier(
    task: Result,
    points: Result,
    classifier: Result,
    *,
    attack: str,
    per_class: int,
    seed: int,
) -> Result:
    """One attack on one trained classifier, at the first points of each class."""
    known = as_data(task)
    count = per_class * known.classes
    pool, _ = draw(known, "training", POOL_IMAGES, seed=seed)
    started = time.perf_counter()
    outcome = attack_decisions(
        as_classifier(classifier, known),
        named_attack(attack, pool=pool),
        points.tensors["x"][:count],
    )
    seconds = time.perf_counter() - started
    return Result(
        {
            "before": outcome.before,
            "after": outcome.after,
            "l2": outcome.l2,
            "images": outcome.images,
        },
        {"attack_seconds": seconds},
    )


def as_classifier(result: Result, task: Task | RealImages) -> nn.Module:
    """The classifier that a training stage stored, or the task's own optimum."""
    if result.values["kind"] == BAYES and isinstance(task, Task):
        return task.bayes_classifier(temperature=result.values["temperature"])
    return stored.from_tensors(result.tensors, result.values)


def _tested(classifier: nn.Module, data: Task | RealImages, seed: int, **values: Any) -> Result:
    """A trained classifier to store, with its accuracy on fresh samples or real test images."""
    tensors, metadata = stored.to_tensors(classifier)
    x, y = draw(data, "test", TEST_IMAGES, seed=seed_of("test", seed))
    correct = int((decisions(classifier, x) == y).sum())
    return Result(tensors, {**metadata, **values, "images": len(x), "correct": correct})


def accuracy(classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]) -> float:
    """Share of images decided as labelled."""
    right: Bool[Tensor, " n"] = decisions(classifier, x) == y
    return right.double().mean().item()


def _training_and_validation(
    data: Task | RealImages, images: int, sample_seed: int, fold: Sequence[int], seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, y = draw(data, "training", images, seed=sample_seed, fold=fold)
    unseen, truth = draw(data, "validation", VALIDATION_IMAGES, seed=seed_of("validation", seed))
    return x, y, unseen, truth
