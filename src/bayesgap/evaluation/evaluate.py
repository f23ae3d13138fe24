"""Anyone's classifier, attacked on a task's samples and compared with the certified optimum."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap._version import __version__
from bayesgap.attacks.base import Attack
from bayesgap.attacks.named import AnyAttack, FunctionAttack, as_attack
from bayesgap.classifiers.adapt import as_classifier
from bayesgap.classifiers.adapted import UnreadableError
from bayesgap.errors import LARGEST_SEED, BayesgapError, check_integer, check_seed
from bayesgap.evaluation.doubts import (
    NORM,
    UNLIKE,
    Doubt,
    warn,
)
from bayesgap.evaluation.measure import (
    CERTIFIED_NORM,
)
from bayesgap.evaluation.record import (
    NO_CERTIFICATE,
    NOT_ASKED,
    Certified,
    Evaluation,
    Facts,
)
from bayesgap.evaluation.run import Run
from bayesgap.norms import L2, Norm
from bayesgap.radius.certify import certify
from bayesgap.tasks.checks import check_floating
from bayesgap.tasks.digest import points_digest, task_digest
from bayesgap.tasks.task import Task, check_task
from bayesgap.versions import versions

Array = Tensor | np.ndarray | list[int]
POOL_IMAGES = 2_000  # samples from which walks start
FULL, QUICK = "full", "quick"
FAR_OUT = 10.0  # standard deviations of a task's samples: images beyond are in another range


def evaluate(
    classifier: object,
    task: Task,
    *,
    attacks: AnyAttack | Sequence[AnyAttack] | None = None,
    points: tuple[Array, Array] | None = None,
    per_class: int = 100,
    seed: int = 0,
    norm: Norm = L2,
    box: tuple[float, float] | None = None,
    certificates: bool | None = None,
    doubts: str = FULL,
) -> Evaluation:
    """Attack a classifier at fresh samples of a task, and compare it with the task's optimum.

    What is doubtful of the classifier or of the result is warned of and kept in
    `Evaluation.doubts`; where it makes the sizes meaningless there is no gap.

    Args:
        classifier: From images (n, *task.image_shape) to logits (n, task.classes): whatever
            `as_classifier` takes; images are cast to its dtype and device.
        task: The task whose samples are attacked.
        attacks: One attack or more: names (`bayesgap.named_attack`), instances of `Attack`, or
            functions of a classifier, images and labels. By default the closed form where there
            is one, else "closest"; and where nearer images show, "closest-restarts", or where
            gradients are missing or doubted an attack by scores or by decisions alone.
        points: Images (n, C, H, W) and labels (n,) of your own to attack, tensors or arrays.
        per_class: How many samples of each class are attacked; they count by the task's priors.
        seed: Seed of the random generator that draws the samples, from 0 to 2**63 − 1.
        norm: What perturbations are measured by; certificates, and so gaps, are of L2 alone.
        box: Smallest and largest pixel value of adversarial images; None for no limits.
        certificates: Whether to certify the optimum at the points; by default at samples, and
            not at points of your own.
        doubts: "full", or "quick" to leave out most of the search for nearer images.

    Raises:
        BayesgapError: a classifier that does not fit the task, or arguments that are none.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> bayesgap.evaluate(task.bayes_classifier(), task, per_class=12).best.success_rate
        1.0
    """
    with torch.inference_mode(False), torch.enable_grad():
        check_task(task)
        _check(norm, certificates, doubts)
        per_class, seed, box = _checked(per_class, seed, box)
        x, y, weights = _points(task, points, per_class, seed)
        module = _module(classifier, task)
        pool, _ = task.sample(POOL_IMAGES, seed=(seed + 1) % LARGEST_SEED)
        asked = None if attacks is None else _chosen(attacks, pool)
        wanted = points is None if certificates is None else certificates
        certified = _certified(task, x, y) if wanted and norm == CERTIFIED_NORM else None
        run = Run(module, x, y, weights, pool, norm, box, [*_unlike(task, x), *_norm(norm, asked)])
        run.examine(asked, certified, full=doubts == FULL)
        settings = {"seed": seed, "per_class": None if points else per_class, "doubts": doubts}
        facts = _facts(classifier, task, run, settings)
        made = run.measured(certified, facts, NOT_ASKED if task.certifiable else NO_CERTIFICATE)
    warn(made.doubts, stacklevel=2)
    return made


def _module(classifier: object, task: Task) -> nn.Module:
    try:
        return as_classifier(classifier, image_shape=task.image_shape, classes=task.classes)
    except UnreadableError as error:
        raise BayesgapError(
            f"{error} (Such words are for bayesgap.as_classifier, whose result is evaluated; on "
            "the command line they are options.)"
        ) from error


def _check(norm: object, certificates: object, doubts: object) -> None:
    if not isinstance(norm, Norm):
        raise BayesgapError(f"A norm is a bayesgap.Norm, such as bayesgap.L2; got {norm!r}.")
    if certificates is not None and not isinstance(certificates, bool | np.bool_):
        raise BayesgapError(
            f"The optimum is certified by certificates=True, or not by False; got {certificates!r}."
        )
    if not (isinstance(doubts, str) and doubts in (FULL, QUICK)):
        raise BayesgapError(f'Doubts are looked for "{FULL}" or "{QUICK}"; got {doubts!r}.')


def _checked(
    per_class: object, seed: object, box: object
) -> tuple[int, int, tuple[float, float] | None]:
    """The same as plain numbers."""
    count = check_integer(per_class, "number of points a class", least=1)
    match box.tolist() if isinstance(box, Tensor | np.ndarray) else box:
        case None:
            return count, check_seed(seed), None
        case [Real() as low, Real() as high] if -math.inf < float(low) < float(high) < math.inf:
            return count, check_seed(seed), (float(low), float(high))
    raise BayesgapError(f"A box is a smallest and a larger pixel value, both finite; got {box!r}.")


def _points(
    task: Task, points: tuple[Array, Array] | None, per_class: int, seed: int
) -> tuple[Float[Tensor, "n C H W"], Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The points, their labels, and what each counts for."""
    if points is None:
        y = torch.arange(task.classes).repeat(per_class)
        x, _ = task.sample_given(y, seed=seed)
        return x, y, task.priors[y] * task.classes
    if not (isinstance(points, tuple | list) and len(points) == 2):
        raise BayesgapError(
            f"Points are images and their labels, points=(x, y); got a {type(points).__name__}."
        )
    x, y = _images(points[0]), _labels(points[1])
    task.check_images(x)
    task.check_labels(y, len(x))
    if not len(x):
        raise BayesgapError("There are no points to attack: give images and their labels.")
    return x.detach().cpu(), y.detach().long().cpu(), torch.ones(len(y), dtype=torch.float64)


def _images(given: Any) -> Any:
    """Of an array a tensor; what is neither is refused where images are checked."""
    if not isinstance(given, np.ndarray):
        return given
    if given.dtype.kind != "f":
        raise BayesgapError(
            f"Images must be floats in the task's unit, such as x / 255; got {given.dtype}."
        )
    return torch.from_numpy(given.astype(np.float64))


def _labels(given: Any) -> Any:
    """Of an array or a list a tensor; what is neither is refused where labels are checked."""
    if isinstance(given, list | tuple) and all(isinstance(each, Integral) for each in given):
        given = np.array(given)
    if not isinstance(given, np.ndarray):
        return given
    if given.dtype.kind not in "iub":
        raise BayesgapError(f"Labels must be integers; got {given.dtype}.")
    return torch.from_numpy(given.astype(bool if given.dtype == bool else np.int64))


def _chosen(
    attacks: AnyAttack | Sequence[AnyAttack], pool: Float[Tensor, "m C H W"]
) -> list[Attack]:
    several = isinstance(attacks, Sequence) and not isinstance(attacks, str | bytes)
    given: list[AnyAttack] = list(attacks) if several else [attacks]  # type: ignore[arg-type,list-item]
    if not given:
        raise BayesgapError("At least one attack is needed; got none.")
    chosen = [as_attack(attack, pool=pool) for attack in given]
    names = [attack.name for attack in chosen]
    if len(set(names)) < len(names):
        raise BayesgapError(f"Attacks need different names; got {', '.join(names)}.")
    return chosen


def _unlike(task: Task, x: Float[Tensor, "n C H W"]) -> list[Doubt]:
    """Are the points in the range of the task's samples?"""
    check_floating(x)
    samples, _ = task.sample(200, seed=0)
    middle, spread = samples.mean(), samples.std().clamp(min=1e-12)
    out = ((x - middle).abs().flatten(1).amax(dim=1) / spread) > FAR_OUT
    usual = ((samples - middle).abs().amax() / spread).item()
    if usual > FAR_OUT or not out.double().mean() > 0.5:
        return []
    return [
        Doubt(
            UNLIKE,
            f"{int(out.sum())} of {len(x)} images hold values up to {x.abs().max().item():.4g}, "
            f"where the task's samples lie in {samples.min().item():.3g} to "
            f"{samples.max().item():.3g}",
            "Bring the images into the task's unit, such as x / 255.",
            voids=True,
        )
    ]


def _norm(norm: Norm, asked: Sequence[Attack] | None) -> list[Doubt]:
    """Do attacks look for what is measured? This package's look for small L2."""
    if norm == L2 or (asked is not None and all(map(_is_foreign, asked))):
        return []
    return [
        Doubt(
            NORM,
            f"sizes are measured by {norm.name}",
            f"There may be images that are nearer by {norm.name}: give attacks that look for them.",
        )
    ]


def _is_foreign(attack: Attack) -> bool:
    return isinstance(attack, FunctionAttack) or not type(attack).__module__.startswith("bayesgap.")


def _certified(task: Task, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]) -> Certified | None:
    return Certified.of(certify(task, x, y)) if task.certifiable else None


def _facts(classifier: object, task: Task, run: Run, settings: dict[str, Any]) -> Facts:
    box = None if run.box is None else [*run.box]
    settings |= {"attacks": [*run.outcomes], "norm": run.norm.name, "box": box}
    return Facts(
        classifier=type(classifier).__name__,
        task=task.name,
        task_sha256=task_digest(task) if task.certifiable else None,
        points_sha256=points_digest(run.x, run.y),
        class_names=[*task.class_names],
        priors=task.priors.tolist(),
        components=[density.components for density in task.mixtures] if task.certifiable else [],
        settings=settings,
        versions={"bayesgap": __version__, **versions()},
    )
