"""Tiny tasks and classifiers whose true answers are known; shared by several test files."""

import math

import numpy as np
import torch
from hypothesis import settings
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import nn

from bayesgap.attacks.base import Attack
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM, train_rbf_svms
from bayesgap.densities.base import check_count
from bayesgap.densities.mfa import PARAMETERS, MixtureOfFactorAnalyzers
from bayesgap.estimates import Estimate
from bayesgap.tasks.task import Task

# On tensors this small, waking a second thread takes 30 times as long as the work.
torch.set_num_threads(1)

SEEDS = {"min_value": 0, "max_value": 2**32 - 1}


def property_settings(examples):
    return settings(deadline=None, derandomize=True, max_examples=examples)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def uniform(seed, *shape):
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


def present(value):
    """The same, which is neither None nor, of an estimate, three times None."""
    assert value is not None
    assert not isinstance(value, Estimate) or None not in value
    return value


class Function(nn.Module):
    """Any function of float images as a classifier; float64 because of its buffer."""

    def __init__(self, function, dtype=torch.float64):
        super().__init__()
        self.function = function
        self.register_buffer("place", torch.zeros((), dtype=dtype))

    def forward(self, x):
        return self.function(x)


def from_gap(gap, dtype=torch.float64):
    """Two classes: decided 0 where `gap` of the images is not negative."""
    return Function(lambda x: torch.stack([gap(x), torch.zeros_like(gap(x))], dim=1), dtype)


class Returns(Attack):
    """An attack that returns whatever it was told to, without looking at the classifier."""

    name = "returns"

    def __init__(self, function):
        self.function = function
        self.seen = []

    def run(self, classifier, x, y):
        self.seen.append(len(x))
        return self.function(x)


class Laplace:
    """Independent pixels; a density that is no module and no mixture."""

    def __init__(self, mean, scale):
        self.mean = torch.as_tensor(mean, dtype=torch.float64)
        self.scale = torch.as_tensor(scale, dtype=torch.float64).expand_as(self.mean)

    @property
    def dimension(self):
        return len(self.mean)

    def log_prob(self, x):
        away = (x.to(self.mean) - self.mean).abs() / self.scale
        return -(away + (2 * self.scale).log()).sum(dim=1)

    def sample(self, n, *, generator):
        check_count(n)
        parts = torch.empty(2, n, self.dimension, dtype=torch.float64)
        one, other = parts.exponential_(generator=generator)
        return self.mean + self.scale * (one - other)


class StudentT(nn.Module):
    """Spherical, with 3 degrees of freedom; a density that is a module with a parameter."""

    freedom = 3

    def __init__(self, mean, scale=1.0):
        super().__init__()
        self.mean = nn.Parameter(torch.as_tensor(mean, dtype=torch.float64))
        self.scale = scale

    @property
    def dimension(self):
        return len(self.mean)

    def log_prob(self, x):
        k, d = self.freedom, self.dimension
        away = ((x.to(self.mean) - self.mean) / self.scale).square().sum(dim=1)
        constant = math.lgamma((k + d) / 2) - math.lgamma(k / 2) - d / 2 * math.log(k * math.pi)
        return constant - d * math.log(self.scale) - (k + d) / 2 * (away / k).log1p()

    def sample(self, n, *, generator):
        check_count(n)
        drawn = torch.randn(n, self.dimension + self.freedom, generator=generator)
        z, rest = drawn.to(self.mean).split([self.dimension, self.freedom], dim=1)
        spread = rest.square().mean(dim=1, keepdim=True).sqrt()
        return self.mean + self.scale * z / spread


def spherical_task(means, variance, *, priors=None):
    """One N(mean, variance · I) a class, as images (1, 1, d)."""
    means = torch.as_tensor(means, dtype=torch.float64)
    d = means.shape[1]
    densities = [
        MixtureOfFactorAnalyzers(
            torch.ones(1),
            mean[None],
            torch.zeros(1, d, 0, dtype=torch.float64),
            torch.full((1, d), variance, dtype=torch.float64),
        )
        for mean in means
    ]
    return Task(densities, image_shape=(1, 1, d), priors=priors)


def spherical_radius(x, y, means, variance, priors):
    """The distance from x to the hyperplane on which two spherical classes are equally likely."""
    x, means = x.flatten(1).numpy(), np.asarray(means)
    log_joints = [
        np.log(prior) - ((x - mean) ** 2).sum(axis=1) / (2 * variance)
        for prior, mean in zip(priors, means, strict=True)
    ]
    signed = np.where(y.numpy() == 0, 1, -1) * (log_joints[0] - log_joints[1])
    return signed * variance / np.linalg.norm(means[0] - means[1])


def mixture_task(seed, d, *, classes=2, components=3, latent=1):
    """Overlapping mixtures with unequal covariances, as images (1, 1, d)."""
    random = np.random.default_rng(seed)
    densities = []
    for _ in range(classes):
        weights = random.dirichlet(np.full(components, 3.0))
        parameters = (
            weights,
            random.normal(size=(components, d)),
            0.4 * random.normal(size=(components, d, latent)),
            random.uniform(0.02, 0.1, size=(components, d)),
        )
        densities.append(MixtureOfFactorAnalyzers(*map(torch.from_numpy, parameters)))
    return Task(densities, image_shape=(1, 1, d))


def two_blobs(seed, n, image_shape=(1, 2, 2), classes=2, separation=1.0):
    """Images around one random centre a class, with labels 0, 1, … in turn."""
    random = np.random.default_rng(seed)
    d = int(np.prod(image_shape))
    centres = separation * random.normal(size=(classes, d))
    labels = np.arange(n) % classes
    points = centres[labels] + 0.6 * random.normal(size=(n, d))
    return torch.from_numpy(points.reshape(n, *image_shape)), torch.from_numpy(labels)


def dense_log_joints(task, x):
    """log prior + log density of each class by scipy's dense Gaussians; (n, classes)."""
    points = x.flatten(1).numpy()
    return np.stack(
        [
            np.log(prior)
            + logsumexp(
                [
                    np.log(weight)
                    + multivariate_normal(mean, factors @ factors.T + np.diag(noise)).logpdf(points)
                    for weight, mean, factors, noise in zip(
                        *(density.parameters_for_file()[name].numpy() for name in PARAMETERS),
                        strict=True,
                    )
                ],
                axis=0,
            )
            for prior, density in zip(task.priors.tolist(), task.densities, strict=True)
        ],
        axis=1,
    ).reshape(len(points), -1)


def threshold_svm(gamma, seed=0):
    """An RBF SVM, and its training images in 4 pixels: class 1 where the first exceeds 1/2."""
    x = uniform(seed, 60, 1, 2, 2)
    y = (x[:, 0, 0, 0] > 0.5).long()
    return train_rbf_svms(x, y, gammas=[gamma], classes=2)[0], x


def linear_with_distances(seed, classes, *, d=20, scale=1.0):
    """A linear classifier, images, their decisions, and their exact distances from another one."""
    rows = 1 if classes == 2 else classes
    machine = LinearSVM(normal(seed, rows, d), normal(seed + 1, rows))
    x = scale * normal(seed + 2, 60, 1, 1, d)
    y = decisions(machine, x)
    logits, weight = machine(x), machine.weight
    weight = torch.cat([torch.zeros_like(weight), weight]) if classes == 2 else weight
    logits = logits - logits[:, :1]
    gaps = logits.gather(1, y[:, None]) - logits
    distances = gaps / (weight[y][:, None] - weight[None]).norm(dim=2)
    return machine, x, y, distances.nan_to_num(nan=torch.inf).amin(dim=1)


def ball_with_distances(far, dtype):
    """Decided 1 inside a ball (far = "inside") or outside it, images decided 0, their distances."""
    centre, radius = torch.tensor([[[7.0, -3.0, 0.5]]]).to(dtype), 1.0
    sign = 1 if far == "inside" else -1
    machine = from_gap(
        lambda x: sign * ((x - centre).flatten(1).square().sum(dim=1) - radius**2), dtype
    )
    unit = torch.nn.functional.normalize(normal(0, 40, 3)).reshape(40, 1, 1, 3)
    distance = (1.5 if far == "inside" else 0.3) * torch.linspace(1, 2.5, 40).double()
    x = centre + (distance[:, None, None, None] * unit).to(dtype)
    return machine, x, (distance - radius).abs()


def with_broken_gradient(gradient):
    """The first pixel decides; where the second is above 0, its gradient is not the true one."""

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, points):
            ctx.save_for_backward(points)
            return points[:, 0].clone()

        @staticmethod
        def backward(ctx, given):
            (points,) = ctx.saved_tensors
            slopes = torch.zeros_like(points)
            slopes[:, 0] = torch.where(points[:, 1] > 0, gradient, 1.0)
            return slopes * given[:, None]

    return from_gap(lambda x: Broken.apply(x.flatten(1)))
