"""Figure 2: pairs of densities in the plane, and how far the optimum's decisions are from them.

In the top row (a to d) the smallest variances of both classes are the same, and of tables the
smallest probabilities; the bottom row (e to h) shows each panel's sibling, in which one class,
or a rare component, is much broader. Distances are counted in half the distance between the
classes, which is as far as a boundary can be from both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from bayesgap.drawing import Picture, Section, Table, percent, with_interval
from bayesgap.estimates import Estimate
from bayesgap.experiment import Setting
from bayesgap.paper.engine import Claim, Exhibit, Findings, Named, Number, Wants
from bayesgap.paper.fig2 import plots
from bayesgap.paper.fig2.panels import (
    SIBLINGS,
    half_distance,
    looseness,
    pairs,
    radii,
    relative_radii,
)
from bayesgap.paper.fig2.study import EXCHANGED, TABLES, study_gaussians, study_tables
from bayesgap.paper.medians import median_with_interval, quotient
from bayesgap.runs.stage import Stage, seed_of
from bayesgap.runs.store import Result

PANELS = (*SIBLINGS.values(), *SIBLINGS, EXCHANGED)
CONTROL_SHARE = 4  # the control has as many times fewer samples
FAR = 0.5  # of half the distance between classes: at least that is far
CLOSE = 0.1  # of the sibling's radius: at most that is close


@dataclass(frozen=True)
class Size:
    """How much is computed for each panel.

    Attributes:
        per_class: The number of samples of each class.
        grid: The number of decisions along each axis of the picture, and of its inset.
    """

    per_class: int
    grid: int


SIZES = {"quick": Size(50, 160), "default": Size(200, 300), "paper": Size(1_000, 500)}


def wants(setting: Setting, *, sizes: Mapping[str, Size]) -> Wants:
    """One stage for each panel, at the size of the setting's scale."""
    size = sizes[setting.scale]
    return Wants(stages={Named(panel): _stage(setting, panel, size) for panel in PANELS})


def _stage(setting: Setting, panel: str, size: Size) -> Stage:
    # The control's interlocking regions take long to certify.
    share = CONTROL_SHARE if panel == EXCHANGED else 1
    settings: dict[str, Any] = {
        "panel": panel,
        "per_class": size.per_class // share,
        "sample_seed": seed_of("fig2", setting.seed),
    }
    if panel in TABLES:
        return Stage("plane", study_tables, settings, label=f"figure 2{panel}")
    settings["grid"] = size.grid
    return Stage("plane", study_gaussians, settings, label=f"figure 2{panel}")


def claims(findings: Findings) -> list[Claim]:
    """What the two rows are said to show."""
    return [boundary_far(findings), boundary_close(findings)]


def boundary_far(findings: Findings) -> Claim:
    """The top row."""
    return Claim(
        "plane, symmetric: boundary far",
        "Where the smallest variances (of tables, the smallest probabilities) of both classes are "
        "alike, the optimum's boundary is far from most points.",
        "the optimal boundary is far from the points (figure 2, top; sections 2 and 2.1)",
        f"median certified lower bound at least {FAR:g} of half the distance between the classes, "
        "in each panel of the top row",
        [
            Number(f"2{top}", median_with_interval(relative_radii(above, "lower")), at_least=FAR)
            for top, above, _, _ in pairs(findings)
        ],
    )


def boundary_close(findings: Findings) -> Claim:
    """The bottom row."""
    control, sibling = findings[Named(EXCHANGED)], findings[Named("d")]
    shares = [_median_ratio(control, "lower", sibling, label).value for label in (0, 1)]
    return Claim(
        "plane, asymmetric: boundary close",
        "Where one class is much narrower than the other, the boundary is close to its points; "
        "where each class of a mixture has a rare broad component as well, to those of both, "
        "except for points of these components.",
        "close to the points of one class (2e to 2g), of both (2h) (figure 2, bottom)",
        f"median upper bound at most {CLOSE:g} of the median certified lower bound of the panel "
        "above, for the narrow class (2h: both classes, outliers aside); the interval is from the "
        "ends of both medians' intervals, so it is wider than 95 %",
        [
            Number(
                f"2{low} over 2{top}, class {label + 1}",
                _median_ratio(below, "upper", above, label),
                at_most=CLOSE,
            )
            for top, above, low, below in pairs(findings)
            for label in ((0, 1) if low == "h" else (0,))
        ],
        [
            "Figure 2h holds for both classes only if the broad component of the other class is "
            "the likelier one where a class's points are, as in the layout here. With the two "
            "broad components exchanged the median certified radius is "
            + " and ".join("unknown" if s is None else f"{s:.0%}" for s in shares)
            + " of the one without them: the boundary stays away."
        ],
    )


def _median_ratio(result: Result, end: str, above: Result, label: int) -> Estimate:
    """One end of a class's median radius over the lower end of its median radius in another."""
    return quotient(
        median_with_interval(radii(result, end, label)),
        median_with_interval(radii(above, "lower", label)),
    )


def section(findings: Findings) -> Section:
    """Regions, samples and radii of all panels."""
    robust = [_median(above, "lower") for _, above, _, _ in pairs(findings)]
    narrow = [_median(below, "upper") for _, _, _, below in pairs(findings)]
    loosest = max(findings.results, key=lambda key: looseness(findings[key]))
    return Section(
        [
            "Four symmetric pairs of densities and, below each, a sibling with the same means of "
            "which one class is much narrower (e to g), or each class has a rare broad component "
            "(h). For points of the first class the median radius of the optimum's decisions is "
            f"{min(robust):.2f} to {max(robust):.2f} of half the distance between the classes in "
            f"the top row, and {min(narrow):.3f} to {max(narrow):.3f} in the bottom row.",
            "Radii are certified; those of the tables are exact. The loosest bracket is one of "
            f"panel {loosest}: upper/lower {looseness(findings[loosest]):.4g}.",
            "In (h) the broad component of the other class is the likelier one wherever a class "
            "has its narrow components. With the two exchanged the boundary stays away: the "
            f"first class's is {_median(findings[Named(EXCHANGED)], 'lower'):.2f}.",
        ],
        [
            Picture(
                plots.regions_and_radii(findings),
                "Decision regions and samples of eight pairs of densities, in two rows, a closer "
                "view of the second, and the distributions of radii.",
                "Background: the decision of the optimum. Dots: samples. The third row shows the "
                "squares marked in the second. Last row: how near the closest other decision is, "
                "for points that are decided correctly (in h without those of the broad "
                "components), on a logarithmic axis where 1 is half the distance between the "
                "classes. Dotted: the upper bound, where it differs.",
                kind="png",
            )
        ],
        [
            Table(
                heading=[
                    "panel",
                    "densities",
                    "half the distance",
                    "decided correctly",
                    "median radius, class 1",
                    "median radius, class 2",
                    "worst upper/lower",
                ],
                rows=[_row(panel, findings[Named(panel)]) for panel in PANELS],
                note="Half the distance between the nearest components of the two classes is in "
                "units of the features (levels, of tables). Median certified radii are multiples "
                "of it, with the 95 % interval between order statistics, over points that are "
                "decided correctly and come from no broad component.",
                words=2,
            )
        ],
    )


def _median(result: Result, end: str) -> float:
    """The first class's median radius, in half the distance between the classes."""
    return relative_radii(result, end, 0).quantile(0.5).item()


def _row(panel: str, result: Result) -> list[str]:
    medians = [median_with_interval(relative_radii(result, "lower", label)) for label in (0, 1)]
    return [
        panel.split()[0],
        plots.CONTENTS.get(panel, "as h, broad components exchanged"),
        f"{half_distance(result):.3g}",
        percent(result.tensors["correct"].double().mean().item()),
        *map(with_interval, medians),
        f"{looseness(result):.4g}",
    ]


def exhibit(sizes: Mapping[str, Size] = SIZES) -> Exhibit:
    """The figure.

    Args:
        sizes: How much is computed at each scale, by its name.
    """
    return Exhibit(
        name="fig2",
        label="Figure 2",
        title="Densities in the plane whose optimal boundary is far from the points, or close",
        needs="nothing but the package",
        wants=partial(wants, sizes=sizes),
        section=section,
        claims=claims,
    )


EXHIBIT = exhibit()
