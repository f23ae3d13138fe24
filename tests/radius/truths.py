"""True radii, found without any of the code under test; small tasks to find them for."""

import math

import mpmath
import numpy as np
import torch
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from scipy.stats import multivariate_normal

from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.tasks.bayes import Rule
from bayesgap.tasks.task import Task
from strategies import SEEDS

RULES: tuple[Rule, ...] = ("log-sum-exp", "max-component")
NOISES = ("isotropic equal", "isotropic unequal", "diagonal")
DIGITS = 50
ANGLES = 180
STEPS = 60  # along each ray
FARTHEST = 10.0  # where the search ends


def gaussians(weights, means, factors, noise):
    """A density from anything that NumPy takes."""
    return MixtureOfFactorAnalyzers(
        *(torch.from_numpy(np.array(t, dtype=float)) for t in (weights, means, factors, noise))
    )


def plain(mean, variance=1.0, factors=None):
    """One Gaussian: noise variances of one pixel or of all, and factors (d, l)."""
    mean = np.asarray(mean, dtype=float)
    factors = np.zeros((len(mean), 0)) if factors is None else np.asarray(factors, dtype=float)
    return gaussians([1.0], [mean], [factors], [np.broadcast_to(variance, mean.shape)])


def task_of(*densities, **kwargs):
    return Task(densities, image_shape=(1, 1, densities[0].dimension), **kwargs)


def random_task(
    seed,
    d=2,
    *,
    classes=2,
    components=2,
    latent=1,
    noises="diagonal",
    spread=1.0,
    noise_std=0.4,
    **kwargs,
):
    """Mixtures whose regions interlock: means a few standard deviations apart."""
    random = np.random.default_rng(seed)
    densities = []
    for _ in range(classes):
        if noises == "isotropic equal":
            noise = np.ones((components, d))
        elif noises == "isotropic unequal":
            noise = np.repeat(random.uniform(0.4, 2.5, size=(components, 1)), d, axis=1)
        else:
            noise = random.uniform(0.4, 2.5, size=(components, d))
        densities.append(
            gaussians(
                random.dirichlet(np.full(components, 3.0)),
                spread * random.normal(size=(components, d)),
                0.5 * noise_std * random.normal(size=(components, d, latent)),
                noise_std**2 * noise,
            )
        )
    return task_of(*densities, **kwargs)


TWO = st.just(2)


@st.composite
def task_settings(draw, dimensions=TWO):
    """Arguments of `random_task`; not the task, since beartype draws from `random`."""
    return {
        "seed": draw(SEEDS),
        "d": draw(dimensions),
        "classes": draw(st.integers(2, 3)),
        "components": draw(st.integers(1, 3)),
        "latent": draw(st.integers(0, 2)),
        "noises": draw(st.sampled_from(NOISES)),
    }


class Dense:
    """A task's components as dense Gaussians."""

    def __init__(self, task, rule):
        self.rule = rule
        parts = [
            (label, math.log(prior * float(density.weights[k])), density, k)
            for label, (prior, density) in enumerate(
                zip(task.priors.tolist(), task.densities, strict=True)
            )
            for k in range(density.components)
        ]
        self.labels = np.array([label for label, *_ in parts])
        self.logs = np.array([log for _, log, *_ in parts])
        self.means = np.stack([density.means[k].double().numpy() for *_, density, k in parts])
        self.covariances = np.stack(
            [
                density.factors[k].double().numpy() @ density.factors[k].double().numpy().T
                + np.diag(density.noise[k].double().numpy())
                for *_, density, k in parts
            ]
        )
        self.precisions = np.linalg.inv(self.covariances)
        self.gaussians = [
            multivariate_normal(*pair) for pair in zip(self.means, self.covariances, strict=True)
        ]
        self.classes = task.classes

    def joints(self, points):
        """Of each component: (n, K)."""
        return np.stack(
            [
                log + np.reshape(gaussian.logpdf(points), -1)
                for log, gaussian in zip(self.logs, self.gaussians, strict=True)
            ],
            axis=1,
        )

    def collect(self, values):
        return (
            np.logaddexp.reduce(values, axis=1)
            if self.rule == "log-sum-exp"
            else values.max(axis=1)
        )

    def gap(self, points, y):
        """The log-joint of y less the largest other: (n,)."""
        joints = self.joints(points)
        totals = np.stack(
            [self.collect(joints[:, self.labels == c]) for c in range(self.classes)], axis=1
        )
        others = np.delete(totals, y, axis=1).max(axis=1)
        return totals[:, y] - others

    def against(self, point, y, c):
        """The log-joint of y less that of c, and its gradient."""
        joints = self.joints(point[None])[0]
        slopes = -np.einsum("kij,kj->ki", self.precisions, point - self.means)
        value, gradient = 0.0, 0.0
        for label, sign in ((y, 1), (c, -1)):
            mine = joints[self.labels == label]
            if self.rule == "log-sum-exp":
                shares = np.exp(mine - np.logaddexp.reduce(mine))
            else:
                shares = np.arange(len(mine)) == mine.argmax()
            value += sign * self.collect(mine[None])[0]
            gradient = gradient + sign * shares @ slopes[self.labels == label]
        return value, gradient


def crossings(dense, x, y, rays, halvings=40):
    """The factors of rays, which end beyond, at which the decision changes; from the far side."""
    near, far = np.zeros(len(rays)), np.ones(len(rays))
    for _ in range(halvings):
        middle = (near + far) / 2
        crossed = dense.gap(x + middle[:, None] * rays, y) < 0
        near, far = np.where(crossed, near, middle), np.where(crossed, middle, far)
    return far


def polar_distance(task, x, y, rule):
    """In 2 dimensions: the nearest point of another decision, over all directions; or infinity.

    Regions narrower than the grid may be missed; what is found is of another decision.
    """
    dense = Dense(task, rule)
    ends = np.concatenate(
        [dense.means, x + FARTHEST * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])]
    )
    ends = ends[dense.gap(ends, y) < 0]
    lengths = crossings(dense, x, y, ends - x) * np.linalg.norm(ends - x, axis=1)
    distance = lengths.min(initial=FARTHEST)
    radii = distance * np.linspace(0, 1, STEPS + 1)[1:]
    angles = 2 * np.pi * np.arange(ANGLES) / ANGLES
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    crossed = dense.gap((x + radii[:, None, None] * rays).reshape(-1, 2), y) < 0
    crossed = crossed.reshape(STEPS, ANGLES)
    if not crossed.any():
        return distance if len(ends) else math.inf
    # The first crossing of each ray lies within one step of the grid.
    far = np.where(crossed.any(axis=0), radii[crossed.argmax(axis=0)], np.inf)
    mine, step = np.isfinite(far), distance / STEPS
    high, low = far[mine], far[mine] - step
    for _ in range(16):
        middle = (low + high) / 2
        beyond = dense.gap(x + middle[:, None] * rays[mine], y) < 0
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    best, width = angles[mine][high.argmin()], 2 * np.pi / ANGLES
    distance = min(distance, high.min())
    for _ in range(8):
        nearby = best + width * np.linspace(-1, 1, 13)
        rays = np.stack([np.cos(nearby), np.sin(nearby)], axis=1)
        high = np.full(13, 1.001 * distance)
        beyond = dense.gap(x + high[:, None] * rays, y) < 0
        # The crossing lies within about a step of the grid.
        low = np.maximum(0.0, high - 2 * step)
        low = np.where(dense.gap(x + low[:, None] * rays, y) < 0, 0.0, low)
        for _ in range(32):
            middle = (low + high) / 2
            crossed = dense.gap(x + middle[:, None] * rays, y) < 0
            low, high = np.where(crossed, low, middle), np.where(crossed, middle, high)
        high = np.where(beyond, high, np.inf)
        if high.min() <= distance:
            best, distance = nearby[high.argmin()], high.min()
        width /= 4
    return float(distance)


def slsqp_distance(task, x, y, rule, *, starts=10, seed=0):
    """The nearest point of another decision found by SLSQP from samples of other classes."""
    dense, random = Dense(task, rule), np.random.default_rng(seed)
    best = math.inf
    for c in range(task.classes):
        if c == y:
            continue
        mine = np.nonzero(dense.labels == c)[0]
        chosen = [*mine, *random.choice(mine, size=starts)]
        points = np.stack(
            [random.multivariate_normal(dense.means[k], dense.covariances[k]) for k in chosen]
        )
        points[: len(mine)] = dense.means[mine]
        rays = (points - x)[dense.gap(points, y) < 0]
        for ray in crossings(dense, x, y, rays)[:, None] * rays:
            found = minimize(
                lambda u: (0.5 * u @ u, u),
                ray,
                jac=True,
                method="SLSQP",
                constraints={
                    "type": "ineq",
                    "fun": lambda u, c=c: -dense.against(x + u, y, c)[0],
                    "jac": lambda u, c=c: -dense.against(x + u, y, c)[1],
                },
                options={"maxiter": 60, "ftol": 1e-13},
            )
            for end in (ray, 1.0 * found.x, (1 + 1e-7) * found.x, (1 + 1e-4) * found.x):
                if dense.gap((x + end)[None], y)[0] < 0:
                    reached = crossings(dense, x, y, end[None])[0] * np.linalg.norm(end)
                    best = min(best, float(reached))
                    break
    return best


def quadric_distance(constant, gradient, hessian):
    """min ‖u‖ with c + g·u + ½uᵀQu ≤ 0, by Q's eigenvectors and the secular equation.

    With u(λ) = −λ(I + λQ)⁻¹g the constraint's value falls in λ from c; at the end of the
    definite λ the hard case adds a multiple of the lowest eigenvector.
    """
    if constant <= 0:
        return 0.0
    values, vectors = np.linalg.eigh(hessian)
    g = vectors.T @ gradient
    lowest = min(0.0, values[0])
    above = values - lowest  # so that no digits are lost near the pole

    def moves(beyond):  # 1/λ is this and −lowest; the direction is that of u(λ)
        return -g / (above + beyond)

    def value(beyond):
        u = moves(beyond)
        return constant + g @ u + 0.5 * values @ u**2

    scale = max(np.abs(values).max(), np.linalg.norm(gradient), 1e-300)
    low, high = 1e-13 * scale, scale
    while value(high) < 0:
        high *= 4
    if value(low) > 0:
        if lowest > -1e-12 * scale:
            return math.inf
        others = above > 1e-9 * scale
        u = np.where(others, -g / np.where(others, above, 1.0), 0.0)
        rest = constant + g @ u + 0.5 * values @ u**2
        return math.sqrt(u @ u + 2 * rest / -lowest)
    beyond = brentq(value, low, high, xtol=1e-300, rtol=1e-14, maxiter=500)
    return float(np.linalg.norm(moves(beyond)))


def quadric_of(task, x, own, target):
    """c, g and Q of a_own − b_target at x, dense."""
    dense = Dense(task, "max-component")
    joints = dense.joints(x[None])[0]
    slopes = -np.einsum("kij,kj->ki", dense.precisions, x - dense.means)
    return (
        joints[own] - joints[target],
        slopes[own] - slopes[target],
        dense.precisions[target] - dense.precisions[own],
    )


# 50 digits.


def precise(array):
    """An mpmath matrix of exactly these doubles."""
    array = np.asarray(array, dtype=float)
    if array.size == 0:
        return mpmath.zeros(*array.shape)
    return mpmath.matrix(array.tolist())


class Precise:
    """One component of a task in 50 digits: constant, mean and inverse covariance."""

    def __init__(self, task, label, index):
        density = task.densities[label]
        d = density.dimension
        factors = precise(density.factors[index].double().numpy())
        noise = density.noise[index].double().tolist()
        covariance = mpmath.diag([mpmath.mpf(v) for v in noise])
        if density.latent:
            covariance += factors * factors.T
        self.mean = precise(density.means[index].double().numpy())
        root = mpmath.cholesky(covariance)
        self.covariance, self.dimension = covariance, d
        log_determinant = 2 * sum(mpmath.log(root[i, i]) for i in range(d))
        self.constant = (
            mpmath.log(mpmath.mpf(task.priors[label].item()))
            + mpmath.log(mpmath.mpf(float(density.weights[index])))
            - (log_determinant + d * mpmath.log(2 * mpmath.pi)) / 2
        )

    def pull(self, z):
        """Σ⁻¹(z − mu)."""
        return mpmath.lu_solve(self.covariance, precise(z) - self.mean)

    def squared(self, z):
        """The squared Mahalanobis distance."""
        return (self.pull(z).T * (precise(z) - self.mean))[0]

    def joint(self, z):
        return self.constant - self.squared(z) / 2

    def precision(self):
        return self.covariance**-1


def precise_height(task, rule, x, own, target, shares, steepness):
    """max over u of b − Σ v a − H(v) − ½μ‖u‖² in 50 digits; infinite unless H is definite.

    Components are (label, index) each.

    Returns:
        The maximum, and ½μ‖u‖² there.
    """
    total = sum(mpmath.mpf(s) for s in shares)
    v = [mpmath.mpf(s) / total for s in shares]
    holders, rival = [Precise(task, *key) for key in own], Precise(task, *target)
    mu = mpmath.mpf(steepness)
    hessian = mu * mpmath.eye(len(x)) + rival.precision()
    gradient, value = -rival.pull(x), rival.joint(x)
    for share, holder in zip(v, holders, strict=True):
        hessian -= share * holder.precision()
        gradient += share * holder.pull(x)
        value -= share * holder.joint(x)
        if rule == "log-sum-exp" and share > 0:
            value += share * mpmath.log(share)
    if min(mpmath.eigsy(hessian, eigvals_only=True)) <= 0:
        return mpmath.inf, mpmath.inf
    u = mpmath.lu_solve(hessian, gradient)
    return value + (gradient.T * u)[0] / 2, mu * (u.T * u)[0] / 2


def critical_steepness(task, own, target, shares):
    """The μ at which H stops being definite, in 50 digits; negative where it always is."""
    total = sum(mpmath.mpf(s) for s in shares)
    difference = Precise(task, *target).precision()
    for share, key in zip(shares, own, strict=True):
        difference -= mpmath.mpf(share) / total * Precise(task, *key).precision()
    return -min(mpmath.eigsy(difference, eigvals_only=True))
