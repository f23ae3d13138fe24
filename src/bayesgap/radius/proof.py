"""Proofs: what multipliers are worth, with every rounding error bounded.

This module shares no code with the search for multipliers, and trusts nothing that it found.
It works on the images and the parameters of the densities themselves, in float64 and NumPy, one
pair of a point and a target component at a time, and says for each what no point of a ball can
exceed. What is proven, at a point x of class y: for all ‖u‖ ≤ r and each other class c,

    S_c(x + u) < S_y(x + u),    S_y = log Σ_i exp a_i,    S_c = log Σ_j exp b_j,

with a and b the log-joints of components. For any shares v_i ≥ 0 that sum to 1,
S_y ≥ Σ v_i a_i + H(v), so that b_j − S_y ≤ M_j(r) = C_j + ½ μ_j r² in the ball, where

    C_j ≥ max over u of b_j(x + u) − Σ v_i a_i(x + u) − H(v) − ½ μ_j ‖u‖²,

and Σ_j exp M_j(r) < 1 suffices (w_j = exp M_j are the weights of the design). Under the paper's
rule of the largest component, H(v) falls away and M_j(r) < 0 for each j suffices.

Three devices keep rounding harmless although log-densities are millions of nats that cancel:

- (x − mu)ᵀΣ⁻¹(x − mu) = min over y of ‖D^(-1/2)(x − mu − A y)‖² + ‖y‖², a sum of positive terms
  for whatever y was computed, and too large by at most the squared norm of its residual.
- At whatever point p was computed as the maximiser, the maximum is the value at p plus
  ½ ρᵀH⁻¹ρ ≤ ‖ρ‖² / 2h, with ρ the gradient there and H − hI positive definite.
- Definiteness of diag(E) + Σ v_i N_i M_i⁻¹ N_iᵀ − N_j M_j⁻¹ N_jᵀ is that of one Schur complement of
  l rows, a lower bound of which, in the order of matrices, is a polynomial in whatever solution
  of its inner system was computed.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import cho_solve
from scipy.linalg.lapack import dpotrs
from scipy.optimize import brentq

from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError
from bayesgap.tasks.bayes import Rule
from bayesgap.tasks.task import Task

ROUNDING = np.finfo(np.float64).eps / 2
SHIFT = 1e-8  # h, as a share of μ
LIFTED = 1e-6  # share of μ; where E is below, the pixel joins the rows that make H smaller
MOST_LIFTED = 128
ROOT = 1e-12  # relative accuracy to which a radius is sought, and by which it is then reduced
LARGEST_ERROR = 0.1  # of a logarithm of a determinant; the bound of it is of first order
TOO_LARGE = (
    "The factors of a mixture are too large for its noise: no radius can be proven in float64. "
    "Raise the noise or scale the factors down."
)
SMALLEST_RADIUS = 1e-6  # where the search for one begins
LEAST, MOST = 1e-100, 1e100  # of shares and μ: far from where numbers over- or underflow
BLOCK_BYTES = 128 * 2**20  # of what is kept in memory at once
VECTORS = 8  # of d numbers that a statement needs at once
NEGLIGIBLE = 1e-12  # by which the sum of weights stays below 1, more than its own rounding

Vector = Float[np.ndarray, "_"]  # of any length
Matrix = Float[np.ndarray, "_ _"]


def gamma(operations: int) -> float:
    """γ: bounds the relative rounding error of a sum of products, in any order (Higham, ch. 3).

    A hundredth more than k·u/(1 − k·u), for the rounding of the bounds themselves.

    Args:
        operations: k, how many roundings go into the sum.
    """
    return 1.01 * operations * ROUNDING / (1 - operations * ROUNDING)


@dataclass(frozen=True)
class Statement:
    """Which own components, with which shares, are stated to hold a target component off.

    Attributes:
        target: Index of the target among all classes' components.
        own: Indices of components of the own class; at least one.
        shares: v, one for each of them, positive; divided by their sum.
        steepness: μ, in nats per squared pixel unit; positive.
    """

    target: int
    own: Sequence[int]
    shares: Float[np.ndarray, " m"]
    steepness: float


def _norms(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    roots: Float[np.ndarray, " n"] = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return roots


class Enclosure:
    """One component at points z: its log-joint and Σ⁻¹(z − mu), with bounds of their errors.

    Attributes:
        low: At most log prior + log pi + log N(z; mu, Σ) of each point, in nats.
        high: At least log prior + log pi + log N(z; mu, Σ) of each point, in nats.
        near: At most the squared Mahalanobis distance of each point.
        far: At least the squared Mahalanobis distance of each point.
        pull: Σ⁻¹(z − mu) of each point, as computed, of shape (n, d).
        pull_error: At least the norm of the error of each point's pull.
    """

    def __init__(self, component: "Component", z: Float[np.ndarray, "n d"]):
        """Score the points.

        Args:
            component: The Gaussian to score by.
            z: The points, flattened.
        """
        c, (d, latent) = component, component.factors.shape
        offset = z - c.mean
        y = c.latent(offset)
        rest = offset - y @ c.factors.T
        size, pull = _norms(rest), rest / c.noise
        # Cauchy and Schwarz turn the errors of single pixels into norms.
        rest_error = _norms(offset) + np.abs(y) @ c.factor_norms
        rest_error = gamma(latent + 2) * (1 + gamma(d)) * rest_error
        squared = np.einsum("nd,nd->n", rest, pull) + (y**2).sum(axis=1)
        error = (2 * _norms(pull) + c.steepest**2 * rest_error) * rest_error
        error += gamma(d + latent + 8) * squared
        residual = np.abs(y - rest @ c.scaled) + rest_error[:, None] * c.scaled_norms
        residual += gamma(d + 4) * (np.abs(y) + size[:, None] * c.scaled_norms)
        excess = 1.01 * (residual**2).sum(axis=1)
        self.near = np.maximum(0.0, squared - 1.01 * error - excess)
        self.far = squared + 1.01 * error
        wide = c.constant_error + gamma(4) * (np.abs(c.constant) + self.far)
        self.low = c.constant - 0.5 * self.far - wide
        self.high = c.constant - 0.5 * self.near + wide
        self.pull = pull
        self.pull_error = 1.01 * (
            c.steepest * np.sqrt(excess) + c.steepest**2 * rest_error + gamma(2) * _norms(pull)
        )


class Component:
    """One Gaussian: its parameters as given, and what is derived from them.

    Attributes:
        label: The class that the component belongs to.
        mean: The mean mu, of shape (d,).
        factors: The factors A, of shape (d, l).
        noise: The diagonal of D, of shape (d,).
        latent_size: l, the number of factors.
        scaled: N = D⁻¹A, of shape (d, l).
        factor_norms: Norms of the columns of A, of shape (l,), rounded up.
        scaled_norms: Norms of the columns of N, of shape (l,), rounded up.
        capacitance: M = I + AᵀD⁻¹A, of shape (l, l).
        cholesky: The lower Cholesky factor of M.
        constant: log prior + log pi − ½ log|2πΣ|, in nats.
        constant_error: A bound of the constant's rounding error, in nats.
        steepest: max D^(-1/2), which bounds the norm of Σ^(-1/2).
    """

    def __init__(self, label: int, prior: float, density: MixtureOfFactorAnalyzers, index: int):
        """Take one component out of a density.

        Args:
            label: The class that the density is of.
            prior: The prior probability of that class.
            density: The mixture that holds the component.
            index: The component's place in the mixture.

        Raises:
            BayesgapError: its covariance is too near to singular to bound its determinant.
        """
        self.label = label
        self.mean, self.factors, self.noise = (
            getattr(density, name)[index].double().cpu().numpy()
            for name in ("means", "factors", "noise")
        )
        d, latent = self.factors.shape
        self.latent_size = latent
        self.scaled = self.factors / self.noise[:, None]
        self.factor_norms, self.scaled_norms = (
            1.01 * np.linalg.norm(matrix, axis=0) for matrix in (self.factors, self.scaled)
        )
        self.capacitance = np.eye(latent) + self.factors.T @ self.scaled
        try:
            self.cholesky = np.linalg.cholesky(self.capacitance)
        except np.linalg.LinAlgError as error:
            raise BayesgapError(TOO_LARGE) from error
        logs = np.concatenate(
            [
                np.log([prior, float(density.weights[index])]),
                -0.5 * np.log(self.noise),
                -np.log(self.cholesky.diagonal()),
                [-0.5 * d * math.log(2 * math.pi)],
            ]
        )
        self.constant = float(logs.sum())
        whole = np.eye(latent)
        inverse = np.abs(cho_solve((self.cholesky, True), whole, check_finite=False))
        size = np.sqrt(self.capacitance.diagonal())
        determinant = 2 * gamma(2 * (d + latent) + 8) * float(size @ inverse @ size)
        if not determinant <= LARGEST_ERROR:
            raise BayesgapError(TOO_LARGE)
        self.constant_error = determinant + gamma(d + latent + 16) * float(np.abs(logs).sum())
        self.steepest = (1 + gamma(4)) / math.sqrt(self.noise.min())

    def latent(self, offset: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n l"]:
        """M⁻¹AᵀD⁻¹(x − mu), about.

        Args:
            offset: x − mu of each point.
        """
        right: Float[np.ndarray, "l n"] = (offset @ self.scaled).T
        if not right.size:
            return right.T
        solved: Float[np.ndarray, "l n"] = dpotrs(self.cholesky, right, lower=1)[0]
        return solved.T


class Prover:
    """Proves radii of one task under one rule.

    Attributes:
        rule: How a class's log-joint comes from its components'.
        components: All classes' components, in the order of `BayesClassifier.component_class`.
        labels: The class of each component.
        members: For each class, which components are its own.
        steepest: max D^(-1/2) of each component.
        ceilings: At least log prior + log pi − ½ log|2πΣ| of each component, in nats.
        columns: Where each component's factors begin among those of all, and where the last end.
        products: NᵀN for the N of all components side by side, where all noises are isotropic and
            they are few enough; else None.
        floors: At most log prior + log pi − ½ log|2πΣ| of each component, in nats.
    """

    def __init__(self, task: Task, rule: Rule):
        """Derive from the task's parameters what proofs need.

        Args:
            task: The task whose optimum the proofs are about.
            rule: How a class's log-joint comes from its components': by their log-sum-exp, or
                by the largest.

        Raises:
            BayesgapError: a density is no mixture of factor analyzers, or a covariance is too near
                to singular to prove anything.
        """
        self.rule = rule
        self.components = [
            Component(label, prior, density, k)
            for label, (prior, density) in enumerate(
                zip(task.priors.tolist(), task.mixtures, strict=True)
            )
            for k in range(density.components)
        ]
        self.labels = np.array([component.label for component in self.components])
        self.members = [self.labels == label for label in range(task.classes)]
        self.steepest = np.array([component.steepest for component in self.components])
        self.ceilings = np.array([c.constant + c.constant_error for c in self.components])
        # Where all noises are isotropic, all pairs of components share one table of products.
        self.columns = np.cumsum([0, *(c.latent_size for c in self.components)])
        self.products: Matrix | None = None
        fits = 8 * self.columns[-1] ** 2 <= BLOCK_BYTES
        if fits and all(np.ptp(c.noise) == 0 for c in self.components):
            rows = np.concatenate([c.scaled for c in self.components], axis=1)
            self.products = rows.T @ rows
        self.floors = np.array([c.constant - c.constant_error for c in self.components])

    def radii(
        self,
        x: Float[np.ndarray, "n d"],
        y: Int[np.ndarray, " n"],
        statements: Sequence[Sequence[Statement]],
    ) -> tuple[Float[np.ndarray, " n"], list[Vector]]:
        """The largest radius that the statements prove at each point, and the weights there.

        Args:
            x: The points, flattened.
            y: The classes that decide the points.
            statements: For each point, at most one for each component of another class.
                Components without a statement are bounded by their Mahalanobis distance alone.

        Returns:
            Radii in pixel units, 0 where nothing is proven; and for each point, log w of the
            target of each of its statements at that radius.
        """
        radii, weights = np.zeros(len(x)), []
        for i, proof in enumerate(self._proofs(x, y, statements)):
            radii[i] = proof.radius()
            weights.append(proof.log_weights(radii[i])[proof.targets])
        return radii, weights

    def heights(
        self,
        x: Float[np.ndarray, "n d"],
        y: Int[np.ndarray, " n"],
        statements: Sequence[Sequence[Statement]],
    ) -> list[Vector]:
        """C of each point's statements, in nats; infinite where it cannot be proven.

        Args:
            x: The points, flattened.
            y: The classes that decide the points.
            statements: For each point, at most one for each component of another class.
        """
        return [proof.heights for proof in self._proofs(x, y, statements)]

    def confirm(
        self,
        x: Float[np.ndarray, "n d"],
        y: Int[np.ndarray, " n"],
        statements: Sequence[Sequence[Statement]],
        radii: Float[np.ndarray, " n"],
        log_weights: Sequence[Vector],
    ) -> Bool[np.ndarray, " n"]:
        """Whether the statements prove these radii at the points, with these weights of targets.

        Args:
            x: The points, flattened.
            y: The classes that decide the points.
            statements: For each point, at most one for each component of another class.
            radii: The radius to prove at each point, in pixel units; one of 0 holds by itself.
            log_weights: For each point, log w of the target of each of its statements.
        """
        held = np.zeros(len(x), dtype=bool)
        for i, proof in enumerate(self._proofs(x, y, statements)):
            held[i] = radii[i] == 0 or proof.holds(float(radii[i]), log_weights[i])
        return held

    def decided_otherwise(
        self, x: Float[np.ndarray, "n d"], y: Int[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        """Whether the log-joint of another class certainly exceeds that of y, rounding counted.

        Args:
            x: The points, flattened.
            y: A class for each point.
        """
        low, high = np.empty((2, len(x), len(self.components)))
        for k, component in enumerate(self.components):
            enclosure = Enclosure(component, x)
            # What overflowed is not known.
            low[:, k] = np.where(np.isfinite(enclosure.low), enclosure.low, -np.inf)
            high[:, k] = np.where(np.isfinite(enclosure.high), enclosure.high, np.inf)
        lows, highs = (
            np.array([[self.total(row[which]) for which in self.members] for row in values])
            for values in (low, high)
        )
        rows = np.arange(len(x))
        own = highs[rows, y]
        lows[rows, y] = -np.inf
        above: Bool[np.ndarray, " n"] = lows.max(axis=1) > own + gamma(16) * (np.abs(own) + 1)
        return above

    def _proofs(
        self,
        x: Float[np.ndarray, "n d"],
        y: Int[np.ndarray, " n"],
        statements: Sequence[Sequence[Statement]],
    ) -> Iterator["PointProof"]:
        """What the statements prove at each point, computed for a block of points at a time."""
        # Vectors of d numbers: a pull of every component, and some for each statement.
        vectors = len(self.components) + VECTORS * max(map(len, statements), default=0)
        step = max(1, BLOCK_BYTES // (8 * vectors * x.shape[1]))
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            some, stated = x[rows], statements[rows]
            at = [Enclosure(component, some) for component in self.components]
            near, far = (np.sqrt([getattr(e, name) for e in at]).T for name in ("near", "far"))
            heights = iter(self._heights(some, [e.pull for e in at], _Batch(stated)))
            for label, mine, *distances in zip(y[rows], stated, near, far, strict=True):
                own = np.array([*itertools.islice(heights, len(mine))])
                yield PointProof(self, int(label), mine, own, *distances)

    def total(self, log_weights: Vector) -> float:
        """What log-weights amount to under the rule: their log-sum-exp, or the largest.

        Args:
            log_weights: One for each of some components.
        """
        largest = float(log_weights.max())
        if self.rule == "max-component" or not math.isfinite(largest):
            return largest
        return largest + math.log(float(np.exp(log_weights - largest).sum()))

    def _heights(
        self, x: Float[np.ndarray, "n d"], pulls: Sequence[Matrix], batch: "_Batch"
    ) -> Float[np.ndarray, " B"]:
        """C of each statement, in nats; infinite where it cannot be proven.

        Args:
            x: The points, flattened.
            pulls: For each component, Σ⁻¹(x − mu) at each point, about.
            batch: The statements at the points.
        """
        mu, point = batch.steepness, batch.point
        # Of isotropic noises one pixel stands for all.
        pixels = 1 if self.products is not None else x.shape[1]
        diagonal, sums = np.tile(mu, pixels), np.tile(mu, pixels)
        gradient = np.zeros((len(mu), x.shape[1]))  # at x
        for k, rows, factor in batch.parts:
            precisions = factor / self.components[k].noise[:pixels]
            diagonal[rows] -= precisions
            sums[rows] += np.abs(precisions)
            gradient[rows] += factor * pulls[k][point[rows]]
        diagonal -= SHIFT * mu + gamma(2 * batch.width + 8) * sums
        systems = [
            self._system(statement, row, x.shape[1])
            for statement, row in zip(batch.statements, diagonal, strict=True)
        ]
        first = gradient / diagonal
        right, codes = np.zeros((2, len(mu), self.columns[-1]))
        for k, rows, _ in batch.parts:
            right[rows, self._span(k)] = first[rows] @ self.components[k].scaled
        correction, proven = np.zeros_like(first), np.zeros(len(mu), dtype=bool)
        for row, (statement, system) in enumerate(zip(batch.statements, systems, strict=True)):
            if system is None:
                continue
            matrix, lifted = system
            columns = self._columns([*statement.own, statement.target])
            known = np.concatenate([right[row, columns], first[row, lifted]])
            try:
                code = np.linalg.solve(matrix, known)
            except np.linalg.LinAlgError:
                continue
            codes[row, columns], correction[row, lifted] = np.split(code, [len(columns)])
            proven[row] = True
        for k, rows, _ in batch.parts:
            correction[rows] += codes[rows, self._span(k)] @ self.components[k].scaled.T
        z = x[point] + first - correction / diagonal
        heights: Float[np.ndarray, " B"]
        heights = np.where(proven, self._maxima(x[point], z, batch), np.inf)
        return heights

    def _system(
        self, statement: Statement, diagonal: Vector, d: int
    ) -> tuple[Matrix, Int[np.ndarray, " lifted"]] | None:
        """The equations of the maximiser's codes, or None where it is not certainly the maximum.

        Pixels where the diagonal is not positive join the rows that make H smaller: they are
        lifted to μ in place, and come back.
        """
        own = [self.components[i] for i in statement.own]
        target, v, mu = self.components[statement.target], statement.shares, statement.steepness
        if not (v.min() >= LEAST and v.max() <= 1 and LEAST <= mu <= MOST):
            return None
        low = diagonal < LIFTED * mu
        (lifted,) = np.nonzero(np.broadcast_to(low, d))
        if len(lifted) > MOST_LIFTED:
            return None
        lift = mu - np.broadcast_to(diagonal, d)[lifted]
        diagonal[low] = mu
        held = sum(c.latent_size for c in own)
        gram = self._gram([*statement.own, statement.target], diagonal, lifted)
        above = _blocks([c.capacitance / share for share, c in zip(v, own, strict=True)])
        below = _blocks([target.capacitance, np.diag(1 / lift)])
        system = gram + _blocks([above, -below])
        try:
            inner = np.linalg.solve(system[:held, :held], gram[:held, held:])
            definite = self._definite(system[:held, :held], gram, below, inner, d)
        except np.linalg.LinAlgError:
            return None
        return (system, lifted) if definite else None

    def _span(self, k: int) -> slice:
        """Where a component's factors are among those of all components."""
        return slice(*self.columns[k : k + 2])

    def _columns(self, involved: Sequence[int]) -> Int[np.ndarray, " columns"]:
        """Where the factors of several components are."""
        columns: Int[np.ndarray, " columns"]
        columns = np.concatenate([np.arange(*self.columns[k : k + 2]) for k in involved])
        return columns

    def _gram(
        self, involved: Sequence[int], diagonal: Vector, lifted: Int[np.ndarray, " lifted"]
    ) -> Matrix:
        """Products, divided by the diagonal, of the columns of all N involved.

        Those of the lifted pixels' unit vectors come last.
        """
        if self.products is not None and not len(lifted):
            columns = self._columns(involved)
            shared: Matrix = self.products[np.ix_(columns, columns)] / diagonal[0]
            return shared
        units = np.zeros((len(self.components[0].mean), len(lifted)))
        units[lifted, np.arange(len(lifted))] = 1
        rows = np.concatenate([*(self.components[k].scaled for k in involved), units], axis=1)
        products: Matrix = rows.T @ (rows / diagonal[:, None])
        return products

    def _definite(self, outer: Matrix, gram: Matrix, below: Matrix, inner: Matrix, d: int) -> bool:
        """Whether below − G_nn + G_nv outer⁻¹ G_vn is certainly positive definite."""
        held = len(outer)
        cross = gram[:held, held:]
        bound = below - gram[held:, held:] + inner.T @ cross + cross.T @ inner
        bound -= inner.T @ outer @ inner
        if not len(bound):
            return True
        # |Δ| ≤ γ t tᵀ entry by entry: each entry of a Gram matrix errs by γ √(its diagonal's two).
        t = np.sqrt(below.diagonal() + gram.diagonal()[held:])
        t = t + np.abs(inner).T @ np.sqrt(outer.diagonal())
        least = bound.diagonal()
        if not (least > 0).all():
            return False
        scale = 1 / np.sqrt(least)
        size = len(gram)
        slack = gamma(d + 8 * size + 32) * float((scale * t) @ (scale * t))
        slack += gamma(4 * size**2 + 8) * size
        return bool(np.linalg.eigvalsh(scale[:, None] * bound * scale)[0] > slack)

    def _maxima(
        self, x: Float[np.ndarray, "B d"], z: Float[np.ndarray, "B d"], batch: "_Batch"
    ) -> Float[np.ndarray, " B"]:
        """Bounds b_j − Σ v_i a_i − H(v) − ½ μ‖u‖² everywhere, from its value and gradient at z."""
        u, mu, width, d = z - x, batch.steepness, batch.width, x.shape[1]
        value, magnitude, size, error = np.zeros((4, len(u)))
        gradient = -mu * u
        for k, rows, factor in batch.parts:
            there, f = Enclosure(self.components[k], z[rows]), factor[:, 0]
            # Each term at most: the target's factor is 1, those of the own ones are −v.
            term = f * np.where(f > 0, there.low, there.high)
            value[rows] -= term
            magnitude[rows] += np.abs(term)
            gradient[rows] += factor * there.pull
            size[rows] += np.abs(f) * _norms(there.pull)
            error[rows] += np.abs(f) * there.pull_error
        mu = mu[:, 0]
        length = _norms(u)
        squared = length**2
        entropy = batch.entropy if self.rule == "log-sum-exp" else np.zeros(len(u))
        value += -entropy - 0.5 * mu * squared
        value += gamma(2 * width + 16) * (magnitude + entropy + 1)
        value += gamma(d + 16) * 0.5 * mu * squared
        error += gamma(2 * width + 8) * (size + mu * length)
        steep = (1 + gamma(d + 8)) * _norms(gradient) + 1.01 * error
        highest: Float[np.ndarray, " B"] = value + 1.01 * steep**2 / (2 * SHIFT * mu)
        return highest


class _Batch:
    """The statements at several points, and what they involve.

    Attributes:
        statements: One point's after the other's, their shares made to sum to 1.
        point: The index of each statement's point.
        steepness: μ of each statement, in a column.
        entropy: H(v) of each statement, in nats.
        width: The largest number of own components in a statement.
        parts: Each component involved, the rows of the statements that involve it, and in a
            column what its log-joint is multiplied with there to be subtracted: v, or −1 for the
            target's.
    """

    def __init__(self, statements: Sequence[Sequence[Statement]]):
        """Join the statements.

        Args:
            statements: For each point, its statements.
        """
        self.statements = [
            replace(statement, shares=statement.shares / statement.shares.sum())
            for some in statements
            for statement in some
        ]
        self.point = np.repeat(np.arange(len(statements)), [len(some) for some in statements])
        self.steepness = np.array([s.steepness for s in self.statements]).reshape(-1, 1)
        self.entropy = np.array([-(s.shares * np.log(s.shares)).sum() for s in self.statements])
        self.width = max((len(statement.own) for statement in self.statements), default=0)
        factors: dict[int, dict[int, float]] = {}
        for row, s in enumerate(self.statements):
            for k, share in zip((*s.own, s.target), (*s.shares, -1.0), strict=True):
                factors.setdefault(k, {})[row] = share
        self.parts = [
            (k, np.array([*some]), np.array([*some.values()])[:, None])
            for k, some in factors.items()
        ]


class PointProof:
    """What the statements at one point prove, as a function of the radius.

    Attributes:
        heights: C of each statement, in nats; infinite where it cannot be proven.
        steepness: μ of each statement, in nats per squared pixel unit.
        targets: The index of each statement's target component.
        near: At most the Mahalanobis distance from each component.
        far: At least the Mahalanobis distance from each component.
        own: Which components are of the class that decides the point.
        others: For each other class, which components are of it.
    """

    def __init__(
        self,
        prover: Prover,
        y: int,
        statements: Sequence[Statement],
        heights: Float[np.ndarray, " statements"],
        near: Float[np.ndarray, " K"],
        far: Float[np.ndarray, " K"],
    ):
        """Hold what bounds each component's log-joint around the point.

        Args:
            prover: The task's components and the rule.
            y: The class that decides the point.
            statements: At most one for each component of another class.
            heights: C of each statement, in nats.
            near: At most the Mahalanobis distance from each component.
            far: At least the Mahalanobis distance from each component.

        Raises:
            BayesgapError: a statement takes components of the wrong class, or one twice.
        """
        for statement in statements:
            own = list(statement.own)
            if (
                prover.labels[statement.target] == y
                or (prover.labels[own] != y).any()
                or len(set(own)) < len(own)
            ):
                raise BayesgapError(
                    f"A statement at a point of class {y} holds components {own} against "
                    f"{statement.target}: the former must be of that class and each there once, "
                    "the latter of another."
                )
        self.prover = prover
        self.heights = np.where(np.isnan(heights), np.inf, heights)
        self.steepness = np.array([statement.steepness for statement in statements])
        self.targets = np.array([statement.target for statement in statements], dtype=int)
        # What overflowed is not known.
        self.near = np.where(np.isfinite(near), near, 0.0) * (1 - gamma(8))
        self.far = np.where(np.isfinite(far), far, np.inf) * (1 + gamma(8))
        self.own = prover.members[y]
        self.others = [which for label, which in enumerate(prover.members) if label != y]

    def log_weights(self, r: float) -> Float[np.ndarray, " K"]:
        """M_j(r) of all components, in nats; those of the own class mean nothing.

        Args:
            r: The radius, in pixel units.
        """
        prover, reach = self.prover, r * self.prover.steepest
        tops = prover.ceilings - 0.5 * np.maximum(0.0, self.near - reach) ** 2
        tops += gamma(16) * (np.abs(prover.ceilings) + (self.near + reach) ** 2)
        bottoms = prover.floors - 0.5 * (self.far + reach) ** 2
        bottoms -= gamma(16) * (np.abs(prover.floors) + (self.far + reach) ** 2)
        above: Float[np.ndarray, " K"] = tops - bottoms[self.own].max()
        rise = 0.5 * self.steepness * (r * r)
        stated = self.heights + rise + gamma(8) * (np.abs(self.heights) + rise)
        stated[np.isnan(stated)] = np.inf
        above[self.targets] = np.minimum(above[self.targets], stated)
        return above

    def room(self, log_weights: Float[np.ndarray, " K"]) -> float:
        """Positive where no class's targets reach the weight that would make it win.

        Args:
            log_weights: log w of all components, in nats.
        """
        totals = [self.prover.total(log_weights[which]) for which in self.others]
        return -NEGLIGIBLE - float(np.max(totals))  # NaN if any is, unlike Python's max

    def radius(self) -> float:
        """The largest radius at which there is room, in pixel units, less a little."""

        def room(r: float) -> float:
            return self.room(self.log_weights(r))

        if not room(0.0) > 0:
            return 0.0
        # Where one target alone reaches a weight of 1.
        alone = np.sqrt(np.maximum(0.0, -2 * self.heights) / self.steepness)
        beyond = float(alone.min(initial=1.0)) or SMALLEST_RADIUS
        while room(beyond) > 0:
            beyond *= 2
        # Halving may have to go from 1 to the smallest of numbers.
        root: float = brentq(room, 0.0, beyond, xtol=1e-300, rtol=ROOT, maxiter=2_000)
        r = root * (1 - 2 * ROOT)
        while not room(r) > 0:
            r *= 1 - 1e-9
        return r

    def holds(self, r: float, log_weights: Float[np.ndarray, " statements"]) -> bool:
        """Whether no target needs more than its weight at this radius, and there is room.

        Args:
            r: The radius, in pixel units.
            log_weights: log w of each statement's target, in nats.
        """
        above = self.log_weights(r)
        enough = bool((above[self.targets] <= log_weights).all())
        above[self.targets] = log_weights
        return enough and self.room(above) > 0


def _blocks(matrices: Sequence[Matrix]) -> Matrix:
    """A block-diagonal matrix."""
    joined = np.zeros((sum(map(len, matrices)),) * 2)
    start = 0
    for matrix in matrices:
        end = start + len(matrix)
        joined[start:end, start:end] = matrix
        start = end
    return joined
