"""Figures 2, 3, 5 and 8, from what the modules of `bayesgap.paper` of the same names computed."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgba
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]
from torch import Tensor

from bayesgap.classifiers.module import decisions
from bayesgap.densities.categorical import UNDECIDED
from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.paper import fig2 as plane
from bayesgap.paper import fig3 as mole
from bayesgap.paper import fig5 as line
from bayesgap.paper import fig8 as helix
from bayesgap.paper.claim import Interval
from bayesgap.report.plots import STYLE, styled
from bayesgap.report.section import Picture, Section, Table
from bayesgap.report.theory_plots import BLACK, CLASS_COLOURS, GREEN, VERMILION
from bayesgap.runs.store import Result
from bayesgap.tasks.task import Task

SHOWN = 150  # samples of each class in a picture
REGIONS = ListedColormap(["#ffffff", "#f3dfe8", "#cfe3f0"])  # nobody's, and pale class colours
LOOSE = 1.01  # upper/lower above which both are drawn
CONTENTS = {
    "a": "equal spheres",
    "b": "equally narrow",
    "c": "tables",
    "d": "mixtures",
    "e": "one sphere tiny",
    "f": "one class narrow",
    "g": "tables, one class broad",
    "h": "mixtures, broad parts",
}
RADIUS_LIMITS = (1e-2, 6.0)  # in half the distance between classes


def fig2(found: Mapping[str, Result]) -> Section:
    """Figure 2: regions, samples and radii of its eight panels.

    Args:
        found: Results of the stages of `bayesgap.paper.fig2`.
    """
    with matplotlib.rc_context(STYLE):
        figure = styled(9.4, 9.6)
        axes = figure.subplots(4, 4, height_ratios=[1, 1, 1, 0.8])
        for column, (low, top) in enumerate(plane.SIBLINGS.items()):
            above, below, near, radii = axes[:, column]
            for axis, panel in ((above, top), (below, low)):
                _scene(axis, found[panel], "regions", size=3.0)
                axis.set_title(f"({panel}) {CONTENTS[panel]}", fontsize=9)
            zoom = found[low].values["zoom"]
            _scene(near, found[low], "zoom", size=9.0)
            near.locator_params(nbins=3)
            _frame(below, zoom)
            shown = found[low].values["window"]
            factor = (shown[1] - shown[0]) / (zoom[1] - zoom[0])
            near.set_title(f"({low}) {factor:.0f} times nearer", fontsize=9)
            _radii(radii, found[top], found[low])
        for axis in axes[3]:
            axis.set_xlabel("radius ÷ half the classes' distance", fontsize=8)
        axes[3, 0].set_ylabel("share of points within", fontsize=8)
        names = ("symmetric data", "asymmetric data", "asymmetric data, nearer")
        for axis, text in zip(axes[:3, 0], names, strict=True):
            axis.set_ylabel(text, fontsize=9)
        handles, texts = _legend(axes[0, 0], axes[3, -1])
        figure.legend(
            handles, texts, loc="outside lower center", ncols=5, fontsize=8, markerscale=3
        )
    robust = [_median(found[panel], "lower", 0) for panel in plane.SIBLINGS.values()]
    narrow = [_median(found[panel], "upper", 0) for panel in plane.SIBLINGS]
    loosest = max(found, key=lambda panel: plane.looseness(found[panel]))
    return Section(
        text=[
            "Four symmetric pairs of densities and, below each, a sibling with the same means of "
            "which one class is much narrower (e to g), or each class has a rare broad component "
            "(h). For points of the first class the median radius of the optimum's decisions is "
            f"{min(robust):.2f} to {max(robust):.2f} of half the distance between the classes in "
            f"the top row, and {min(narrow):.3f} to {max(narrow):.3f} in the bottom row.",
            "Radii are certified; those of the tables are exact. The loosest bracket is one of "
            f"panel {loosest}: upper/lower {plane.looseness(found[loosest]):.4g}.",
            "In (h) the broad component of the other class is the likelier one wherever a class "
            "has its narrow components. With the two exchanged the boundary stays away: the "
            f"first class's is {_median(found[plane.EXCHANGED], 'lower', 0):.2f}.",
        ],
        pictures=[
            Picture(
                figure,
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
        tables=[_panels(found)],
    )


def _scene(axis: Axes, result: Result, name: str, *, size: float) -> None:
    """The whole window ("regions") or the inset ("zoom") of a panel of figure 2."""
    window = result.values["zoom" if name == "zoom" else "window"]
    _draw_scene(axis, result.tensors[name], result.tensors, window, size=size)


def _draw_scene(
    axis: Axes,
    regions: Int[Tensor, "rows columns"],
    samples: Mapping[str, Tensor],
    window: list[float],
    *,
    size: float,
) -> None:
    """Decisions within a window, and samples "x" of classes "y" in dots of a size."""
    left, right, bottom, top = window
    axis.imshow(
        regions.numpy(),
        cmap=REGIONS,
        vmin=UNDECIDED - 0.5,
        vmax=1.5,
        origin="lower",
        extent=(left, right, bottom, top),
        interpolation="nearest",
    )
    for label, colour in enumerate(CLASS_COLOURS):
        points = _within(samples["x"][samples["y"] == label], window)[:SHOWN]
        axis.scatter(
            points[:, 0], points[:, 1], s=size, color=colour, linewidths=0, label=_class(label)
        )
    axis.set_xlim(left, right)
    axis.set_ylim(bottom, top)
    axis.locator_params(nbins=4)
    axis.tick_params(labelsize=7)


def _within(points: Float[Tensor, "n 2"], window: list[float]) -> np.ndarray:
    (x, y), (left, right, bottom, top) = points.numpy().T, window
    return points.numpy()[(x >= left) & (x <= right) & (y >= bottom) & (y <= top)]


def _frame(axis: Axes, window: list[float]) -> None:
    left, right, bottom, top = window
    xs, ys = [left, right, right, left, left], [bottom, bottom, top, top, bottom]
    axis.plot(xs, ys, color=BLACK, linewidth=0.9)


def _class(label: int) -> str:
    return f"class {label + 1}"


def _radii(axis: Axes, symmetric: Result, asymmetric: Result) -> None:
    """Distribution functions of radii, of the sibling above with its classes together."""
    curves: list[tuple[Result, int | None, str, str, str]] = [
        (symmetric, None, GREEN, "-", "symmetric, both classes"),
        (asymmetric, 0, VERMILION, "-", "asymmetric, class 1"),
        (asymmetric, 1, VERMILION, "--", "asymmetric, class 2"),
    ]
    for result, label, colour, dashes, text in curves:
        ends = ("lower", "upper") if plane.looseness(result) > LOOSE else ("lower",)
        for end in ends:
            values = plane.radii(result, end, label) / (result.values["distance"] / 2)
            upper = end == "upper"
            _distribution(
                axis,
                values,
                RADIUS_LIMITS,
                colour,
                ":" if upper else dashes,
                None if upper else text,
            )


def _legend(*axes: Axes) -> tuple[list[Any], list[str]]:
    """Everything that has a label on any of the axes, once."""
    found: dict[str, Any] = {}
    for axis in axes:
        found |= {
            text: handle for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
        }
    return list(found.values()), list(found)


def _median(result: Result, end: str, label: int | None = None) -> float:
    return plane.radii(result, end, label).median().item() / (result.values["distance"] / 2)


def _panels(found: Mapping[str, Result]) -> Table:
    rows = []
    for panel in (*CONTENTS, plane.EXCHANGED):
        result = found[panel]
        half = result.values["distance"] / 2
        cells = []
        for label in (0, 1):
            lower = plane.median_with_interval(plane.radii(result, "lower", label) / half)
            cells.append(_interval(lower))
        correct = result.tensors["correct"].double().mean().item()
        title = CONTENTS.get(panel, "as h, broad components exchanged")
        rows.append(
            [
                panel.split()[0],
                title,
                f"{half:.3g}",
                f"{100 * correct:.1f} %",
                *cells,
                f"{plane.looseness(result):.4g}",
            ]
        )
    return Table(
        heading=[
            "panel",
            "densities",
            "half the distance",
            "decided correctly",
            "median radius, class 1",
            "median radius, class 2",
            "worst upper/lower",
        ],
        rows=rows,
        note="Half the distance between the nearest components of the two classes is in units of "
        "the features (levels, of tables). Median certified radii are multiples of it, with the "
        "95 % interval between order statistics, over points that are decided correctly and come "
        "from no broad component.",
        words=2,
    )


def _interval(interval: Interval) -> str:
    value, low, high = interval
    if value is None or low is None or high is None:
        return "–"
    return f"{value:.4g} ({low:.4g} – {high:.4g})".replace("-", "−")


def fig3(found: Mapping[str, Result]) -> Section:
    """Figure 3: an image with a mole, what alters the optimum's decision, and how little it is.

    Args:
        found: Results of the stages of `bayesgap.paper.fig3`.
    """
    result = found["mole"]
    with matplotlib.rc_context(STYLE):
        figure = styled(9.4, 4.6)
        grid = figure.add_gridspec(2, 4, width_ratios=[1, 1, 1, 1.75])
        for row, name in enumerate(mole.VARIANTS):
            _change([figure.add_subplot(grid[row, column]) for column in range(3)], result, name)
        _fading(figure.add_subplot(grid[0, 3]), result)
        _mole_radii(figure.add_subplot(grid[1, 3]), result)
    mean = {
        (name, label): mean_with_interval(mole.of_class(result, f"{name}/upper", label))
        for name in mole.VARIANTS
        for label in (0, 1)
    }
    share = mean_with_interval(mole.of_class(result, "mole/in mole"))
    counts = result.values["mole"]
    lost = (result.tensors["density"][:, 0] - result.tensors["density"][:, -1]).mean().item()
    return Section(
        text=[
            f"Where digit 0 always has a mole, {len(mole.ROWS) * len(mole.COLUMNS)} bright pixels, "
            f"and digit 6 hardly ever, a mean change of {_interval(mean['mole', 0])} "
            "turns the optimum's decision on a 0, of which "
            f"{100 * (share[0] or 0):.2f} % (of its square) is in the mole. Without the mole it "
            f"takes {_interval(mean['plain', 0])}.",
            f"With the mole the optimum decides {counts['correct']:,} of {counts['images']:,} "
            f"fresh samples correctly. Erasing it wholly lowers log p(x | 0) by {lost:,.0f} "
            "nats on average.",
            f"To pass for a 0, a 6 needs the very mole: its mean radius is "
            f"{_interval(mean['mole', 1])} with the mole and {_interval(mean['plain', 1])} "
            "without.",
        ],
        pictures=[
            Picture(
                figure,
                "A digit with a mole and one without, the smallest changes that alter the "
                "optimum's decision on them, the log posterior odds as the mole is erased, and "
                "the distributions of radii.",
                "Left: an image of class 1, the smallest change that alters the optimum's "
                "decision (red brighter, blue darker, each in its own scale) and what comes of it. "
                "Top right: mean and middle 90 % over images; below 0 the decision is the other "
                "class. Bottom right: how near the closest other decision is.",
                kind="png",
            )
        ],
    )


MOLE_NAMES = {"mole": "with the mole", "plain": "without it"}
MOLE_COLOURS = {"mole": VERMILION, "plain": GREEN}


def _change(axes: Sequence[Axes], result: Result, name: str) -> None:
    """An image, the smallest change that alters the decision, and the outcome."""
    before, after = (result.tensors[f"{name}/{key}"][0, 0] for key in ("images", "changed"))
    change = (after - before).numpy()
    reach = np.abs(change).max()
    for axis, image in ((axes[0], before), (axes[2], after)):
        axis.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes[1].imshow(change, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
    titles = ("digit 0", f"smallest change, L2 {np.linalg.norm(change):.2g}", "decided 6")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(True)
        axis.spines[:].set_color("#999999")
    axes[0].set_ylabel(MOLE_NAMES[name], fontsize=9)


def _fading(axis: Axes, result: Result) -> None:
    odds = result.tensors["odds"][:, :-1] / 1_000
    low, high = odds.quantile(odds.new_tensor([0.05, 0.95]), dim=0).numpy()
    erased = [100 * fade for fade in mole.FADES]
    axis.fill_between(erased, low, high, color=VERMILION, alpha=0.2, linewidth=0)
    axis.plot(erased, odds.mean(dim=0).numpy(), color=VERMILION)
    axis.axhline(0, color=BLACK, linewidth=0.8)
    last = result.tensors["odds"][:, -1].mean().item() / 1e6
    axis.set_title(f"erased wholly: {_signed(last)} million nats", fontsize=8)
    axis.set_xlabel("share of the mole erased (%)", fontsize=8)
    axis.set_ylabel("log posterior odds of 0\n(thousand nats)", fontsize=8)
    axis.set_xlim(0, erased[-1])
    axis.tick_params(labelsize=7)


def _mole_radii(axis: Axes, result: Result) -> None:
    for name, colour in MOLE_COLOURS.items():
        for label, dashes in enumerate(("-", "--")):
            values = mole.of_class(result, f"{name}/lower", label).flatten()
            text = f"digit {(0, 6)[label]} {MOLE_NAMES[name]}"
            _distribution(axis, values, (0.03, 6.0), colour, dashes, text)
    axis.set_xlabel("certified radius (L2, pixel units)", fontsize=8)
    axis.set_ylabel("share of points within", fontsize=8)
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(0.33, 0.5))


def fig5(found: Mapping[str, Result]) -> Section:
    """Figure 5: an optimum that is brittle, and a robust one that training misses.

    Args:
        found: Results of the stages of `bayesgap.paper.fig5`.
    """
    with matplotlib.rc_context(STYLE):
        figure = styled(9.4, 5.4)
        grid = figure.add_gridspec(2, 2, height_ratios=[1, 0.9])
        left, right = (figure.add_subplot(grid[0, column]) for column in range(2))
        _line_scene(left, found["asymmetric"], line.line_tasks()["asymmetric"])
        _line_scene(right, found["symmetric"], line.line_tasks()["symmetric"])
        for start in ("bad", "good"):
            _boundaries(right, found[start].tensors["parameters"], start)
        left.set_title("asymmetric data: the optimum is brittle", fontsize=9)
        right.set_title("symmetric data: the optimum is robust", fontsize=9)
        radii = figure.add_subplot(grid[1, :])
        _line_radii(radii, found)
        handles, texts = _legend(right, radii)
        figure.legend(
            handles, texts, loc="outside lower center", ncols=4, fontsize=8, markerscale=3
        )
    data = line.asymmetric_ratio(found)
    rows = []
    for start, size in line.STARTS.items():
        correct, reached = line.accuracy(found, start), line.relative(found, start)
        weights = found[start].tensors["parameters"][:, 1].abs()
        rows.append(
            [
                start,
                f"{size:g}",
                f"{weights.mean().item():.4g}",
                _interval(correct),
                _interval(reached),
            ]
        )
    trainings = len(found["bad"].tensors["parameters"])
    return Section(
        text=[
            "Two Gaussians that are narrow across the line between them. Left: the second class "
            "is broad instead, and the optimum's mean radius for the first falls to "
            f"{_interval(data)} of what it is on the right. Right: the optimum's boundary lies "
            "half way, but the data hardly move a weight across the line: a linear classifier "
            "keeps what it started with.",
            f"From a bad start {trainings} trainings end with a mean distance of "
            f"{_interval(line.relative(found, 'bad'))} of the optimum's radius; from a start at 0 "
            f"they reach {_interval(line.relative(found, 'good'))}.",
        ],
        pictures=[
            Picture(
                figure,
                "Decision regions of two optima with samples, learned boundaries from bad and "
                "good starts on the second, and the distributions of the distances to all "
                "boundaries.",
                "Background: the decision of the optimum. Lines: the boundaries that gradient "
                "descent ends with, one for each training; those from a good start lie on the "
                "optimum's. Below: how near the closest other "
                "decision is, over points that are decided correctly.",
                kind="png",
            )
        ],
        tables=[
            Table(
                heading=[
                    "start",
                    "weight across at the start",
                    "at the end",
                    "accuracy",
                    "mean distance ÷ optimum's",
                ],
                rows=rows,
                note=f"{trainings} trainings each; 95 % intervals over trainings and points.",
            )
        ],
    )


LINE_WINDOW = (-1.3, 1.3, -0.6, 0.6)
START_COLOURS = {"bad": VERMILION, "good": GREEN}


def _line_scene(axis: Axes, result: Result, task: Task) -> None:
    left, right, bottom, top = LINE_WINDOW
    columns, rows = 780, 360
    xs = left + (right - left) * (torch.arange(columns).double() + 0.5) / columns
    ys = bottom + (top - bottom) * (torch.arange(rows).double() + 0.5) / rows
    points = torch.cartesian_prod(ys, xs).flip(1).reshape(-1, *task.image_shape)
    regions = decisions(task.bayes_classifier(temperature=1.0), points).reshape(rows, columns)
    _draw_scene(axis, regions, result.tensors, list(LINE_WINDOW), size=3.0)


def _boundaries(axis: Axes, parameters: Float[Tensor, "trainings 3"], start: str) -> None:
    """Where w·x + b = 0, as lines that span the window."""
    reach = np.array([-9.0, 9.0])
    for training, (x, y, bias) in enumerate(parameters.tolist()):
        size = x * x + y * y
        foot, along = (-bias * x / size, -bias * y / size), (-y / size**0.5, x / size**0.5)
        axis.plot(
            foot[0] + reach * along[0],
            foot[1] + reach * along[1],
            color=START_COLOURS[start],
            linewidth=1,
            alpha=0.7,
            label=_learned(start) if training == 0 else None,
        )


def _line_radii(axis: Axes, found: Mapping[str, Result]) -> None:
    limits = (3e-3, 3.0)
    for start, colour in START_COLOURS.items():
        distance = found[start].tensors["distance"].flatten()
        _distribution(axis, distance, limits, colour, "-", _learned(start))
    # Last, for the learned boundaries of a good start lie on the optimum's.
    for variant, label, text, dashes in (
        ("asymmetric", 0, "optimum, asymmetric, class 1", "-"),
        ("asymmetric", 1, "optimum, asymmetric, class 2", "--"),
        ("symmetric", None, "optimum, symmetric", ":"),
    ):
        tensors = found[variant].tensors
        values = tensors["lower"] if label is None else tensors["lower"][tensors["y"] == label]
        _distribution(axis, values, limits, BLACK, dashes, text)
    axis.set_xlabel("distance to another decision (units of the features)", fontsize=8)
    axis.set_ylabel("share of points within", fontsize=8)


def _learned(start: str) -> str:
    return f"learned from a {start} start"


def fig8(found: Mapping[str, Result]) -> Section:
    """Figure 8: the components of a fit to a helix, and what fits lack of the helix's density.

    Args:
        found: Results of the stages of `bayesgap.paper.fig8`.
    """
    fits = helix.fits(found)
    with matplotlib.rc_context(STYLE):
        figure = styled(9.4, 4.6)
        grid = figure.add_gridspec(1, 2, width_ratios=[1.35, 1])
        _discs(figure.add_subplot(grid[0], projection="3d"), found[str(helix.SHOWN)])
        _divergences(figure.add_subplot(grid[1]), fits)
    truth = helix.log_likelihood(fits[0], "truth")
    best = min(fits, key=lambda fit: helix.divergence(fit)[0] or np.inf)
    return Section(
        text=[
            "Points of a helix of radius 1 with noise of standard deviation "
            f"{helix.NOISE_STD:g} along each axis, and mixtures of factor analyzers with "
            f"{helix.LATENT} factors, fitted to them by EM. The helix's own density gives "
            f"held-out points {_interval(truth)} nats on average; the best fit has "
            f"{best.values['components']} components and lacks {_interval(helix.divergence(best))} "
            "nats of that."
        ],
        pictures=[
            Picture(
                figure,
                "Points of a helix in space with the components of a mixture of factor analyzers "
                "as discs along it, and the divergence of fits over the number of components.",
                f"Left: points, and the {helix.SHOWN} components of a fit as discs: two standard "
                "deviations on the plane of each one's factors. Right: how many nats fits lack of "
                "the helix's own density on held-out points, with 95 % intervals.",
                kind="png",
            )
        ],
        tables=[
            Table(
                heading=["components", "held-out log-likelihood (nats)", "divergence (nats)"],
                rows=[
                    [
                        str(fit.values["components"]),
                        _interval(helix.log_likelihood(fit)),
                        _interval(helix.divergence(fit)),
                    ]
                    for fit in fits
                ],
                note="Means over held-out points with 95 % intervals. Divergence: of the fit from "
                "the helix's own density.",
                words=0,
            )
        ],
    )


def _discs(axis: Any, result: Result) -> None:
    """Points and translucent ellipses; `axis` is three-dimensional."""
    x = result.tensors["x"].numpy()
    axis.scatter(*x.T, s=3, color=CLASS_COLOURS[1], alpha=0.5, linewidths=0, depthshade=False)
    axis.add_collection3d(
        Poly3DCollection(
            list(result.tensors["ellipses"].numpy()),
            facecolors=to_rgba(VERMILION, 0.3),
            edgecolors=to_rgba(VERMILION, 0.9),
            linewidths=0.8,
        )
    )
    axis.set_box_aspect(np.ptp(x, axis=0))
    axis.view_init(elev=22, azim=-60)
    axis.tick_params(labelsize=7)
    for name in "xyz":
        getattr(axis, f"set_{name}label")(f"feature {'xyz'.index(name) + 1}", fontsize=8)


def _divergences(axis: Axes, fits: Sequence[Result]) -> None:
    numbers = [fit.values["components"] for fit in fits]
    values, low, high = np.array([helix.divergence(fit) for fit in fits], dtype=float).T
    axis.errorbar(
        numbers,
        values,
        yerr=[values - low, high - values],
        color=VERMILION,
        marker="o",
        markersize=4,
        capsize=2,
        linewidth=1.3,
    )
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(numbers, [str(number) for number in numbers])
    axis.minorticks_off()
    axis.set_xlabel("components", fontsize=8)
    axis.set_title("held-out nats below the helix's own density", fontsize=9)
    axis.tick_params(labelsize=7)


def _distribution(
    axis: Axes,
    values: Float[Tensor, " n"],
    limits: tuple[float, float],
    colour: str,
    dashes: str,
    label: str | None,
) -> None:
    """A distribution function on a logarithmic axis; values that are NaN are left out."""
    ordered = values[~values.isnan()].sort().values.numpy()
    at = np.concatenate([[limits[0]], ordered, [limits[1]]])
    share = np.concatenate([[0], np.arange(1, len(ordered) + 1) / len(ordered), [1]])
    axis.step(at, share, dashes, where="post", color=colour, linewidth=1.4, label=label)
    axis.set_xscale("log")
    axis.set_xlim(*limits)
    axis.set_ylim(-0.02, 1.02)
    axis.tick_params(labelsize=7)


def _signed(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")
