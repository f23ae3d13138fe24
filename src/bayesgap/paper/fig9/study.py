"""The stage of figure 9 that attacks CNNs at the checkpoints of their training."""

from bayesgap.attacks.named import named_attack
from bayesgap.classifiers.online import OnlineTraining
from bayesgap.evaluation.measure import attack_decisions, size_table, summarise
from bayesgap.experiment.stages.attack import POOL_IMAGES
from bayesgap.experiment.stages.data import as_task
from bayesgap.experiment.stages.trained import TEST_IMAGES, accuracy
from bayesgap.runs.stage import seed_of
from bayesgap.runs.store import Result


def attack_checkpoint(
    task: Result,
    points: Result,
    leg: Result,
    *,
    per_class: int,
    pool_images: int = POOL_IMAGES,
    test_images: int = TEST_IMAGES,
    seed: int,
) -> Result:
    """The best attack on a checkpoint, and its accuracy on fresh samples.

    Returns:
        As tensor "l2" (points,), NaN where no success counts; as values the number "images" and
        how many are "correct", and the attack's summary.
    """
    known = as_task(task)
    network = OnlineTraining.from_tensors(leg.tensors, leg.values).network
    count = per_class * known.classes
    x, y = points.tensors["x"][:count], points.tensors["y"][:count]
    pool, _ = known.sample(pool_images, seed=seed)
    outcome = attack_decisions(network, named_attack("boundary-walk", pool=pool), x)
    unseen, truth = known.sample(test_images, seed=seed_of("test", seed))
    right = accuracy(network, unseen, truth)
    return Result(
        {"l2": size_table([outcome], y)[0]},
        {
            "images": len(unseen),
            "correct": round(right * len(unseen)),
            **summarise([outcome], y).record(),
        },
    )
