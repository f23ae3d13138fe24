"""The stage that certifies how robust a task's optimum is."""

from bayesgap.classifiers.module import decisions
from bayesgap.experiment.stages.data import as_task
from bayesgap.radius.certify import certify
from bayesgap.runs.store import Result


def certify_optimum(task: Result, points: Result, *, seed: int) -> Result:
    """How far the optimum's nearest other decision is from each point, with a proof.

    Returns:
        Tensors as of an attack on every decision, correct or not, and "lower" (n,), the certified
        lower bounds in pixel units.
    """
    known, x = as_task(task), points.tensors["x"]
    optimum = known.bayes_classifier()
    before = decisions(optimum, x)
    found = certify(known, x, before)
    return Result(
        {
            "before": before,
            "after": decisions(optimum, found.images),
            "sizes": found.upper,
            "images": found.images,
            "lower": found.lower,
        }
    )
