"""The page of one evaluation, and the files that are left beside it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap import files
from bayesgap.drawing import (
    FEW,
    NONE,
    Picture,
    Table,
    interval,
    mean_size,
    percent,
    setting,
    signed,
    size,
    success,
)
from bayesgap.drawing import evaluation as drawing
from bayesgap.estimates import Estimate
from bayesgap.evaluation.measure import HEADLINE_SUCCESS, Summary
from bayesgap.evaluation.record import Evaluation
from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.report.html import rendered, write_text

FILES = ("evaluation.json", "evaluation.safetensors", "evaluation.html")
SHOWN = 4  # points in each part of the gallery
MARKS = 500  # in a plot, beyond which it is an image


@dataclass(frozen=True)
class Tile:
    """One headline number.

    Attributes:
        label: What it is.
        value: The number.
        interval: Its 95 % interval; empty where there is none.
    """

    label: str
    value: str
    interval: str


@dataclass(frozen=True)
class Point:
    """One point of the gallery.

    Attributes:
        picture: The images.
        lines: What `Evaluation.explain` says.
    """

    picture: Picture
    lines: list[str]


def write_evaluation(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the numbers, all that was measured, and the page, each whole or not at all.

    Args:
        evaluation: What `evaluate` found.
        folder: Where the files go; it must be there.

    Returns:
        The paths of the files.

    Raises:
        BayesgapError: the folder cannot be written to.
    """
    numbers, everything, page = (folder / name for name in FILES)
    texts = files.dump(evaluation.to_dict(), indent=1) + "\n", render(evaluation)
    evaluation.save(everything)
    for path, text in zip((numbers, page), texts, strict=True):
        write_text(path, text)
    return [numbers, everything, page]


def render(evaluation: Evaluation) -> str:
    """The page.

    Args:
        evaluation: What `evaluate` found.
    """
    limits = drawing.value_range(evaluation.x)
    return rendered(
        "evaluation.html",
        evaluation=evaluation,
        facts=evaluation.facts,
        norm=evaluation.best.norm.name,
        sentences=[*headline(evaluation)],
        tiles=tiles(evaluation),
        attacks=attacks_table(evaluation),
        classes=classes_table(evaluation),
        about=facts_table(evaluation),
        curve=_curve(evaluation),
        beside=_beside(evaluation),
        gallery={
            title: [_point(evaluation, row, limits) for row in rows]
            for title, rows in chosen(evaluation).items()
        },
        limits=limits,
        unit=drawing.UNIT,
    )


def headline(evaluation: Evaluation) -> Iterator[str]:
    """What came of it, in sentences.

    Args:
        evaluation: What `evaluate` found.
    """
    best, facts, gap = evaluation.best, evaluation.facts, evaluation.to_optimum
    of = "samples" if facts.settings["per_class"] is not None else "given points"
    yield (
        f"{facts.classifier} decides {percent(best.clean_accuracy)} of {best.points} {of} of the "
        f"task “{facts.task}” correctly. {_found(best)}"
    )
    if evaluation.optimum.value is not None:
        yield (
            "The task's optimum provably withstands changes of a mean L2 of "
            f"{_with_interval(evaluation.optimum)} over the points that it decides correctly."
        )
    doubted = [doubt.name for doubt in evaluation.doubts if doubt.voids]
    if doubted:
        yield (
            "Sizes found against the classifier mean nothing here, so that there is no gap to the "
            f"optimum: see the doubt{'' if len(doubted) == 1 else 's'} “{'”, “'.join(doubted)}”."
        )
    elif gap.estimate.value is None:
        yield f"There is no gap to the optimum: {gap.reason}."
    else:
        yield (
            "Over the broken points that both decide correctly, the classifier's mean is "
            f"{_with_interval(gap.ratio)} of the optimum's: a gap of {_signed(gap.estimate)}. "
            "Attacks bound the classifier from above and proofs the optimum from below, so that "
            "the true gap is no smaller."
        )
        if (gap.estimate.high or 0) < 0 and not _nothing(gap.estimate.value):
            yield (
                "A gap below 0 is no mistake: the optimum has the best accuracy, and not the "
                "largest distance to other decisions."
            )


def _found(best: Summary) -> str:
    """What attacks found at the points that are decided correctly."""
    norm = best.norm.name
    if best.success_rate is None:
        return "So there is nothing that an attack could break."
    if best.mean.value is None:
        return f"No attack broke any of the {best.unbroken}."
    mean = f"at a mean {norm} of {_with_interval(best.mean)}"
    if not best.complete:
        return (
            f"Only {percent(best.success_rate)} of these were broken, {mean}, which leaves out the "
            f"{best.unbroken} that withstood every attack."
        )
    unbroken = f"; {best.unbroken} withstood every attack" if best.unbroken else ""
    return f"For these, the nearest images found of another decision lie {mean}{unbroken}."


def tiles(evaluation: Evaluation) -> list[Tile]:
    """The headline numbers.

    Args:
        evaluation: What `evaluate` found.
    """
    best = evaluation.best
    accuracy = evaluation.accuracy
    found = f"mean {best.norm.name} found against the classifier"
    if any(doubt.voids for doubt in evaluation.doubts):
        found += ", doubted"
    made = [
        Tile("accuracy", percent(accuracy.value), _shares(accuracy)),
        Tile(found, mean_size(best), interval(best.mean)),
    ]
    if evaluation.bracket is not None:
        optimum = evaluation.optimum
        label = "mean L2 certified of the optimum"
        made.append(Tile(label, size(optimum.value), interval(optimum)))
    gap = evaluation.to_optimum
    if gap.estimate.value is not None:
        value, low, high = map(_sign, gap.estimate)
        made += [
            Tile("ratio", size(gap.ratio.value), interval(gap.ratio)),
            Tile("gap", value, f"{low} to {high}"),
        ]
    else:
        made.append(Tile("gap", "none", ""))
    return made


def attacks_table(evaluation: Evaluation) -> Table:
    """What each attack found, and what it took.

    Args:
        evaluation: What `evaluate` found.
    """
    norm = evaluation.best.norm.name
    rows = []
    for name, summary in evaluation.attacks.items():
        forwards, backwards, seconds = evaluation.passes[name]
        taken = f"{forwards:,.0f}", f"{backwards:,.0f}", f"{seconds:,.1f}"
        rows.append([name, *_numbers(summary), *taken])
    if len(rows) > 1:
        rows.append(["nearest of all", *_numbers(evaluation.best), "", "", ""])
    note = f"Forward and backward passes are images for each point.{_note(rows)}"
    heading = ("attack", "success", f"mean {norm}", "95 % interval", "robust accuracy")
    return Table([*heading, "forward", "backward", "seconds"], rows, note=note)


def _note(rows: list[list[str]]) -> str:
    """What the mark means, where there is one."""
    if not any(cell.endswith(FEW) for row in rows for cell in row):
        return ""
    return (
        f" {FEW} A mean over less than {percent(HEADLINE_SUCCESS)} of the correctly decided points "
        "leaves out those that are hard to break."
    )


def _numbers(summary: Summary) -> list[str]:
    return [
        success(summary),
        mean_size(summary),
        interval(summary.mean),
        percent(summary.robust_accuracy),
    ]


def classes_table(evaluation: Evaluation) -> Table:
    """The numbers of each class's points alone.

    Args:
        evaluation: What `evaluate` found.
    """
    bracket, priors = evaluation.bracket, evaluation.facts.priors
    rows = []
    labels = evaluation.y.unique().tolist()
    for label, (name, summary) in zip(labels, evaluation.by_class.items(), strict=True):
        prior, points = percent(priors[label]), str(summary.points)
        cells = [prior, points, percent(summary.clean_accuracy)]
        cells += _numbers(summary)[:3]
        if bracket is not None:
            right = bracket.correct & (evaluation.y == label)
            certified = mean_with_interval(torch.where(right, bracket.lower, torch.nan)[None])
            cells += [size(certified.value), interval(certified)]
        rows.append([name, *cells])
    heading = ["class", "prior", "points", "accuracy", "success"]
    heading += [f"mean {evaluation.best.norm.name}", "95 % interval"]
    if bracket is not None:
        heading += ["optimum's certified", "95 % interval"]
    return Table(heading, rows, note=_note(rows))


def facts_table(evaluation: Evaluation) -> Table:
    """What was evaluated, and how.

    Args:
        evaluation: What `evaluate` found.
    """
    facts = evaluation.facts
    rows = [
        ["classifier", facts.classifier],
        ["task", facts.task],
        ["task, SHA-256", facts.task_sha256 or NONE],
        ["points", f"{len(evaluation.y)} of shape {' × '.join(map(str, evaluation.x.shape[1:]))}"],
        ["points, SHA-256", facts.points_sha256],
        *([name.replace("_", " "), setting(value)] for name, value in facts.settings.items()),
        ["settings, SHA-256", facts.settings_sha256],
        *([name, version] for name, version in facts.versions.items()),
    ]
    return Table(["what", "value"], [row for row in rows if row[1] != "None"], words=2)


def chosen(evaluation: Evaluation) -> dict[str, list[int]]:
    """The points of the gallery: those whose nearest image is nearest, median and farthest.

    They are spread over the classes. What withstood and what is decided wrongly follows.

    Args:
        evaluation: What `evaluate` found.
    """
    nearest, y = evaluation.nearest, evaluation.y
    right = nearest.before == y
    broken = (right & nearest.sizes.isfinite()).nonzero().flatten()
    order = broken[nearest.sizes[broken].argsort(stable=True)]
    middle = (torch.arange(len(order)) - (len(order) - 1) / 2).abs().argsort(stable=True)
    withstood = (right & ~nearest.sizes.isfinite()).nonzero().flatten()
    taken: set[int] = set()
    groups = {}
    for title, rows in (
        ("Nearest to another decision", order),
        ("Farthest", order.flip(0)),
        ("In the middle", order[middle]),
        ("Withstood every attack", withstood),
        ("Decided wrongly", (~right).nonzero().flatten()),
    ):
        others = [row for row in rows.tolist() if row not in taken]
        groups[title] = _spread(others, y, SHOWN)
        taken.update(groups[title])
    titles = ("Nearest to another decision", "In the middle", "Farthest", *list(groups)[3:])
    return {title: groups[title] for title in titles if groups[title]}


def _spread(rows: list[int], y: Int[Tensor, " n"], count: int) -> list[int]:
    """The first rows, of each class in turn, in their order."""
    rank: dict[int, int] = {}
    turns = []
    for place, row in enumerate(rows):
        label = int(y[row])
        rank[label] = rank.get(label, -1) + 1
        turns.append((rank[label], place, row))
    return [row for _, place, row in sorted(sorted(turns)[:count], key=lambda turn: turn[1])]


def _point(evaluation: Evaluation, row: int, limits: tuple[float, float]) -> Point:
    explanation = evaluation.explain(row)
    figure = drawing.point(
        explanation,
        evaluation.best.norm.name,
        limits=limits,
        certified=evaluation.bracket is not None,
    )
    lines = str(explanation).splitlines()
    return Point(Picture(figure, f"Point {row} and what is near it.", "", kind="png"), lines)


def _curve(evaluation: Evaluation) -> Picture:
    sizes: list[Float[Tensor, " n"]] = [evaluation.nearest.sizes]
    bracket = evaluation.bracket
    if bracket is not None:
        sizes.append(bracket.lower[bracket.correct])
    curve = evaluation.curve(drawing.radii_of(*sizes))
    norm = evaluation.best.norm.name
    return Picture(
        drawing.accuracies(curve, norm),
        "Shares of points decided correctly, over the largest size of a change.",
        "The classifier's line is an upper bound, as other attacks may break more"
        + ("; the optimum's is proven. " if bracket is not None else ". ")
        + "Bands are 95 % intervals over points.",
    )


def _beside(evaluation: Evaluation) -> Picture | None:
    """Sizes beside what is certified; None where nothing was broken."""
    nearest, y, bracket = evaluation.nearest, evaluation.y, evaluation.bracket
    names, norm = evaluation.facts.class_names, evaluation.best.norm.name
    right = nearest.before == y
    if bracket is None:
        shown = right & nearest.sizes.isfinite()
        if not shown.any():
            return None
        return Picture(
            drawing.sizes_alone(nearest.sizes[shown], y[shown], names, norm),
            "A histogram of the sizes found.",
            "How far the nearest images found of another decision are from the points that the "
            "classifier decides correctly.",
        )
    shown = right & bracket.correct & (bracket.lower > 0)
    if not (shown & nearest.sizes.isfinite()).any():
        return None
    return Picture(
        drawing.sizes_beside(nearest.sizes[shown], bracket.lower[shown], y[shown], names, norm),
        "Each point's size against the classifier over the optimum's certified distance.",
        "Each point that both decide correctly. Below the line the classifier gives way nearer "
        "than the optimum provably does. Triangles are points that withstood every attack.",
        kind="svg" if int(shown.sum()) <= MARKS else "png",
    )


def _with_interval(estimate: Estimate) -> str:
    return f"{size(estimate.value)} ({interval(estimate)})"


def _signed(estimate: Estimate) -> str:
    value, low, high = map(_sign, estimate)
    return f"{value} ({low} to {high})"


def _sign(value: float | None) -> str:
    """A gap with its sign, which 0 has none of."""
    return signed(0.0 if _nothing(value) else value)


def _nothing(value: float | None) -> bool:
    return value is not None and abs(value) < 0.005


def _shares(estimate: Estimate) -> str:
    _, low, high = estimate
    return "" if low is None or high is None else f"{percent(low)} – {percent(high)}"
