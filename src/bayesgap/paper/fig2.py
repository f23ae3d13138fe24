"""Figure 2: pairs of densities in the plane, and how far the optimum's decisions are from them.

In the top row (a to d) the smallest variances of both classes are the same, and of tables the
smallest probabilities; the bottom row (e to h) shows each panel's sibling, in which one class,
or a rare component, is much broader. The layouts are ours (`tasks.plane`, and for the tables
`paper.observations`). Distances are counted in half the distance between the classes, which is
as far as a boundary can be from both.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from scipy.stats import binom
from torch import Tensor

from bayesgap.classifiers.module import decisions
from bayesgap.densities.categorical import table_decisions, table_radius
from bayesgap.evaluation.statistics import TAILS
from bayesgap.paper.claim import UNKNOWN, Claim, Interval, Number
from bayesgap.paper.exhibit import Exhibit, Setting
from bayesgap.paper.observations import SPREADS, two_tables
from bayesgap.radius.certify import certify
from bayesgap.runs.stage import Stage, seed_of
from bayesgap.runs.store import Result
from bayesgap.tasks.plane import OUTLIER_MOVE, mixtures, plane_tasks
from bayesgap.tasks.task import Task

SIZES = {
    "quick": {"per_class": 50, "grid": 160},
    "default": {"per_class": 200, "grid": 300},
    "paper": {"per_class": 1_000, "grid": 500},
}
SIBLINGS = {"e": "a", "f": "b", "g": "c", "h": "d"}
TABLES = {"c": True, "g": False}  # whether symmetric
EXCHANGED = "h exchanged"  # h with the outliers of both classes exchanged, as a control
PANELS = (*SIBLINGS.values(), *SIBLINGS, EXCHANGED)
WINDOW = 1.3  # half the width of what a picture of Gaussians shows, in units of the features
ZOOM = 0.05  # half the width of its inset, around a mean of class 1
ZOOMED_LEVELS = 6  # likewise of tables, on either side of a level
CONTROL_SHARE = 4  # the control has as many times fewer samples
FAR = 0.5  # of half the distance between classes: at least that is far
CLOSE = 0.1  # of the sibling's radius: at most that is close


def study_gaussians(
    *, panel: str, per_class: int, grid: int, sample_seed: int, seed: int
) -> Result:
    """One panel of Gaussians: decisions on a grid, and certified radii of samples.

    Args:
        panel: One of `PANELS` but c and g.
        per_class: Samples of each class.
        grid: Decisions along each axis of the picture and of its inset.
        sample_seed: Of the run.
        seed: Of the stage.

    Returns:
        As tensors, of the samples "x" (n, 2), "y", "outlier" (whether from an outlier component),
        "correct", and the bracket "lower" and "upper"; and "regions" and "zoom", decisions
        (second feature, first feature). As values, "distance" between the classes, and the
        "window" and "zoom" (left, right, bottom, top); all in units of the features.
    """
    task = _task(panel)
    y = torch.arange(task.classes).repeat_interleave(per_class)
    x, outlier = task.sample_given(y, seed=seed_of(sample_seed, seed))
    found = certify(task, x, y)
    column, row = task.densities[0].means[0].tolist()
    window = _around(0.0, 0.0, WINDOW)
    zoom = _around(column, row, ZOOM)
    return Result(
        {
            "x": x.flatten(1),
            "y": y,
            "outlier": outlier,
            "correct": found.correct,
            "lower": found.lower,
            "upper": found.upper,
            "regions": _decisions(task, window, grid),
            "zoom": _decisions(task, zoom, grid),
        },
        {"distance": _distance(task), "window": window, "zoom": zoom},
    )


def study_tables(*, panel: str, per_class: int, sample_seed: int, seed: int) -> Result:
    """Panel c or g, in the form of `study_gaussians`; units are levels, and radii are exact."""
    pair = two_tables(SPREADS[-1], symmetric=TABLES[panel])
    generator = torch.Generator().manual_seed(seed_of(sample_seed, seed))
    cells = torch.cat([density.sample(per_class, generator=generator) for density in pair])
    y = torch.arange(len(pair)).repeat_interleave(per_class)
    decided, radius = table_decisions(pair), table_radius(pair)
    at = cells.unbind(dim=1)
    correct = decided[at] == y
    radii = torch.where(correct, radius[at], 0.0)
    levels = torch.arange(pair[0].levels[0], dtype=torch.float64)
    means = [[(d.table.sum(dim=1 - axis) @ levels).item() for axis in (0, 1)] for d in pair]
    regions = decided.mT.to(torch.int8).contiguous()
    column, row = (round(value) for value in means[0])
    rows, columns = (slice(k - ZOOMED_LEVELS, k + ZOOMED_LEVELS + 1) for k in (row, column))
    edges = [-0.5, len(levels) - 0.5]
    return Result(
        {
            "x": cells.double(),
            "y": y,
            "outlier": torch.zeros_like(correct),
            "correct": correct,
            "lower": radii,
            "upper": radii.clone(),
            "regions": regions,
            "zoom": regions[rows, columns].contiguous(),
        },
        {
            "distance": math.dist(*means),
            "window": [*edges, *edges],
            "zoom": _around(float(column), float(row), ZOOMED_LEVELS + 0.5),
        },
    )


def _task(panel: str) -> Task:
    return mixtures(-OUTLIER_MOVE) if panel == EXCHANGED else plane_tasks()[panel]


def _around(x: float, y: float, reach: float) -> list[float]:
    return [x - reach, x + reach, y - reach, y + reach]


def _decisions(task: Task, window: list[float], grid: int) -> Tensor:
    """At the centres of grid × grid cells of the window; rows are along the second feature."""
    left, right, bottom, top = window
    places = (torch.arange(grid, dtype=torch.float64) + 0.5) / grid
    points = torch.cartesian_prod(bottom + (top - bottom) * places, left + (right - left) * places)
    classifier = task.bayes_classifier(temperature=1.0)
    decided = decisions(classifier, points.flip(1).reshape(-1, *task.image_shape))
    return decided.reshape(grid, grid).to(torch.int8)


def _distance(task: Task) -> float:
    """Between the nearest two components of different classes, outliers aside."""
    last = [d.components if task.outliers is None else d.components - 1 for d in task.densities]
    own, other = (d.means[:count] for d, count in zip(task.densities, last, strict=True))
    return torch.cdist(own, other).min().item()


def median_with_interval(values: Float[Tensor, " n"]) -> Interval:
    """The median and its 95 % interval between two order statistics, whatever the distribution.

    Unknown below 6 values, too few for such an interval.
    """
    rank = int(binom.ppf(TAILS[0], len(values), 0.5)) if len(values) else 0
    if not rank:
        return UNKNOWN
    ordered = values.sort().values
    low, high = ordered[rank - 1].item(), ordered[len(values) - rank].item()
    return ordered.quantile(0.5).item(), low, high


def radii(result: Result, end: str, label: int | None = None) -> Float[Tensor, " n"]:
    """The radii of a panel's samples that are decided correctly and come from no outlier.

    Args:
        result: Of a panel.
        end: "lower" or "upper".
        label: Of a class; by default of both.
    """
    tensors = result.tensors
    chosen = tensors["correct"] & ~tensors["outlier"]
    if label is not None:
        chosen &= tensors["y"] == label
    return tensors[end][chosen]


def looseness(result: Result) -> float:
    """The largest upper/lower of a panel's samples; 1 where radii are exact."""
    return (radii(result, "upper") / radii(result, "lower")).max().item()


def stages(setting: Setting) -> dict[str, Stage]:
    """One stage for each panel."""
    size: Mapping[str, Any] = SIZES[setting.scale]
    draw = {"per_class": size["per_class"], "sample_seed": seed_of("fig2", setting.seed)}
    found = {}
    for panel in PANELS:
        tables = panel in TABLES
        function: Callable[..., Result] = study_tables if tables else study_gaussians
        settings = {"panel": panel, **draw, **({} if tables else {"grid": size["grid"]})}
        if panel == EXCHANGED:  # a control, whose interlocking regions take long to certify
            settings["per_class"] //= CONTROL_SHARE
        found[panel] = Stage("plane", function, settings, label=f"figure 2{panel}")
    return found


def claims(found: Mapping[str, Result]) -> list[Claim]:
    """What the two rows are said to show."""
    return [_top(found), _bottom(found)]


def _top(found: Mapping[str, Result]) -> Claim:
    numbers = []
    for panel in SIBLINGS.values():
        half = found[panel].values["distance"] / 2
        lower = radii(found[panel], "lower") / half
        numbers.append(Number(f"2{panel}", *median_with_interval(lower), at_least=FAR))
    return Claim(
        "plane, symmetric: boundary far",
        "Where the smallest variances (of tables, the smallest probabilities) of both classes are "
        "alike, the optimum's boundary is far from most points.",
        "the optimal boundary is far from the points (figure 2, top; sections 2 and 2.1)",
        f"median certified lower bound at least {FAR:g} of half the distance between the classes, "
        "in each panel of the top row",
        numbers,
    )


def _bottom(found: Mapping[str, Result]) -> Claim:
    numbers = []
    for panel, sibling in SIBLINGS.items():
        for label in (0, 1) if panel == "h" else (0,):
            ratio = _median_ratio(
                radii(found[panel], "upper", label), radii(found[sibling], "lower", label)
            )
            name = f"2{panel} over 2{sibling}, class {label + 1}"
            numbers.append(Number(name, *ratio, at_most=CLOSE))
    shares = [
        _median_ratio(radii(found[EXCHANGED], "lower", label), radii(found["d"], "lower", label))[0]
        for label in (0, 1)
    ]
    return Claim(
        "plane, asymmetric: boundary close",
        "Where one class is much narrower than the other, the boundary is close to its points; "
        "where each class of a mixture has a rare broad component as well, to those of both, "
        "except for points of these components.",
        "close to the points of one class (2e to 2g), of both (2h) (figure 2, bottom)",
        f"median upper bound at most {CLOSE:g} of the median certified lower bound of the panel "
        "above, for the narrow class (2h: both classes, outliers aside); the interval is from the "
        "ends of both medians' intervals, so it is wider than 95 %",
        numbers,
        [
            "Figure 2h holds for both classes only if the broad component of the other class is "
            "the likelier one where a class's points are, as in the layout here. With the two "
            "broad components exchanged the median certified radius is "
            + " and ".join("unknown" if s is None else f"{s:.0%}" for s in shares)
            + " of the one without them: the boundary stays away."
        ],
    )


def _median_ratio(above: Float[Tensor, " n"], below: Float[Tensor, " m"]) -> Interval:
    return quotient(median_with_interval(above), median_with_interval(below))


def quotient(above: Interval, below: Interval) -> Interval:
    """The ratio of two positive numbers of different samples, from the ends of their intervals.

    That is wider than 95 %.
    """
    (top, top_low, top_high), (bottom, low, high) = above, below
    if top is None or top_low is None or top_high is None:
        return UNKNOWN
    if bottom is None or low is None or high is None or low <= 0:
        return UNKNOWN
    return top / bottom, top_low / high, top_high / low


EXHIBIT = Exhibit(
    name="fig2",
    title="Densities in the plane whose optimal boundary is far from the points, or close",
    needs="nothing but the package",
    stages=stages,
    claims=claims,
)
