"""The stage that studies a task's optimum: how accurate it is, by either of its rules."""

from torch import nn

from bayesgap.classifiers.module import decisions
from bayesgap.experiment.stages.data import Data, as_task
from bayesgap.runs.stage import seed_of
from bayesgap.runs.store import Result
from bayesgap.tasks.task import Task

BAYES = "bayes-optimal"  # what results call the optimum
IMAGES = 10_000  # for the optimum's accuracy, and whether its two rules agree


def study_optimum(task: Result, *, sample_seed: int, seed: int, images: int = IMAGES) -> Result:
    """The optimum's accuracy on many samples, and how often its two rules decide alike."""
    known = as_task(task)
    x, y = known.sample(images, seed=seed_of(sample_seed, seed))
    optimum = known.bayes_classifier()
    exact = decisions(optimum, x)
    largest = decisions(known.bayes_classifier(temperature=1.0, rule="max-component"), x)
    return Result(
        values={
            "kind": BAYES,
            "temperature": optimum.temperature,
            "images": images,
            "correct": int((exact == y).sum()),
            "rules_agree": int((exact == largest).sum()),
        }
    )


def as_optimum(result: Result, data: Data) -> nn.Module:
    """The optimum of a task, at the temperature that its study stored."""
    assert isinstance(data, Task)
    assert result.values["kind"] == BAYES
    return data.bayes_classifier(temperature=result.values["temperature"])
