"""Figure 9: CNNs of several widths and depths, trained on samples drawn afresh (appendix D.1).

Every training is a chain of stages, each of which goes on from the checkpoint before, so that an
interrupted run goes on from the last one; and every checkpoint is attacked at the same points,
whose certified radius is the dashed line of the figure.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from bayesgap.attacks.named import named_attack
from bayesgap.classifiers.online import OnlineTraining, continue_training, start_training
from bayesgap.evaluation.measure import attack_decisions, l2_table, summarise
from bayesgap.evaluation.statistics import (
    mean_with_interval,
    paired_ratio_with_interval,
    ratio_with_interval,
)
from bayesgap.paper import experiment
from bayesgap.paper.claim import UNKNOWN, Claim, Number
from bayesgap.paper.claims import ACCURATE, RECOVERED, guarded
from bayesgap.paper.exhibit import Exhibit, Setting
from bayesgap.paper.experiment import as_task
from bayesgap.paper.gallery import OWN_TASKS
from bayesgap.paper.jobs import SYMMETRIC, certificate_stage, data_stage, points_stage
from bayesgap.paper.scales import FACES
from bayesgap.runs.stage import Stage, seed_of
from bayesgap.runs.store import Result

BATCH = 50  # appendix D.1
PAPER_SAMPLES = 1_000_000  # appendix D.1
CERTIFIED, POINTS = "certified", "points"  # names of stages, after their task
GROWTH = 1.25  # of the mean L2: what is less is no improvement


@dataclass(frozen=True)
class Size:
    """How much is trained for the figure, on one task.

    Attributes:
        checkpoints: Samples seen when a network is stored and attacked.
        networks: Width and number of scales of each, which has two convolutions a scale and one
            more.
        seeds: Trainings of each network.
        per_class: Attacked points of each class.
    """

    checkpoints: tuple[int, ...]
    networks: tuple[tuple[int, int], ...]
    seeds: int
    per_class: int


DIGITS = {
    "quick": Size((1_000, 2_000), ((4, 3), (2, 3), (4, 2)), 1, 15),
    "default": Size(
        (1_000, 3_000, 10_000, 30_000), ((4, 3), (2, 3), (8, 3), (4, 2), (4, 4)), 5, 25
    ),
    "paper": Size(
        (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
        ((8, 3), (16, 3), (32, 3), (64, 3), (8, 2), (8, 4)),
        3,
        100,
    ),
}
FACES_TOO = {
    "quick": Size((500,), ((4, 4),), 1, 5),
    "default": Size((1_000, 5_000, 20_000), ((4, 4), (8, 4), (4, 3)), 3, 25),
    "paper": Size(
        (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
        ((8, 4), (16, 4), (32, 4), (16, 3), (16, 5)),
        3,
        50,
    ),
}


@dataclass(frozen=True)
class Point:
    """One point of the figure's curves: a network of one training after so many samples."""

    task: str
    width: int
    scales: int
    replicate: int
    samples: int

    def __str__(self) -> str:
        return "|".join(
            map(str, (self.task, self.width, self.scales, self.replicate, self.samples))
        )

    @classmethod
    def parse(cls, text: str) -> "Point":
        """The point of that name."""
        task, *numbers = text.split("|")
        return cls(task, *map(int, numbers))


def size_for(setting: Setting, task: str) -> Size:
    """The sizes for one task."""
    return (FACES_TOO if task.startswith(FACES) else DIGITS)[setting.scale]


def stages(setting: Setting) -> dict[str, Stage]:
    """The attacks at every checkpoint, and the points and certified radius of each task."""
    found = {}
    for task in setting.tasks:
        found[f"{task}|{POINTS}"] = points_stage(setting, task, SYMMETRIC)
        found[f"{task}|{CERTIFIED}"] = certificate_stage(setting, task, SYMMETRIC)
        found |= {str(point): stage for point, stage in _curves(setting, task)}
    return found


def _curves(setting: Setting, task: str) -> Iterator[tuple[Point, Stage]]:
    size = size_for(setting, task)
    data = data_stage(setting, task, SYMMETRIC)
    for width, scales in size.networks:
        for replicate in range(size.seeds):
            about = {"width": width, "scales": scales, "batch": BATCH}
            about["training_seed"] = seed_of("online", data.identity, setting.seed, replicate)
            before: dict[str, Stage] = {}
            seen = 0
            for samples in size.checkpoints:
                legs = {**about, "first": seen, "end": samples}
                label = f"{task}, width {width}, {scales} scales, {samples} samples"
                leg = Stage("online", train_leg, legs, {"task": data, **before}, f"CNN {label}")
                yield (
                    Point(task, width, scales, replicate, samples),
                    Stage(
                        "attack-online",
                        attack_checkpoint,
                        {"per_class": size.per_class},
                        {
                            "task": data,
                            "points": points_stage(setting, task, SYMMETRIC),
                            "leg": leg,
                        },
                        f"attack on CNN {label}",
                    ),
                )
                before, seen = {"leg": leg}, samples


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
    """Train from one checkpoint to the next; all legs of a training share its seed."""
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


def attack_checkpoint(
    task: Result, points: Result, leg: Result, *, per_class: int, seed: int
) -> Result:
    """The best attack on a checkpoint, and its accuracy on fresh samples."""
    known = as_task(task)
    network = OnlineTraining.from_tensors(leg.tensors, leg.values).network
    count = per_class * known.classes
    x, y = points.tensors["x"][:count], points.tensors["y"][:count]
    pool, _ = known.sample(experiment.POOL_IMAGES, seed=seed)
    outcome = attack_decisions(network, named_attack("boundary-walk", pool=pool), x)
    unseen, truth = known.sample(experiment.TEST_IMAGES, seed=seed_of("test", seed))
    right = experiment.accuracy(network, unseen, truth)
    return Result(
        {"l2": l2_table([outcome], y)[0]},
        {
            "images": len(unseen),
            "correct": round(right * len(unseen)),
            **summarise([outcome], y),
        },
    )


@dataclass(frozen=True)
class Curve:
    """One network's trainings.

    Attributes:
        task: On whose samples.
        width: Of the first convolution.
        scales: Two convolutions each.
        samples: Seen at each checkpoint.
        l2: For each checkpoint, at each point of each training.
        lower: The optimum's certified lower bound at these points.
        correct: For each checkpoint, of each training, test images decided correctly.
        images: How many those were.
        success: For each checkpoint, the attack's lowest success rate of all trainings.
    """

    task: str
    width: int
    scales: int
    samples: list[int]
    l2: list[Float[Tensor, "seeds points"]]
    lower: Float[Tensor, " points"]
    correct: list[list[int]]
    images: int
    success: list[float]

    @property
    def name(self) -> str:
        """What the figure calls it."""
        return f"width {self.width}, {2 * self.scales + 1} convolutions"

    def means(self) -> list[tuple[float | None, float | None, float | None]]:
        """The mean L2 at each checkpoint with its interval."""
        return [mean_with_interval(l2) for l2 in self.l2]

    def accurate(self, checkpoint: int) -> bool:
        """Whether every training was accurate there: what has not learned says nothing."""
        return min(self.correct[checkpoint]) >= ACCURATE * self.images


def curves(found: Mapping[str, Result]) -> list[Curve]:
    """The results of all checkpoints, network by network."""
    points = [
        Point.parse(name) for name in found if not name.endswith((f"|{CERTIFIED}", f"|{POINTS}"))
    ]
    networks = dict.fromkeys((p.task, p.width, p.scales) for p in points)
    made = []
    for task, width, scales in networks:
        own = [p for p in points if (p.task, p.width, p.scales) == (task, width, scales)]
        samples = list(dict.fromkeys(p.samples for p in own))
        results = [[found[str(p)] for p in own if p.samples == seen] for seen in samples]
        certified = found[f"{task}|{CERTIFIED}"].tensors
        right = certified["before"] == found[f"{task}|{POINTS}"].tensors["y"]
        lower = torch.where(right, certified["lower"], torch.nan)
        l2 = [torch.stack([r.tensors["l2"] for r in row]) for row in results]
        made.append(
            Curve(
                task,
                width,
                scales,
                samples,
                l2,
                lower[: l2[0].shape[1]],
                [[r.values["correct"] for r in row] for row in results],
                results[0][0].values["images"],
                [min(r.values["success_rate"] or 0.0 for r in row) for row in results],
            )
        )
    return made


def claims(found: Mapping[str, Result]) -> list[Claim]:
    """Section 4 and appendix D.1."""
    made = curves(found)
    more = [_more_does_not_help(what, about, made) for what, about in MORE.items()]
    return [_still_brittle(made), *more]


def _still_brittle(made: list[Curve]) -> Claim:
    numbers = [
        Number(
            f"{curve.task}, {curve.name}, {curve.samples[-1]:,} samples",
            *guarded(ratio_with_interval(curve.l2[-1], curve.lower[None]), curve.success[-1]),
            at_most=RECOVERED,
            trainings=len(curve.l2[-1]),
        )
        for curve in made
        if curve.accurate(-1)
    ]
    numbers += [
        _nothing(f"{task}: no network has learned it in every training")
        for task in dict.fromkeys(curve.task for curve in made)
        if not any(curve.accurate(-1) for curve in made if curve.task == task)
    ]
    return Claim(
        "still brittle after the longest training",
        "After the longest training on samples that it has never seen before, a CNN that has "
        "learned its task is still less robust than the optimum.",
        "all curves lie far below the dashed line of the optimum (figure 9)",
        f"after the last checkpoint, mean L2 at most {RECOVERED} of the optimum's certified lower "
        f"bound, for every network of which all trainings have an accuracy of {ACCURATE:.0%}",
        numbers,
        _remarks(made),
    )


@dataclass(frozen=True)
class More:
    """Something of which more is said not to help.

    Attributes:
        statement: In our words.
        paper: What it says, and where.
        compared: From what to what the mean L2 may not grow much.
        numbers: These growths, of one task's curves.
    """

    statement: str
    paper: str
    compared: str
    numbers: Callable[[list[Curve]], list[Number]]


def _more_does_not_help(what: str, more: More, made: list[Curve]) -> Claim:
    numbers = []
    for task in dict.fromkeys(curve.task for curve in made):
        found = more.numbers([curve for curve in made if curve.task == task])
        numbers += found or [_nothing(f"{task}: nothing that has learned it to compare")]
    return Claim(
        f"more {what} does not help",
        more.statement,
        more.paper,
        f"mean L2 grows by a factor of {GROWTH} at most, {more.compared}; accurate are "
        f"{ACCURATE:.0%} in every training",
        numbers,
        _how_far(made),
    )


def _over_samples(own: list[Curve]) -> list[Number]:
    """How each network's mean L2 grows in training."""
    numbers = []
    for curve in own:
        first = next((k for k in range(len(curve.samples) - 1) if curve.accurate(k)), None)
        if first is not None and curve.accurate(-1):
            label = f"{curve.samples[-1]:,} over {curve.samples[first]:,} samples"
            numbers.append(_growth(f"{curve.task}, {curve.name}: {label}", curve, -1, curve, first))
    return numbers


def _over_networks(own: list[Curve], *, size: str, alike: str) -> list[Number]:
    """How the mean L2 grows with one size of networks, of those that are alike in the other."""
    numbers = []
    accurate = [curve for curve in own if curve.accurate(-1)]
    for value in dict.fromkeys(getattr(curve, alike) for curve in accurate):
        least, *larger = sorted(
            (curve for curve in accurate if getattr(curve, alike) == value),
            key=lambda curve: getattr(curve, size),
        )
        numbers += [
            _growth(f"{curve.task}: {curve.name} over {least.name}", curve, -1, least, -1)
            for curve in larger
        ]
    return numbers


def _nothing(label: str) -> Number:
    """What could not be measured, so that the claim is not decided by the rest alone."""
    return Number(label, *UNKNOWN)


def _growth(label: str, curve: Curve, at: int, base: Curve, since: int) -> Number:
    ratio = guarded(
        # All networks of a replicate see the same images.
        paired_ratio_with_interval(curve.l2[at], base.l2[since]),
        min(curve.success[at], base.success[since]),
    )
    return Number(label, *ratio, at_most=GROWTH, trainings=len(curve.l2[at]))


def _remarks(made: list[Curve]) -> list[str]:
    remarks = [
        "The widths and depths of the paper's networks stand in a drawing only, and its appendix "
        "D.1 speaks of strides where B.3 pools; ours are named.",
        *_how_far(made),
    ]
    left = [f"{curve.task}, {curve.name}" for curve in made if not curve.accurate(-1)]
    if left:
        remarks.append("Left out, as a training has not learned its task: " + "; ".join(left) + ".")
    return remarks


def _how_far(made: list[Curve]) -> list[str]:
    longest = max(curve.samples[-1] for curve in made)
    if longest >= PAPER_SAMPLES:
        return []
    return [f"Training ends at {longest:,} samples here, the paper's at {PAPER_SAMPLES:,}."]


MORE = {
    "data": More(
        "Longer training on fresh samples does not make CNNs more robust.",
        "more data do not improve robustness (appendix D.1)",
        "from a network's first accurate checkpoint to its last",
        _over_samples,
    ),
    "width": More(
        "Wider CNNs are not more robust.",
        "wider networks do not improve robustness (appendix D.1)",
        "from the narrowest accurate network to each wider one of the same depth, after the last "
        "checkpoint",
        partial(_over_networks, size="width", alike="scales"),
    ),
    "depth": More(
        "Deeper CNNs are not more robust.",
        "no improvement by changing the number of layers (section 4)",
        "from the shallowest accurate network to each deeper one of the same width, after the last "
        "checkpoint",
        partial(_over_networks, size="scales", alike="width"),
    ),
}

EXHIBIT = Exhibit(
    name="fig9",
    title="Wider, deeper and longer trained CNNs, on fresh samples",
    needs=f"{OWN_TASKS}, and faces where they are fitted",
    stages=stages,
    claims=claims,
)
