"""Anyone's classifier, attacked on a task's samples and compared with the certified optimum."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap._version import __version__
from bayesgap.attacks.base import Attack
from bayesgap.attacks.closed_form import ClosedForm, has_closed_form
from bayesgap.attacks.closest import Closest
from bayesgap.attacks.decision_walk import DecisionWalk
from bayesgap.attacks.named import AnyAttack, as_attack
from bayesgap.attacks.score_walk import ScoreWalk
from bayesgap.classifiers.adapt import as_classifier
from bayesgap.classifiers.module import evaluating, outputs
from bayesgap.errors import BayesgapError, check_integer
from bayesgap.evaluation.classifier_doubts import classifier_doubts
from bayesgap.evaluation.doubts import (
    CHANGED,
    NO_GRADIENTS,
    OF_GRADIENTS,
    RANDOM,
    SATURATED,
    UNLIKE,
    Doubt,
    voiding,
    warn,
)
from bayesgap.evaluation.measure import (
    CERTIFIED_NORM,
    Outcome,
    attack_decisions,
    best_outcome,
    summarise,
)
from bayesgap.evaluation.record import (
    NO_CERTIFICATE,
    NOT_ASKED,
    Certified,
    Evaluation,
    Facts,
    Passes,
    measured,
    points_digest,
)
from bayesgap.evaluation.result_doubts import differences_doubt, result_doubts, turned_doubt
from bayesgap.norms import L2, Norm
from bayesgap.radius.certify import certify
from bayesgap.tasks.task import Task, check_floating, check_task
from bayesgap.versions import versions

POOL_IMAGES = 2_000  # samples from which walks start
QUERIES = 10_000  # a point, of walks without gradients where they are chosen by themselves
DEFAULT, CLOSED_FORM = Closest.name, ClosedForm.name
EXACT_OR_FREE = frozenset({CLOSED_FORM, ScoreWalk.name, DecisionWalk.name})
FULL, QUICK = "full", "quick"
FAR_OUT = 10.0  # standard deviations of a task's samples: images beyond are in another range


def evaluate(
    classifier: object,
    task: Task,
    *,
    attacks: AnyAttack | Sequence[AnyAttack] | None = None,
    points: tuple[Tensor, Tensor] | None = None,
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
            is one, else "closest", and where gradients are missing or doubted an attack by scores
            or by decisions alone.
        points: Images (n, C, H, W) and labels (n,) of your own to attack instead of samples.
        per_class: How many samples of each class are attacked. Numbers are of the task's priors:
            a class's points count for as much as its prior asks for.
        seed: Seed of the random generator that draws the samples.
        norm: What perturbations are measured by; certificates, and so gaps, are of L2 alone.
        box: Smallest and largest pixel value of adversarial images; None for no limits.
        certificates: Whether to certify the optimum at the points; by default at samples, and
            not at points of your own.
        doubts: "full", or "quick" to leave out what takes much time: a comparison of gradients
            with differences of scores.

    Raises:
        BayesgapError: an unknown attack, or a classifier that does not fit the task.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> bayesgap.evaluate(task.bayes_classifier(), task, per_class=12).best.success_rate
        1.0
    """
    with torch.inference_mode(False), torch.enable_grad():
        check_task(task)
        _check(per_class, seed, box, doubts)
        x, y, weights = _points(task, points, per_class, seed)
        module = as_classifier(classifier, image_shape=task.image_shape, classes=task.classes)
        run = _Run(module, x, task.sample(POOL_IMAGES, seed=seed + 1)[0], norm, box)
        asked = None if attacks is None else _chosen(attacks, run.pool)
        wanted = points is None if certificates is None else certificates
        certified = None
        if wanted and task.certifiable and norm == CERTIFIED_NORM:
            certified = Certified.of(certify(task, x, y))
        with evaluating(module), _kept(module, x, run.doubts):
            right = None if certified is None else certified.correct.double().mean().item()
            run.doubts += [*_unlike(task, x), *classifier_doubts(module, x, y, optimum=right)]
            run.attack(run.automatic() if asked is None else asked)
            if voiding(run.doubts) is None and CLOSED_FORM not in run.outcomes:
                run.look_aside(add=asked is None, differences=doubts == FULL)
            summary = summarise([run.nearest], y, weights=weights)
            run.doubts += result_doubts(
                module, x, run.nearest, summary, run.outcomes, run.pool, known=run.names
            )
        settings = {
            "attacks": [*run.outcomes],
            "per_class": None if points is not None else per_class,
            "seed": seed,
            "norm": norm.name,
            "box": None if box is None else list(box),
            "doubts": doubts,
        }
        made = measured(
            x,
            y,
            weights,
            run.outcomes,
            certified,
            run.doubts,
            run.passes,
            _facts(classifier, task, x, y, settings),
            NO_CERTIFICATE if not task.certifiable else NOT_ASKED,
        )
    warn(made.doubts, stacklevel=2)
    return made


@dataclass
class _Run:
    """Attacks on one classifier, one after the other, and what is doubted meanwhile."""

    classifier: nn.Module
    x: Float[Tensor, "n C H W"]
    pool: Float[Tensor, "m C H W"]
    norm: Norm
    box: tuple[float, float] | None
    doubts: list[Doubt] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    passes: dict[str, Passes] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """What is doubted."""
        return {doubt.name for doubt in self.doubts}

    @property
    def nearest(self) -> Outcome:
        """The nearest success at each point so far."""
        return best_outcome(list(self.outcomes.values()))

    def attack(self, attacks: Sequence[Attack]) -> None:
        """Run them, and count what they take."""
        for attack in attacks:
            start = time.perf_counter()
            with _counted(self.classifier) as count:
                self.outcomes[attack.name] = attack_decisions(
                    self.classifier, attack, self.x, norm=self.norm, box=self.box
                )
            self.passes[attack.name] = Passes(
                count["forwards"] / len(self.x),
                count["backwards"] / len(self.x),
                time.perf_counter() - start,
            )

    def automatic(self) -> list[Attack]:
        """The attacks that suit the classifier and what is doubted of it."""
        if has_closed_form(self.classifier) and self.box is None:
            return [as_attack(CLOSED_FORM)]
        chosen = [] if NO_GRADIENTS in self.names else [as_attack(DEFAULT, pool=self.pool)]
        if not chosen or (self.names & OF_GRADIENTS and voiding(self.doubts) is None):
            chosen.append(self._without_gradients())
        return chosen

    def _without_gradients(self) -> Attack:
        kind = DecisionWalk if SATURATED in self.names else ScoreWalk
        return kind(self.pool, queries=QUERIES)

    def look_aside(self, *, add: bool, differences: bool) -> None:
        """Look for nearer images by decisions and scores; where there are, attack by them.

        Args:
            add: Whether to add an attack that follows no gradients.
            differences: Whether to take differences of scores too.
        """
        doubt = turned_doubt(self.classifier, self.x, self.nearest, self.pool)
        without = EXACT_OR_FREE & self.outcomes.keys()
        if doubt is None and differences and not without and SATURATED not in self.names:
            doubt = differences_doubt(self.classifier, self.x, self.nearest)
        if doubt is None:
            return
        if not add or without:
            self.doubts.append(doubt)
            return
        self.doubts.append(replace(doubt, voids=False))
        self.attack([self._without_gradients()])
        again = turned_doubt(self.classifier, self.x, self.nearest, self.pool)
        self.doubts += [again] if again is not None and again.voids else []


@contextmanager
def _kept(
    classifier: nn.Module, x: Float[Tensor, "n C H W"], doubts: list[Doubt]
) -> Iterator[None]:
    """Notice what changes the classifier while it is attacked, and give its tensors back.

    Args:
        classifier: The classifier, in evaluation mode.
        x: The points, which it must decide afterwards as before.
        doubts: Where to add what was noticed.
    """
    tensors = [*classifier.parameters(), *classifier.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    said = outputs(classifier, x)
    yield
    again = outputs(classifier, x)
    changed = sum(
        not torch.equal(now.nan_to_num(), then.nan_to_num())
        for now, then in zip(tensors, before, strict=True)
    )
    with torch.no_grad():
        for now, then in zip(tensors, before, strict=True):
            now.copy_(then)
    moved = int((again.argmax(dim=1) != said.argmax(dim=1)).sum())
    if changed or (moved and RANDOM not in {doubt.name for doubt in doubts}):
        doubts.append(
            Doubt(
                CHANGED,
                f"{changed} of its {len(tensors)} tensors changed while it was attacked, and its "
                f"decision on {moved} of {len(x)} points",
                "An attack trains it or leaves hooks behind, or it counts what it is asked: its "
                "tensors were given back, the sizes are of another classifier.",
                voids=True,
            )
        )


@contextmanager
def _counted(classifier: nn.Module) -> Iterator[dict[str, int]]:
    """Count the images that go through a module, and those that gradients come back for.

    None of what has a closed form, which needs neither: a hook would be in its way.
    """
    count = {"forwards": 0, "backwards": 0}
    if has_closed_form(classifier):
        yield count
        return

    def came_back(gradient: Tensor) -> None:
        count["backwards"] += len(gradient)

    def went_through(module: nn.Module, images: tuple[Any, ...], logits: Any) -> None:
        count["forwards"] += len(logits)
        if isinstance(logits, Tensor) and logits.requires_grad:
            logits.register_hook(came_back)

    handle = classifier.register_forward_hook(went_through)
    try:
        yield count
    finally:
        handle.remove()


def _check(per_class: object, seed: object, box: Sequence[float] | None, doubts: object) -> None:
    check_integer(per_class, "number of points a class", least=1)
    check_integer(seed, "seed", least=0)
    if box is not None and not (len(box) == 2 and box[0] < box[1]):
        raise BayesgapError(f"A box is a smallest and a larger pixel value; got {box!r}.")
    if doubts not in (FULL, QUICK):
        raise BayesgapError(f'Doubts are looked for "{FULL}" or "{QUICK}"; got {doubts!r}.')


def _points(
    task: Task, points: tuple[Tensor, Tensor] | None, per_class: int, seed: int
) -> tuple[Float[Tensor, "n C H W"], Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The points, their labels, and what each counts for."""
    if points is None:
        y = torch.arange(task.classes).repeat(per_class)
        x, _ = task.sample_given(y, seed=seed)
        return x, y, task.priors[y] * task.classes
    if not (isinstance(points, tuple | list) and len(points) == 2):
        raise BayesgapError(f"Points are images and their labels; got {type(points).__name__}.")
    x, y = points
    task.check_images(x)
    task.check_labels(y, len(x))
    if not len(x):
        raise BayesgapError("There are no points to attack: give images and their labels.")
    return x.detach().cpu(), y.detach().long().cpu(), torch.ones(len(y), dtype=torch.float64)


def _chosen(
    attacks: AnyAttack | Sequence[AnyAttack], pool: Float[Tensor, "m C H W"]
) -> list[Attack]:
    several = isinstance(attacks, Sequence) and not isinstance(attacks, str)
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


def _facts(
    classifier: object,
    task: Task,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    settings: dict[str, Any],
) -> Facts:
    return Facts(
        classifier=type(classifier).__name__,
        task=task.name,
        task_sha256=task.digest() if task.certifiable else None,
        points_sha256=points_digest(x, y),
        class_names=[*task.class_names],
        priors=task.priors.tolist(),
        components=[density.components for density in task.mixtures] if task.certifiable else [],
        settings=settings,
        versions={"bayesgap": __version__, **versions()},
    )
