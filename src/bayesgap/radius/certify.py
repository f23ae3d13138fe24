"""Certified distances to the Bayes-optimal decision boundary: lower ≤ radius ≤ upper.

The radius of a point is the L2 distance to the nearest one that the optimum decides otherwise.
Its lower bound is a proof (`proof`), its upper bound a point (`search`, then a walk along the
boundary). What proves the lower bounds can be kept in a file that anyone may check again.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.attacks.boundary import norms
from bayesgap.attacks.boundary_walk import nearest_crossing
from bayesgap.classifiers.module import Boxed, decisions
from bayesgap.errors import BayesgapError
from bayesgap.progress import progress
from bayesgap.radius.certificate import POINTS, UNUSED, Statements, quietly, save
from bayesgap.radius.frame import frame
from bayesgap.radius.proof import LEAST, MOST, Prover
from bayesgap.radius.search import SearchResult, search
from bayesgap.tasks.bayes import BayesClassifier, Rule
from bayesgap.tasks.task import Task, check_task

CHUNK = 128  # points at a time
RESERVE = 1e-9  # share by which a radius is reported smaller than proven, for other machines
STEEPER = (1.0, 1 + 1e-7, 1 + 1e-5, 1 + 1e-3, 1 + 1e-2)  # factors of μ that are tried
MUCH_STEEPER = (1.1, 2.0, 1e2, 1e4, 1e6, 1e8, 1e10)  # and for statements not yet proven
LAGGING = 1.01  # upper/lower above which another factor is tried, and walks from all means
OPEN = 1 + 1e-4  # upper/lower above which the upper bound is walked nearer
WALK_STEPS = 40
NUDGES = (1 + 1e-9, 1 + 1e-6)  # of the nearest point found, so that it lies on the far side
FIRST_SHARE, LAST_SHARE = 1e-9, 1e6  # of the distance, by which a doubtful image is moved on
LENGTHENING = 4.0  # from one such share to the next
STRETCHES = (1.0, 1.1, 1.5, 2.0, 4.0)  # of it, where a box cuts it off


@dataclass(frozen=True)
class Bracket:
    """The optimum's exact robustness at some points: lower ≤ radius ≤ upper, in pixel units.

    Attributes:
        lower: The proven lower bound of each point's radius, float64; 0 where misclassified.
        upper: The upper bound of each point's radius, the distance of its image in `images`;
            infinite where no other decision was found.
        images: For each point, the nearest one found that the optimum decides otherwise; the
            point itself where it is misclassified or none was found.
        correct: Whether the optimum decides each point as its label; the others have radius 0
            and belong into no mean.
        target: The component that decides each radius: of all other classes' components, the one
            nearest to winning at the lower bound, by its index in
            `BayesClassifier.component_class`; −1 where misclassified.
        target_class: The class of that component; where misclassified, the decision on the point.
        source: The component of the own class that holds the target off most, by its index in
            `BayesClassifier.component_class`; −1 where misclassified.
        rule: How a class's log-joint comes from its components'.
        task: The task whose optimum is certified.
        x: The points, float64.
        y: The label of each point, int64.
        statements: What proves the lower bounds.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> bracket = bayesgap.certify(task, *task.sample(2, seed=0))
        >>> bracket.correct.tolist(), (bracket.upper / bracket.lower).max().item() < 1.01
        ([True, True], True)
    """

    lower: Float[Tensor, " n"]
    upper: Float[Tensor, " n"]
    images: Float[Tensor, "n C H W"]
    correct: Bool[Tensor, " n"]
    target: Int[Tensor, " n"]
    target_class: Int[Tensor, " n"]
    source: Int[Tensor, " n"]
    rule: Rule
    task: Task
    x: Float[Tensor, "n C H W"]
    y: Int[Tensor, " n"]
    statements: Statements

    def __repr__(self) -> str:
        if not self.correct.any():
            return f"Bracket({self.task.name!r}, no point of {len(self.y)} decided correctly)"
        lower, upper = (t[self.correct].mean().item() for t in (self.lower, self.upper))
        return (
            f"Bracket({self.task.name!r}, {int(self.correct.sum())} of {len(self.y)} points "
            f"decided correctly, mean radius {lower:.5g} to {upper:.5g})"
        )

    def save(self, path: str | Path) -> None:
        """Write the certificate to one safetensors file: task, points, bounds and proofs.

        Args:
            path: Where to write; an existing file is replaced.

        Raises:
            BayesgapError: the folder is missing or not writable.
        """
        points = {name: getattr(self, name) for name in POINTS}
        save(path, self.task, self.rule, points, self.statements)


def certify(
    task: Task,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    *,
    rule: Rule = "log-sum-exp",
    box: tuple[float, float] | None = None,
) -> Bracket:
    """Bound how far each point is from the nearest one that the optimum decides otherwise.

    Args:
        task: The task whose optimum is certified; of two or more classes.
        x: The points, converted to float64.
        y: The label of each point.
        rule: How the optimum's log-joint of a class comes from its components': by
            "log-sum-exp", or by the paper's "max-component".
        box: Smallest and largest pixel value of the images that show upper bounds; None for no
            limits. The lower bounds are those without a box, which are valid within it.

    Raises:
        BayesgapError: images, labels or a box that are none.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> bracket = bayesgap.certify(task, *task.sample(2, seed=0))
        >>> (bracket.lower <= bracket.upper).all().item()
        True
    """
    _check(task, x, y, box)
    x, y = x.detach().double().cpu(), y.long().cpu()
    classifier = BayesClassifier(task.mixtures, task.priors, temperature=1.0, rule=rule)
    with quietly():
        coordinates, prover = frame(classifier.marginal), Prover(task, rule)
    decided = decisions(classifier, x)
    correct = decided == y
    lower, images, parts = torch.zeros(len(x), dtype=torch.float64), x.clone(), []
    shown = ~correct
    with quietly(), progress(f"certifying {len(x)} points of {task.name}", len(x)) as advance:
        advance(int((~correct).sum()))
        for rows in correct.nonzero().flatten().split(CHUNK):
            if not len(rows):  # none is decided correctly
                continue
            points, labels = x[rows], y[rows]
            result = search(classifier, coordinates, points.flatten(1), labels)
            radii, statements = _prove(prover, points, labels, result)
            nearest = _nearest(classifier, points, labels, result.moves, radii, box)
            lower[rows] = (1 - RESERVE) * radii
            images[rows], shown[rows] = _beyond_doubt(
                prover, classifier, points, labels, nearest, result.moves, box
            )
            parts.append(statements._replace(point=rows[statements.point]))
            advance(len(rows))
    statements = Statements.joined(parts)
    images = torch.where(shown[:, None, None, None], images, x)
    upper = torch.where(shown, (images - x).flatten(1).norm(dim=1), torch.inf)
    target, source = _deciding(classifier, x, y, correct, statements)
    label = torch.where(correct, classifier.component_class[target], decided)
    return Bracket(
        lower, upper, images, correct, target, label, source, rule, task, x, y, statements
    )


def _check(task: Task, x: Tensor, y: Tensor, box: tuple[float, float] | None) -> None:
    """Refuse what cannot be certified."""
    check_task(task)
    task.mixtures_for("Certificates exist", "bayesgap.evaluate works without")
    task.check_images(x)
    task.check_labels(y, len(x))
    if not len(x):
        raise BayesgapError("There are no points to certify.")
    if box is not None:
        _check_box(box)


def _check_box(box: object) -> None:
    match box:
        case (int() | float() as low, int() | float() as high) if low < high:
            return
    raise BayesgapError(f"A box is (lowest, highest) of pixel values; got {box!r}.")


def _prove(
    prover: Prover, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"], result: SearchResult
) -> tuple[Float[Tensor, " n"], Statements]:
    """What the multipliers found prove, and the statements with the log-weights that go with it.

    Where H is all but singular at the multipliers, its definiteness is no longer certain. There a
    larger μ proves something, though less than the multipliers are worth; of targets that can never
    win, a much larger one does.
    """
    steepness = 1 / result.pairs.multipliers.sum(dim=1)
    provable = (steepness >= LEAST) & (steepness <= MOST)
    pairs, steepness = result.pairs[provable], steepness[provable]
    shares = pairs.multipliers * steepness[:, None]
    statements = Statements(
        point=pairs.point,
        target=pairs.target,
        own=torch.where(shares >= LEAST, pairs.own, UNUSED),
        shares=shares,
        steepness=steepness,
        log_weight=torch.zeros_like(steepness),
    )
    flat, labels = x.flatten(1).numpy(), y.numpy()
    radii, distance = np.zeros(len(x)), result.moves.norm(dim=1).numpy()
    for factor in (*STEEPER, *MUCH_STEEPER):
        rows = np.nonzero(radii * LAGGING < distance)[0] if factor > 1 else np.arange(len(x))
        if not len(rows):
            break
        tried = statements._replace(steepness=factor * steepness)
        if factor in MUCH_STEEPER:  # only for those that are not proven with what was best so far
            stated, _ = statements.of_points(len(x))
            proven = torch.ones(len(steepness), dtype=torch.bool)
            heights = prover.heights(flat[rows], labels[rows], [stated[i] for i in rows])
            for i, height in zip(rows.tolist(), heights, strict=True):
                proven[statements.point == i] = torch.from_numpy(np.isfinite(height))
            rows = statements.point[~proven].unique().numpy()
            if not len(rows):
                break
            steeper = torch.where(proven, statements.steepness, tried.steepness)
            tried = tried._replace(steepness=steeper)
        stated, _ = tried.of_points(len(x))
        reached, log_weights = prover.radii(flat[rows], labels[rows], [stated[i] for i in rows])
        for i, radius, weights in zip(rows.tolist(), reached, log_weights, strict=True):
            if radius > radii[i] or factor == 1:
                mine = statements.point == i
                radii[i] = radius
                statements.steepness[mine] = tried.steepness[mine]
                statements.log_weight[mine] = torch.from_numpy(weights)
    return torch.from_numpy(radii), statements


def _nearest(
    classifier: BayesClassifier,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    moves: Float[Tensor, "n d"],
    radii: Float[Tensor, " n"],
    box: tuple[float, float] | None,
) -> Float[Tensor, "n C H W"]:
    """The nearest points decided otherwise, walked nearer where bounds are apart."""
    found = moves.reshape(x.shape)
    if box is not None:
        inside = Boxed(classifier, box)
        starts = (x + stretch * found for stretch in STRETCHES)
        images = nearest_crossing(inside, x, y, starts, WALK_STEPS).clamp(*box)
        lost = _same(images, x)
        if lost.any():
            images[lost] = _from_means(inside, classifier, x[lost], y[lost]).clamp(*box)
        return images
    images = x + found
    apart = moves.norm(dim=1) > OPEN * radii
    if apart.any():
        starts = (x[apart] + nudge * found[apart] for nudge in NUDGES)
        walked = nearest_crossing(classifier, x[apart], y[apart], starts, WALK_STEPS)
        # Where rounding hides that a start is decided otherwise, it comes back as x.
        nowhere = _same(walked, x[apart])[:, None, None, None]
        images[apart] = torch.where(nowhere, images[apart], walked)
    loose = _same(images, x) | (norms(images - x) > LAGGING * radii)
    if loose.any():
        walked = _from_means(classifier, classifier, x[loose], y[loose])
        nearer = _same(images[loose], x[loose])
        nearer |= norms(walked - x[loose]) < norms(images[loose] - x[loose])
        nearer &= ~_same(walked, x[loose])
        images[loose] = torch.where(nearer[:, None, None, None], walked, images[loose])
    return images


def _from_means(
    decider: nn.Module,
    classifier: BayesClassifier,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
) -> Float[Tensor, "n C H W"]:
    """The nearest ends of walks from the means of all components; x where none ends anywhere."""
    means = classifier.marginal.means.reshape(-1, 1, *x.shape[1:])
    return nearest_crossing(decider, x, y, (mean.expand_as(x) for mean in means), WALK_STEPS)


def _same(images: Float[Tensor, "n C H W"], x: Float[Tensor, "n C H W"]) -> Bool[Tensor, " n"]:
    """Which images are x itself."""
    return (images == x).flatten(1).all(dim=1)


def _beyond_doubt(
    prover: Prover,
    classifier: BayesClassifier,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    images: Float[Tensor, "n C H W"],
    moves: Float[Tensor, "n d"],
    box: tuple[float, float] | None,
) -> tuple[Float[Tensor, "n C H W"], Bool[Tensor, " n"]]:
    """The images a little farther from x, until rounding cannot make their decision doubtful.

    Nor the classifier's own, which rounds more than proofs do. Also says for which images
    another decision is proven.
    """
    share, far = FIRST_SHARE, images - x
    # Next to the boundary rounding may swallow a move; a larger one along it is not.
    nowhere = _same(images, x)
    far[nowhere] = moves.reshape(x.shape)[nowhere]
    shown = torch.zeros(len(x), dtype=torch.bool)
    images = images.clone()
    doubtful = (far != 0).flatten(1).any(dim=1).nonzero().flatten()
    while len(doubtful):
        some, labels = images[doubtful], y[doubtful]
        proven = prover.decided_otherwise(some.flatten(1).numpy(), labels.numpy())
        shown[doubtful] = torch.from_numpy(proven)
        doubtful = doubtful[~(shown[doubtful] & (decisions(classifier, some) != labels))]
        if share > LAST_SHARE:
            break
        far[doubtful] *= 1 + share
        farther = x[doubtful] + far[doubtful]
        images[doubtful] = farther if box is None else farther.clamp(*box)
        share *= LENGTHENING
    return images, shown


def _deciding(
    classifier: BayesClassifier,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    correct: Bool[Tensor, " n"],
    statements: Statements,
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """For each point the target of the largest weight, and the largest share that holds it.

    Where nothing is stated, the likeliest components; where misclassified, none.
    """
    source, targets = classifier.likeliest_components(x, y)
    target = targets[:, 0]
    order = statements.log_weight.argsort(stable=True)  # the largest of each point is written last
    for row in order.tolist():
        point = statements.point[row]
        target[point] = statements.target[row]
        source[point] = statements.own[row, statements.shares[row].argmax()]
    return torch.where(correct, target, UNUSED), torch.where(correct, source, UNUSED)
