"""The stage of Observations 1 to 4 (section 2 of the paper): numerical experiments on all four.

Observations 1 and 3 hold class 2 fixed while class 1 sharpens, and need to: the symmetric variants
here meet all that is written (Σ₂ has full rank, p₂(f) > 0 everywhere), but their class 2 sharpens
with class 1, and the boundary stays away. The ratio after Observation 3 is meant to be that of
p₁(s̃) to p₁(s), and Observation 4 builds on Observation 3, not 2.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bayesgap.densities.categorical import Categorical, table_decisions, table_radius
from bayesgap.paper.observations.gaussians import (
    Scene,
    approach,
    summary,
    two_gaussians,
    two_mixtures,
)
from bayesgap.paper.observations.tables import (
    SPREADS,
    two_table_mixtures,
    two_tables,
    within_a_step,
)
from bayesgap.runs.store import Result

SEEDS = 2**31  # seeds are below it, for small numbers are added to them
SIGMAS = (1e-1, 1e-2, 1e-3, 1e-4)
POINTS = 40
SAMPLES = 300  # of each table, for a picture
SCENES: dict[str, Callable[..., Scene]] = {
    "gaussians/asymmetric": two_gaussians,
    "gaussians/symmetric": partial(two_gaussians, symmetric=True),
    "mixtures/asymmetric": two_mixtures,
    "mixtures/symmetric": partial(two_mixtures, outliers=(False, False)),
    "mixtures/two outliers": partial(two_mixtures, outliers=(True, True)),
}
TABLES: dict[str, Callable[[float], Sequence[Categorical]]] = {
    "tables/asymmetric": two_tables,
    "tables/symmetric": partial(two_tables, symmetric=True),
    "table mixtures/asymmetric": two_table_mixtures,
    "table mixtures/symmetric": partial(two_table_mixtures, symmetric=True),
}


def study_theory(*, sample_seed: int, seed: int, points: int = POINTS) -> Result:
    """All four experiments, at a size of a few seconds.

    Args:
        sample_seed: The seed of covariances, means and samples.
        seed: The stage's seed, which is not used.
        points: The number of points of each of `SCENES`.

    Returns:
        As values, "sigmas", "spreads", a `summary` for each of `SCENES`, and for each of
        `TABLES` what `within_a_step` says at each spread. As tensors, the tables of `approach`
        after the scene's name, and after a table's name, for the smallest spread, the decisions,
        radii in steps and probabilities of class 1 on all cells, and samples of both classes.
    """
    chosen = sample_seed % SEEDS
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {"sigmas": list(SIGMAS), "spreads": list(SPREADS)}
    for name, scene_of in SCENES.items():
        # Points are not made of the numbers that their covariances are made of.
        found = approach(partial(scene_of, seed=chosen), SIGMAS, points, seed=chosen + 1)
        tensors |= {f"{name}/{key}": table for key, table in found.items()}
        values[name] = summary(SIGMAS, found)
    generator = torch.Generator().manual_seed(chosen)
    for name, tables_of in TABLES.items():
        values[name] = [within_a_step(tables_of(spread)) for spread in SPREADS]
        pair = tables_of(SPREADS[-1])
        tensors[f"{name}/decisions"] = table_decisions(pair)
        tensors[f"{name}/radius"] = table_radius(pair)
        tensors[f"{name}/probabilities"] = pair[0].table
        for label, density in enumerate(pair):
            tensors[f"{name}/samples {label}"] = density.sample(SAMPLES, generator=generator)
    return Result(tensors, values)
