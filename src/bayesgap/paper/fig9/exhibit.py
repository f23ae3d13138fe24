"""Figure 9: CNNs of several widths and depths, trained on samples drawn afresh (appendix D.1).

Every checkpoint of a training is attacked at the same points, whose certified radius is the
dashed line of the figure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgap.drawing import (
    SERIES,
    STYLE,
    Picture,
    Section,
    Table,
    handles_of,
    interval,
    percent,
    size,
    span,
    styled,
)
from bayesgap.experiment import (
    OPTIMUM,
    SYMMETRIC,
    Case,
    Setting,
    certificate_stage,
    data_stage,
    points_stage,
)
from bayesgap.paper.engine import Exhibit, Findings, Key, Wants
from bayesgap.paper.fig9.claims import claims
from bayesgap.paper.fig9.curves import CERTIFIED, POINTS, Checkpoint, Curve, Shared, curves
from bayesgap.paper.fig9.study import attack_checkpoint
from bayesgap.paper.fig9.training import train_leg
from bayesgap.paper.pictures import OWN_TASKS_AND_FACES
from bayesgap.paper.rules import ACCURATE
from bayesgap.runs.stage import Stage, seed_of

BATCH = 50  # appendix D.1
HIGHEST = 1.5  # of the optimum, on the axis of mean L2
COLUMNS = 3  # tasks beside each other


@dataclass(frozen=True)
class Size:
    """How much is trained for the figure, on one task.

    Attributes:
        checkpoints: How many samples were seen each time that a network is stored and attacked.
        networks: The width and the number of scales of each network, which has two convolutions a
            scale and one more.
        seeds: How many trainings each network has.
        per_class: How many points of each class are attacked.
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
FACES = {
    "quick": Size((500,), ((4, 4),), 1, 5),
    "default": Size((1_000, 5_000, 20_000), ((4, 4), (8, 4), (4, 3)), 3, 25),
    "paper": Size(
        (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
        ((8, 4), (16, 4), (32, 4), (16, 3), (16, 5)),
        3,
        50,
    ),
}
# By the key that a source names as its `sizes`, then by the name of the scale.
SIZES: Mapping[str, Mapping[str, Size]] = {"digits": DIGITS, "faces": FACES}


def wants(setting: Setting, *, sizes: Mapping[str, Mapping[str, Size]]) -> Wants:
    """The attacks at every checkpoint, and the points and certified radius of each task.

    Args:
        setting: What the run was asked for.
        sizes: How much is trained, by the key that a source names, then by the name of the scale.
    """
    found: dict[Key, Stage] = {}
    for task in setting.tasks:
        case = Case(task, SYMMETRIC)
        found[Shared(task, POINTS)] = points_stage(setting, case)
        found[Shared(task, CERTIFIED)] = certificate_stage(setting, case)
        found |= dict(_checkpoints(setting, case, sizes[setting.source(task).sizes][setting.scale]))
    return Wants(stages=found)


def _checkpoints(setting: Setting, case: Case, size: Size) -> Iterator[tuple[Checkpoint, Stage]]:
    data = data_stage(setting, case)
    for width, scales in size.networks:
        for replicate in range(size.seeds):
            about = {"width": width, "scales": scales, "batch": BATCH}
            about["training_seed"] = seed_of("online", data.identity, setting.seed, replicate)
            before: dict[str, Stage] = {}
            seen = 0
            for samples in size.checkpoints:
                legs = {**about, "first": seen, "end": samples}
                label = f"{case.task}, width {width}, {scales} scales, {samples} samples"
                leg = Stage("online", train_leg, legs, {"task": data, **before}, f"CNN {label}")
                yield (
                    Checkpoint(case.task, width, scales, replicate, samples),
                    _attack(setting, case, leg, size.per_class, label),
                )
                before, seen = {"leg": leg}, samples


def _attack(setting: Setting, case: Case, leg: Stage, per_class: int, label: str) -> Stage:
    draws = setting.draws.settings("pool_images", "test_images")
    inputs = {"task": data_stage(setting, case), "points": points_stage(setting, case), "leg": leg}
    settings = {"per_class": per_class, **draws}
    return Stage("attack-online", attack_checkpoint, settings, inputs, f"attack on CNN {label}")


def section(findings: Findings) -> Section:
    """The curves over the samples seen."""
    made = curves(findings)
    accurate = [curve.means()[-1].value for curve in made if curve.accurate(-1)]
    sentence = (
        f"After {max(c.samples[-1] for c in made):,} samples, {len(accurate)} of {len(made)} "
        f"networks have an accuracy of {percent(ACCURATE)} or more in every training; their mean "
        f"L2 is {span(accurate)}. The optimum's certified lower bound is "
        f"{span([curve.optimum for curve in made])}."
    )
    picture = Picture(
        plot(made),
        "Mean L2 against samples seen in training, for CNNs of several widths and depths",
        "Lines are means over trainings, small dots the trainings; hollow where one of them is "
        f"less than {percent(ACCURATE)} accurate. What lies beyond {HIGHEST:g} times the "
        f"optimum is cut off. Samples are drawn afresh for each mini-batch of {BATCH}.",
    )
    return Section([sentence], [picture], [_table(made)])


def _table(made: list[Curve]) -> Table:
    return Table(
        ["task", "network", "samples", "trainings", "accuracy", "success", "mean L2", "95 %"],
        [
            [
                curve.task,
                curve.name,
                f"{samples:,}",
                str(len(correct)),
                percent(sum(correct) / len(correct) / curve.images),
                percent(success),
                size(mean.value),
                interval(mean),
            ]
            for curve in made
            for samples, correct, success, mean in zip(
                curve.samples, curve.correct, curve.success, curve.means(), strict=True
            )
        ],
        "Accuracy on fresh samples; success is that of the training where it is lowest.",
        words=2,
    )


def plot(made: list[Curve]) -> Figure:
    """Mean L2 over the samples seen, beside the optimum's certified lower bound."""
    tasks = list(dict.fromkeys(curve.task for curve in made))
    columns = min(COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    with matplotlib.rc_context(STYLE):
        figure = styled(8.6, 2.9 * rows + 0.7)
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axis, task in zip(axes.flat, tasks, strict=False):
            own = [curve for curve in made if curve.task == task]
            axis.axhline(
                own[0].optimum,
                color=OPTIMUM.colour,
                linestyle="--",
                label=f"{OPTIMUM.label}, certified",
            )
            for place, curve in enumerate(own):
                _line(axis, curve, place)
            axis.set_xscale("log")
            axis.set_title(task, fontsize=9)
            axis.set_xlabel("samples seen in training")
            axis.set_ylim(0, HIGHEST * own[0].optimum)
        for axis in axes.flat[len(tasks) :]:
            axis.set_visible(False)
        axes[0, 0].set_ylabel("mean L2 of the best attack", fontsize=9)
        figure.legend(*handles_of(figure.axes), loc="outside lower center", ncols=3)
        return figure


def _line(axis: Axes, curve: Curve, place: int) -> None:
    colour, marker = SERIES[place % len(SERIES)], "os^Dv<"[place % 6]
    means = [l2.nanmean().item() for l2 in curve.l2]
    axis.plot(curve.samples, means, color=colour, marker=marker, markersize=4, label=curve.name)
    for checkpoint, (samples, mean) in enumerate(zip(curve.samples, means, strict=True)):
        if not curve.accurate(checkpoint):
            axis.plot(samples, mean, marker, color=colour, markerfacecolor="white", markersize=4)
    for replicate in range(curve.l2[0].shape[0]):
        own = [l2[replicate].nanmean().item() for l2 in curve.l2]
        axis.plot(curve.samples, own, ".", color=colour, markersize=3)


def exhibit(sizes: Mapping[str, Mapping[str, Size]] = SIZES) -> Exhibit:
    """The figure.

    Args:
        sizes: How much is trained, by the key that a source names, then by the name of the scale.
    """
    return Exhibit(
        name="fig9",
        label="Figure 9",
        title="Wider, deeper and longer trained CNNs, on fresh samples",
        needs=OWN_TASKS_AND_FACES,
        wants=partial(wants, sizes=sizes),
        section=section,
        claims=claims,
    )


EXHIBIT = exhibit()
