"""The stage of figure 9 that trains CNNs on samples drawn afresh, leg by leg.

Every training is a chain of stages, each of which goes on from the checkpoint before, so that an
interrupted run goes on from the last one.
"""

from bayesgap.classifiers.online import OnlineTraining, continue_training, start_training
from bayesgap.experiment.stages.data import as_task
from bayesgap.runs.store import Result


def train_leg(
    task: Result,
    leg: Result | None = None,
    *,
    width: int,
    scales: int,
    batch: int,
    training_seed: int,
    first: int,
    end: int,
    seed: int,
) -> Result:
    """Train from one checkpoint to the next; all legs of a training share its seed.

    Args:
        task: The stored task.
        leg: The checkpoint before; None at the start of a training.
        width: The width of the first convolution.
        scales: How many times two convolutions and a pooling follow each other.
        batch: How many samples each step sees.
        training_seed: The seed of the training.
        first: How many samples were seen before.
        end: How many are seen after.
        seed: Not used: all legs follow from `training_seed`.
    """
    known = as_task(task)
    if leg is None:
        state = start_training(
            known.image_shape,
            width=width,
            classes=known.classes,
            seed=training_seed,
            scales=scales,
        )
    else:
        state = OnlineTraining.from_tensors(leg.tensors, leg.values)
    state, losses = continue_training(
        state, known.sample, samples=end - first, batch=batch, seed=training_seed
    )
    tensors, values = state.to_tensors()
    return Result(tensors, {**values, "losses": losses})
