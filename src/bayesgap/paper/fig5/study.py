"""The stage of figure 5 that certifies the optima of its two linear tasks."""

import torch

from bayesgap.paper.fig5.training import line_tasks
from bayesgap.radius.certify import certify
from bayesgap.runs.stage import seed_of
from bayesgap.runs.store import Result


def study_data(*, variant: str, per_class: int, sample_seed: int, seed: int) -> Result:
    """The optimum's radii on one of the tasks.

    Args:
        variant: The variant of the task, "asymmetric" or "symmetric".
        per_class: The number of samples of each class.
        sample_seed: The seed of the run's samples.
        seed: The stage's seed.

    Returns:
        As tensors, the samples "x" (n, 2), their classes "y" (n,), and the ends "lower" and
        "upper" of the brackets of their radii (n,), NaN where the optimum decides wrongly; in
        units of the features.
    """
    task = line_tasks()[variant]
    y = torch.arange(task.classes).repeat_interleave(per_class)
    x, _ = task.sample_given(y, seed=seed_of(sample_seed, seed))
    found = certify(task, x, y)
    ends = {"lower": found.lower, "upper": found.upper}
    radii = {name: torch.where(found.correct, end, torch.nan) for name, end in ends.items()}
    return Result({"x": x.flatten(1), "y": y, **radii})
