"""Table 2: real test images, decided by CNNs trained on real images or on symmetric samples.

The table's CNNs are the robust ones of appendix D.3; plain ones are shown beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bayesgap.drawing import NONE, Section, Table, percent
from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.experiment import (
    CNN,
    REAL,
    ROBUST,
    SYMMETRIC,
    Case,
    Kind,
    Setting,
    classifier_stages,
    data_stage,
)
from bayesgap.paper.engine import Claim, Exhibit, Findings, Key, Number, Wants
from bayesgap.paper.fig12 import NOT_THE_PAPERS, REAL_IMAGES
from bayesgap.paper.table2.study import count_on_real
from bayesgap.runs.stage import Stage, seed_of
from bayesgap.runs.store import Result

KINDS = (*ROBUST[:2], CNN)
SMALL_LOSS = 0.10  # of accuracy; the paper's mean is 5 %
# In percent, as printed: trained on real images, and on symmetric samples.
PAPER = {
    "celeba-male": (92.3, 88.0),
    "celeba-smiling": (89.5, 85.6),
    "celeba-bangs": (94.3, 90.4),
    "celeba-heavy-makeup": (86.3, 79.9),
    "celeba-eyeglasses": (98.4, 91.7),
}


@dataclass(frozen=True)
class Trained(Key):
    """One CNN, tested on real images.

    Attributes:
        task: The name of the task.
        kind: The kind of CNN.
        trained_on: The variant that it was trained on: real images or symmetric samples.
        replicate: Which of the trainings it is.
    """

    task: str
    kind: Kind
    trained_on: str
    replicate: int


def wants(setting: Setting) -> Wants:
    """Every CNN's decisions on real test images, of as many trainings on both sides."""
    return Wants(
        stages={
            key: stage
            for task in setting.with_real_images()
            for kind in KINDS
            for key, stage in _tests(setting, task, kind).items()
        }
    )


def _tests(setting: Setting, task: str, kind: Kind) -> dict[Key, Stage]:
    """The tests of one kind of CNN of a task."""
    real = data_stage(setting, Case(task, REAL))
    pair = {on: classifier_stages(setting, Case(task, on), kind) for on in (REAL, SYMMETRIC)}
    trainings = min(map(len, pair.values()))
    found: dict[Key, Stage] = {}
    for trained_on, trained in pair.items():
        for replicate, classifier in enumerate(trained[:trainings]):
            learned = {"images": classifier.settings["images"]}
            if "fold" in classifier.settings:
                learned["folds"] = classifier.settings["fold"][1]
            found[Trained(task, kind, trained_on, replicate)] = Stage(
                "real-test",
                count_on_real,
                {"sample_seed": seed_of("real test", setting.seed), **learned},
                {"real": real, "classifier": classifier},
                f"{kind} CNN of {task}/{trained_on} on real images",
                code={"load": kind.load},
            )
    return found


@dataclass(frozen=True)
class Row:
    """One line of the table: which test images each training decides correctly.

    Attributes:
        task: The name of the task.
        kind: The kind of CNN.
        real: 1 where a training on real images decides an image correctly, else 0.
        symmetric: 1 where a training on symmetric samples decides an image correctly, else 0.
        learned_from: How many images trainings on real images and on samples learned from.
    """

    task: str
    kind: Kind
    real: Float[Tensor, "trainings images"]
    symmetric: Float[Tensor, "trainings images"]
    learned_from: tuple[int, int]

    @property
    def loss(self) -> Float[Tensor, "trainings images"]:
        """1 where training on samples lost an image, −1 where it won one."""
        return self.real - self.symmetric


def rows(findings: Findings) -> list[Row]:
    """The lines of the table."""
    keys = [key for key in findings.results if isinstance(key, Trained)]
    made = []
    for task, kind in dict.fromkeys((key.task, key.kind) for key in keys):
        own = [key for key in keys if (key.task, key.kind) == (task, kind)]
        pair = [[findings[key] for key in own if key.trained_on == on] for on in (REAL, SYMMETRIC)]
        real, symmetric = map(_right, pair)
        learned_from = pair[0][0].values["learned_from"], pair[1][0].values["learned_from"]
        made.append(Row(task, kind, real, symmetric, learned_from))
    return made


def _right(results: list[Result]) -> Float[Tensor, "trainings images"]:
    return torch.stack([result.tensors["right"].double() for result in results])


def mean_loss(made: Sequence[Row]) -> Float[Tensor, "trainings images"]:
    """The losses of several tasks as one table whose mean is that of the tasks' means.

    Every task has as many trainings as the one with the fewest.
    """
    trainings = min(len(row.loss) for row in made)
    images = sum(row.loss.shape[1] for row in made)
    weighed = [row.loss[:trainings] * (images / len(made) / row.loss.shape[1]) for row in made]
    return torch.cat(weighed, dim=1)


def claims(findings: Findings) -> list[Claim]:
    """Appendix D.4.1, of the paper's faces and, beyond it, of digits."""
    made = rows(findings)
    faces = [row for row in made if row.task in PAPER]
    digits = [row for row in made if findings.setting.source(row.task).what == "digits"]
    remarks = ["The table's CNNs are the robust ones, whose ball the paper does not state."]
    if len({row.task for row in faces}) < len(PAPER):
        names = ", ".join(sorted(PAPER.keys() - {row.task for row in faces}))
        remarks.append(f"Not at hand of the paper's tasks: {names}.")
    return [
        _small_loss("symmetric faces are close to real ones", "faces", faces, remarks),
        _small_loss("symmetric digits are close to real ones", "digits", digits, [NOT_THE_PAPERS]),
    ]


def _small_loss(name: str, what: str, made: list[Row], remarks: list[str]) -> Claim:
    numbers = []
    fewer = dict.fromkeys(
        f"{row.task} {row.learned_from[0]:,} and {row.learned_from[1]:,}"
        for row in made
        if row.learned_from[0] < row.learned_from[1]
    )
    if fewer:
        few = "Of fewer real images than samples, which favours the samples, learned: "
        remarks = [*remarks, few + "; ".join(fewer) + "."]
    for kind in KINDS:
        own = [row for row in made if row.kind is kind]
        if own:
            table = mean_loss(own)
            label = f"mean loss of {kind} over {len(own)} task{'s' * (len(own) > 1)}"
            numbers.append(
                Number(label, mean_with_interval(table), at_most=SMALL_LOSS, trainings=len(table))
            )
    return Claim(
        name,
        f"CNNs trained on symmetric samples decide real {what} nearly as well as CNNs trained on "
        "real ones.",
        "5 % less on average over five tasks of faces (table 2)",
        f"mean loss of accuracy over the tasks of {what} at most {SMALL_LOSS:.0%}, for each kind "
        "of CNN",
        numbers,
        remarks,
    )


def section(findings: Findings) -> Section:
    """Accuracies on real test images, beside the paper's."""
    table = Table(
        [
            *("task", "CNN", "trained on real", "on symmetric", "loss"),
            *("learned from real / samples", "real test images"),
            *("the paper: real", "symmetric", "loss"),
        ],
        [
            [
                row.task,
                row.kind.label,
                *(percent(right.mean().item()) for right in (row.real, row.symmetric)),
                percent(mean_loss([row]).mean().item()),
                " / ".join(f"{images:,}" for images in row.learned_from),
                f"{row.loss.shape[1]:,}",
                *_papers(row),
            ]
            for row in rows(findings)
        ],
        "Accuracy on real test images, mean over trainings. The paper does not say which ball its "
        "adversarial training used; its numbers stand beside both.",
        words=2,
    )
    return Section(tables=[table])


def _papers(row: Row) -> list[str]:
    """The paper's accuracies on both sides and their difference, of robust CNNs."""
    if row.task not in PAPER or row.kind not in ROBUST:
        return [NONE] * 3
    real, symmetric = PAPER[row.task]
    return [f"{real:g} %", f"{symmetric:g} %", f"{real - symmetric:.1f} %"]


EXHIBIT = Exhibit(
    name="table2",
    label="Table 2",
    title="Real test images, decided by CNNs trained on real images or on symmetric samples",
    needs=REAL_IMAGES,
    wants=wants,
    section=section,
    claims=claims,
)
