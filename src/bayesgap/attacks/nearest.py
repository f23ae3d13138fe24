"""The nearest neighbour's minimal perturbation, exactly: straight to the nearest foreign cell.

An image x that is decided as y is decided otherwise at x + v as soon as a training image s of
another class is nearer to it than every training image t of y. Of one s, these v form a polyhedron,
(s − t)·v ≥ h_t for all t of y, where h_t = (‖x − s‖² − ‖x − t‖²) / 2, and the shortest of them
solves a quadratic program. The minimal perturbation is the shortest over all s (Yang et al.,
"Robustness for Non-Parametric Classification: A Generic Attack and Defense", 2020).

Behind affine steps, such as a scaler's, images are compared as A x + b, and the same v satisfies
(s − t)·A v ≥ h_t, with h_t from A x + b: the normals become Aᵀ(s − t), and nothing else changes.

The dual method of Goldfarb and Idnani ("A numerically stable dual method for solving strictly
convex quadratic programs", 1983) takes in one violated constraint after the other, and v gets
longer on the way. So an unfinished program is a lower bound, as in Wang et al. ("Evaluating the
Robustness of Nearest Neighbor Classifiers: A Primal-Dual Perspective", 2019), and the search goes
on with the shortest alone: the first that is finished is the answer, and most are never begun.
"""

import heapq
import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.classifiers.linear import AffineStep
from bayesgap.classifiers.nearest import NearestNeighbour, neighbour_of
from bayesgap.classifiers.svm import squared_distances
from bayesgap.errors import BayesgapError

ROUNDINGS = 32  # of the largest square: what is taken for the error of a squared distance
DEPENDENT = 1e-10  # share of a normal's square below which it lies in the span of the active ones


class NearestClosedForm(Attack):
    """min ‖v‖ over all x + v that are nearer to an image of another class than to all of y.

    Exact up to rounding: every h_t is raised by 64 ε (‖x‖² + max ‖t‖²), with the ε of the
    classifier's dtype, so that its rounding cannot take the end back. Of one constraint, this
    lengthens v by that over ‖s − t‖: by about 1e-13 between images of digits in float64. Behind
    affine steps x is A x + b there, and ‖b‖² is added.
    """

    name = "closed-form"

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Step to the nearest of the points that images of other classes win, and a little on.

        Args:
            classifier: The nearest neighbour to attack.
            x: The images.
            y: The decision on each image.

        Raises:
            BayesgapError: the classifier is no nearest neighbour, or images with different labels
                are not the same, but too close for rounding to tell apart.
        """
        found = neighbour_of(classifier)
        if found is None:
            raise BayesgapError(
                "This closed form is for bayesgap's NearestNeighbour alone; it knows nothing of "
                "other classifiers."
            )
        training = _Training(*found)
        points = x.flatten(1).double().cpu().numpy()
        placed = training.placed(points)
        squared = squared_distances(
            torch.from_numpy(placed), torch.from_numpy(training.images)
        ).numpy()
        epsilon = torch.finfo(x.dtype).eps
        changes = [
            _Search(training, point, row, label, epsilon).change()
            for point, row, label in zip(placed, squared, y.tolist(), strict=True)
        ]
        return torch.from_numpy(points + np.stack(changes)).to(x).reshape(x.shape)


class _Training:
    """The training images in NumPy, float64, sorted by label; and what images become before."""

    def __init__(self, steps: list[AffineStep], neighbour: NearestNeighbour):
        self.images = neighbour.images.double().cpu().numpy()
        self.labels = neighbour.labels.cpu().numpy()
        self.squares = np.square(self.images).sum(axis=1)
        self.steps = [
            (step.matrix.double().cpu().numpy(), step.offset.double().cpu().numpy())
            for step in steps
        ]
        self.normals = self.back(self.images)
        self.normal_squares = np.square(self.normals).sum(axis=1)
        origin = self.placed(np.zeros((1, self.normals.shape[1])))
        self.offset_square = float(np.square(origin).sum())

    def placed(self, x: np.ndarray) -> np.ndarray:
        """A x + b of flattened images, one a row."""
        for matrix, offset in self.steps:
            x = (x * matrix if matrix.ndim == 1 else x @ matrix.T) + offset
        return x

    def moved(self, v: np.ndarray) -> np.ndarray:
        """A v of a change of an image."""
        for matrix, _ in self.steps:
            v = v * matrix if matrix.ndim == 1 else matrix @ v
        return v

    def back(self, rows: np.ndarray) -> np.ndarray:
        """Aᵀ r of each row r."""
        for matrix, _ in reversed(self.steps):
            rows = rows * matrix if matrix.ndim == 1 else rows @ matrix
        return rows


class _Search:
    """The search around one image x that is decided as y."""

    def __init__(
        self,
        training: _Training,
        x: np.ndarray,
        squared: np.ndarray,
        label: int,
        epsilon: float,
    ):
        """Hold the image.

        Args:
            training: The training images.
            x: The image, after the affine steps.
            squared: Its squared distance to each training image.
            label: The decision on it, y.
            epsilon: The rounding of the classifier's dtype.
        """
        self.training, self.images, self.labels = training, training.images, training.labels
        self.squares = training.squares
        self.x, self.squared, self.label = x, squared, label
        first, last = np.searchsorted(self.labels, [label, label + 1])
        self.own = slice(int(first), int(last))
        self.nearest = int(squared[self.own].argmin())  # of y, counted from its first image
        largest = float(self.squares.max() + x @ x) + training.offset_square
        self.error = ROUNDINGS * float(np.finfo(float).eps) * largest
        self.raised = 2 * ROUNDINGS * epsilon * largest

    def change(self) -> np.ndarray:
        """The shortest v by which the image is decided otherwise; 0 where there is none."""
        queue = self._bisectors()
        programs: dict[int, _Program] = {}
        while queue:
            bound, s = heapq.heappop(queue)
            same = self._same(s)
            if len(same) and self.labels[s] > self.label:
                continue  # it never wins the tie with its equal
            if s not in programs:
                programs[s] = _Program(self.training, self.x, s, self.own, self.raised)
                if bound > 0:  # the constraint that it comes from, which gives it exactly
                    programs[s].take_in(self.nearest)
                    heapq.heappush(queue, (programs[s].bound(), s))
                    continue
            program = programs[s]
            v = program.change()
            slack = self._slack(s, self.x + self.training.moved(v))
            slack[same] = math.inf  # it always wins that one
            slack[program.active] = math.inf  # those hold, up to rounding
            if slack.min() >= self.raised - self.error:
                return v
            program.take_in(int(slack.argmin()))
            heapq.heappush(queue, (program.bound(), s))
        return np.zeros(self.training.normals.shape[1])

    def _bisectors(self) -> list[tuple[float, int]]:
        """The distance to each bisector between y's nearest image and one of another class.

        From below in spite of rounding, and the least first; 0 where the two are the same.
        """
        t = self.own.start + self.nearest
        normals, each = self.training.normals, self.training.normal_squares
        squares = each + each[t] - 2 * (normals @ normals[t])
        error = 2 * ROUNDINGS * float(np.finfo(float).eps) * each.max()
        offsets = (self.squared - self.squared[t]) / 2 - self.error
        bounds = offsets.clip(min=0) / np.sqrt(squares.clip(min=0) + error)
        others = np.flatnonzero(self.labels != self.label)
        return sorted(zip(bounds[others].tolist(), others.tolist(), strict=True))

    def _same(self, s: int) -> np.ndarray:
        """Which own images equal s, counted from the first."""
        likely = np.flatnonzero(self.squares[self.own] == self.squares[s])
        equal = (self.images[self.own][likely] == self.images[s]).all(axis=1)
        same: np.ndarray = likely[equal]
        return same

    def _slack(self, s: int, z: np.ndarray) -> np.ndarray:
        """(‖z − t‖² − ‖z − s‖²) / 2 of each own image t: negative where it is nearer than s."""
        halves: np.ndarray = self.squares / 2
        own: np.ndarray = halves[self.own] - self.images[self.own] @ z
        return own - float(halves[s] - self.images[s] @ z)


class _Program:
    """The shortest v with (s − t)·v ≥ h_t of the own images t that were taken in.

    It is Σ_t multiplier_t (s − t) with positive multipliers over a few of them, the active ones,
    whose constraints hold with equality and whose s − t are linearly independent. Behind affine
    steps Aᵀ(s − t) stands for s − t.
    """

    def __init__(self, training: _Training, x: np.ndarray, s: int, own: slice, raised: float):
        """Begin with none, and v = 0.

        Args:
            training: The training images.
            x: The image, after the affine steps.
            s: The training image of another class.
            own: Those of the own class.
            raised: What is added to each h_t.
        """
        self.back, self.x, self.raised = training.back, x, raised
        self.s, self.own = training.images[s], training.images[own]
        self.active = np.empty(0, dtype=int)
        self.multipliers = np.empty(0)

    def _constraints(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Aᵀ(s − t) and h_t of some own images, from differences, which cancel no digits."""
        apart = self.s - self.own[rows]
        doubled = (apart * (self.s + self.own[rows] - 2 * self.x)).sum(axis=1)
        return self.back(apart), doubled / 2 + self.raised

    def change(self) -> np.ndarray:
        """v."""
        normals, _ = self._constraints(self.active)
        v: np.ndarray = self.multipliers @ normals
        return v

    def bound(self) -> float:
        """The distance to the half-space Σ_t multiplier_t ((s − t)·v − h_t) ≥ 0, which is ‖v‖.

        A lower bound of the whole program's, with any multipliers that are not negative.
        """
        normals, offsets = self._constraints(self.active)
        return float(self.multipliers @ offsets / np.linalg.norm(self.multipliers @ normals))

    def take_in(self, new: int) -> None:
        """Make v satisfy a violated constraint too.

        Its multiplier grows, and the active ones change so that their constraints stay equalities,
        until it is one as well. One whose multiplier vanishes on the way is active no longer.

        Args:
            new: The own image that it comes from.

        Raises:
            BayesgapError: rounding leaves no point that satisfies all of them.
        """
        rows = np.append(self.active, new)
        normals, offsets = self._constraints(rows)
        products = normals @ normals.T
        multipliers = np.append(self.multipliers, 0.0)
        last = len(self.active)
        active = np.arange(last)
        while True:
            change = np.linalg.solve(products[np.ix_(active, active)], products[active, last])
            square = products[last, last]
            outside = square - products[last, active] @ change
            violation = offsets[last] - products[last] @ multipliers
            whole = violation / outside if outside > DEPENDENT * square else math.inf
            limits = np.full(len(active), math.inf)
            np.divide(multipliers[active], change, out=limits, where=change > 0)
            step = min(whole, limits.min(initial=math.inf))
            if math.isinf(step):
                raise BayesgapError(
                    f"Training images of different classes lie {math.sqrt(square):.1e} apart, "
                    "which rounding hardly tells from 0: keep one of them, or both with the same "
                    "label."
                )
            multipliers[active] -= step * change
            multipliers[last] += step
            if step == whole:
                break
            multipliers[active[limits.argmin()]] = 0.0
            active = np.delete(active, limits.argmin())
        active = np.append(active, last)
        self.active, self.multipliers = rows[active], multipliers[active]
