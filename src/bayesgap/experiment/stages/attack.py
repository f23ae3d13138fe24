"""The stage that attacks a classifier, at the points that all classifiers of a task share."""

import time

from bayesgap.attacks.named import AnyAttack, as_attack
from bayesgap.evaluation.measure import attack_decisions
from bayesgap.experiment.stages.data import Load, as_data, draw
from bayesgap.norms import L2, Norm, Sizes
from bayesgap.runs.store import Result

POOL_IMAGES = 2_000  # from which boundary walks start


def attack_classifier(
    task: Result,
    points: Result,
    classifier: Result,
    *,
    attack: str,
    per_class: int,
    load: Load,
    pool_images: int = POOL_IMAGES,
    norm: str = L2.name,
    measure: Sizes = L2.measure,
    given: AnyAttack | None = None,
    seed: int,
) -> Result:
    """One attack on one trained classifier, at the first points of each class.

    Args:
        task: The stored task or real images.
        points: The stored points.
        classifier: The stored classifier.
        attack: The attack's name, as `named_attack` takes it.
        per_class: How many points of each class to attack.
        load: Makes a classifier of what is stored of it and of its data.
        pool_images: How many samples boundary walks may start from.
        norm: The name of the norm that perturbations are measured by.
        measure: The function that measures them.
        given: The attack itself, where the name is that of a user's own.
        seed: The stage's seed, which the samples follow from.

    Returns:
        The tensors of an `Outcome`; as value, the seconds that the attack took.
    """
    known = as_data(task)
    count = per_class * known.classes
    pool, _ = draw(known, "training", pool_images, seed=seed)
    started = time.perf_counter()
    outcome = attack_decisions(
        load(classifier, known),
        as_attack(attack if given is None else given, pool=pool),
        points.tensors["x"][:count],
        norm=Norm(norm, measure),
    )
    seconds = time.perf_counter() - started
    return Result(
        {
            "before": outcome.before,
            "after": outcome.after,
            "sizes": outcome.sizes,
            "images": outcome.images,
        },
        {"attack_seconds": seconds},
    )
