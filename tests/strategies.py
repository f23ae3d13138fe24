"""Random small mixtures, tasks and data, for hypothesis and for tests with fixed seeds."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from bayesgap.densities.fitting import Parameters
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.tasks.task import Task

# Derandomised: a suite that fails now and then teaches people to run it again.
PROPERTY = settings(deadline=None, derandomize=True, max_examples=40)
COSTLY_PROPERTY = settings(PROPERTY, max_examples=12)

SEEDS = st.integers(0, 2**31 - 1)
NOISE_STDS = (1e-3, 0.03, 1.0)  # the first is the paper's


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def random_parameters(
    seed: int,
    components: int,
    dimension: int,
    latent: int,
    *,
    noise_std: float = 0.3,
    offset: float = 0.0,
) -> Parameters:
    """Unequal weights, means in the unit cube plus an offset, noise that differs by pixel."""
    generator = seeded(seed)
    weights = 0.2 + uniform(generator, components)
    return Parameters(
        weights / weights.sum(),
        uniform(generator, components, dimension) + offset,
        0.3 * normal(generator, components, dimension, latent),
        noise_std**2 * (0.5 + uniform(generator, components, dimension)),
    )


def random_mixture(
    seed: int, components: int = 3, dimension: int = 4, latent: int = 2, **kwargs: float
) -> MixtureOfFactorAnalyzers:
    return random_parameters(seed, components, dimension, latent, **kwargs).density()


def random_task(seed: int, *, classes: int = 2, noise_std: float = 0.3, **kwargs: Any) -> Task:
    """A task over images of shape (1, 2, 2) whose classes differ in their components."""
    densities = [
        random_mixture(seed + label, 1 + (seed + label) % 3, 4, 2, noise_std=noise_std)
        for label in range(classes)
    ]
    return Task(densities, image_shape=(1, 2, 2), **kwargs)


@st.composite
def sizes(draw: st.DrawFn, *, least_latent: int = 0) -> tuple[int, int, int]:
    """Components, dimension and latent factors of a small mixture."""
    dimension = draw(st.integers(max(1, least_latent), 6))
    return draw(st.integers(1, 4)), dimension, draw(st.integers(least_latent, min(3, dimension)))


@st.composite
def mixtures(draw: st.DrawFn, *, least_latent: int = 0) -> MixtureOfFactorAnalyzers:
    return random_mixture(
        draw(SEEDS),
        *draw(sizes(least_latent=least_latent)),
        noise_std=draw(st.sampled_from(NOISE_STDS)),
        offset=draw(st.sampled_from((0.0, 1e4))),
    )


@st.composite
def task_settings(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments for `random_task`: two to four classes with unequal priors.

    Not the task itself: beartype draws from `random`, which hypothesis forbids in a strategy.
    """
    classes = draw(st.integers(2, 4))
    priors = draw(st.lists(st.integers(1, 9), min_size=classes, max_size=classes))
    return {
        "seed": draw(SEEDS),
        "classes": classes,
        "noise_std": draw(st.sampled_from(NOISE_STDS)),
        "priors": [prior / sum(priors) for prior in priors],
    }


def points_for(density: MixtureOfFactorAnalyzers, seed: int, n: int = 12) -> Tensor:
    """Points of the density itself, and as many from all over the neighbourhood of its means."""
    own = density.sample(n, generator=seeded(seed))
    scattered = density.means.mean(dim=0) + 2 * normal(seeded(seed + 1), n, density.dimension)
    return torch.cat([own, scattered])


@contextmanager
def without_shape_checks() -> Iterator[None]:
    """What a user sees, whose calls are not checked by jaxtyping before they reach our checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
