"""The pictures of Observations 1 to 4."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from bayesgap.drawing import BLACK, GREEN, SKY, STYLE, VERMILION, handles_of, plane, styled
from bayesgap.experiment import ASYMMETRIC, SYMMETRIC
from bayesgap.paper.observations.study import SAMPLES
from bayesgap.runs.store import Result

LOOKS = {ASYMMETRIC: (VERMILION, "o"), SYMMETRIC: (GREEN, "s")}  # colour and marker
GAUSSIANS = {
    "gaussians": "Observation 1: two Gaussians",
    "mixtures": "Observation 2: mixtures",
}
TABLES = {"tables": "Observation 3", "table mixtures": "Observation 4"}
RATIOS = (
    ("along", "distance along d alone", BLACK, "o"),
    ("predicted", "σ₁√L − |t − t₁|", SKY, "s"),
    ("rate", "σ₁√L", VERMILION, "^"),
)
FARTHEST = 40  # steps, of a distribution's axis
AXES = (
    "first feature (level)",
    "first feature (level)",
    "radius r (steps)",
    "ε, share off the level",
)


def narrow_directions(result: Result) -> Figure:
    """Observations 1 and 2: the radius over σ₁, and its ratios to what is predicted."""
    with matplotlib.rc_context(STYLE):
        figure = styled(8.6, 6.2)
        axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=[1.5, 1])
        for (size, ratio), (kind, title) in zip(axes.T, GAUSSIANS.items(), strict=True):
            _sizes(size, result, kind)
            _ratios(ratio, result, kind)
            size.set_title(title)
        axes[0, 0].set_ylabel("L2 distance to another decision\n(units of x)")
        axes[1, 0].set_ylabel("ratio, asymmetric")
        axes[0, 1].legend(loc="lower right", fontsize=8, scatterpoints=3)
        figure.legend(*handles_of([axes[1, 0]]), loc="outside lower center", ncols=3, fontsize=8)
        return figure


def _sizes(axis: Axes, result: Result, kind: str) -> None:
    sigmas = result.values["sigmas"]
    for variant, (colour, marker) in LOOKS.items():
        table = result.tensors[f"{kind}/{variant}/upper"]
        _band(axis, sigmas, table, colour, marker, f"radius, {variant}")
    both = result.tensors.get(f"{kind}/two outliers/upper")
    if both is not None:  # its points fall into two groups, which no quantile shows
        _dots(axis, sigmas, both)
    bound = result.tensors[f"{kind}/{ASYMMETRIC}/along"].nanmedian(dim=1).values
    label = f"along d alone, {ASYMMETRIC}"
    axis.plot(sigmas, bound, "--", color=BLACK, linewidth=1, label=label)
    axis.set_xscale("log")
    axis.set_yscale("log")


def _ratios(axis: Axes, result: Result, kind: str) -> None:
    upper = result.tensors[f"{kind}/{ASYMMETRIC}/upper"]
    for name, label, colour, marker in RATIOS:
        table = upper / result.tensors[f"{kind}/{ASYMMETRIC}/{name}"]
        _band(axis, result.values["sigmas"], table, colour, marker, f"radius ÷ ({label})")
    axis.axhline(1, color="#aaaaaa", linewidth=0.8, zorder=0)
    axis.set_xlabel("σ₁, standard deviation along d (units of x)")


def _band(
    axis: Axes, sigmas: Sequence[float], table: Tensor, colour: str, marker: str, label: str
) -> None:
    """The median over points with the middle 90 % around it."""
    levels = torch.tensor([0.05, 0.5, 0.95], dtype=table.dtype)
    low, middle, high = table.nanquantile(levels, dim=1)
    axis.fill_between(sigmas, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.plot(sigmas, middle, color=colour, marker=marker, markersize=3.5, label=label)


def _dots(axis: Axes, sigmas: Sequence[float], table: Tensor) -> None:
    """Every point, beside its σ₁."""
    shifts = torch.linspace(0.8, 0.95, table.shape[1], dtype=table.dtype)
    at = torch.tensor(sigmas, dtype=table.dtype)[:, None] * shifts
    label = "radii, an outlier in both classes"
    axis.scatter(at, table, s=4, color=SKY, linewidths=0, label=label)


def quantised_features(result: Result) -> Figure:
    """Observations 3 and 4: decisions on all cells, and how many steps away the other one is."""
    with matplotlib.rc_context(STYLE):
        figure = styled(10.4, 5.2)
        axes = figure.subplots(2, 4, width_ratios=[1, 1, 1.15, 1.15])
        for (first, second, radii, limit), (kind, title) in zip(axes, TABLES.items(), strict=True):
            _cells(first, result, f"{kind}/{SYMMETRIC}", f"{title}, {SYMMETRIC}")
            _cells(second, result, f"{kind}/{ASYMMETRIC}", f"{title}, {ASYMMETRIC}")
            first.set_ylabel("second feature (level)", fontsize=8)
            _radii(radii, result, kind)
            _shares(limit, result, kind)
        for axis, text in zip(axes[1], AXES, strict=True):
            axis.set_xlabel(text, fontsize=8)
        axes[0, 2].set_title("radius at the smallest ε", fontsize=9)
        axes[0, 3].set_title("as ε goes to 0", fontsize=9)
        axes[0, 2].legend(loc="lower right", fontsize=8)
        figure.legend(
            *handles_of([axes[0, 0]]),
            loc="outside lower left",
            ncols=2,
            fontsize=8,
            markerscale=2,
        )
        return figure


def _cells(axis: Axes, result: Result, name: str, title: str) -> None:
    decided = result.tensors[f"{name}/decisions"]
    samples = [result.tensors[f"{name}/samples {label}"] for label in (0, 1)]
    columns, rows = decided.shape
    window = (-0.5, columns - 0.5, -0.5, rows - 0.5)
    plane.scene(axis, decided.mT, samples, window, dots=2.0, most=SAMPLES)
    axis.set_title(title, fontsize=9)


def _radii(axis: Axes, result: Result, kind: str) -> None:
    """Which share of class 1's correctly decided mass has at most each radius."""
    for variant, (colour, _) in LOOKS.items():
        radius, decided, mass = (
            result.tensors[f"{kind}/{variant}/{key}"].flatten()
            for key in ("radius", "decisions", "probabilities")
        )
        radius, mass = radius[decided == 0], mass[decided == 0]
        order = radius.argsort()
        shares = (mass[order].cumsum(dim=0) / mass.sum()).numpy()
        at = np.concatenate([[0.0], radius[order].numpy(), [FARTHEST]])
        share = np.concatenate([[0.0], shares, [1.0]])
        axis.step(at, share, where="post", color=colour, linewidth=1.3, label=variant)
    axis.set_xlim(0, FARTHEST)
    axis.set_ylabel("share of class 1 within r", fontsize=8)
    _dress(axis)


def _shares(axis: Axes, result: Result, kind: str) -> None:
    for variant, (colour, marker) in LOOKS.items():
        shares = [records[0]["one_step"] for records in result.values[f"{kind}/{variant}"]]
        spreads = result.values["spreads"]
        axis.plot(spreads, shares, color=colour, marker=marker, markersize=3.5, label=variant)
    axis.set_xscale("log")
    axis.set_ylabel("share of class 1 within one step", fontsize=8)
    _dress(axis)


def _dress(axis: Axes) -> None:
    axis.set_ylim(-0.02, 1.02)
    axis.tick_params(labelsize=7)
