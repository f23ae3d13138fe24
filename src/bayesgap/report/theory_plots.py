"""Pictures of Observations 1 to 4, from what `bayesgap.paper.observations` computed."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from bayesgap.densities.categorical import UNDECIDED
from bayesgap.report.plots import STYLE, styled
from bayesgap.runs.store import Result

# Of Okabe and Ito's palette, as in the other pictures.
BLACK, VERMILION, SKY, GREEN = "#000000", "#D55E00", "#56B4E9", "#009E73"
VARIANTS = {
    "asymmetric": ("asymmetric", VERMILION, "o"),
    "symmetric": ("symmetric", GREEN, "s"),
}
SCENES = {
    "gaussians": "Observation 1: two Gaussians",
    "mixtures": "Observation 2: mixtures",
}
TABLES = {"tables": "Observation 3", "table mixtures": "Observation 4"}
RATIOS = (
    ("along", "distance along d alone", BLACK, "o"),
    ("predicted", "σ₁√L − |t − t₁|", SKY, "s"),
    ("rate", "σ₁√L", VERMILION, "^"),
)
CLASS_COLOURS = ("#CC79A7", "#0072B2")
FARTHEST = 40  # steps, of a distribution's axis


def narrow_directions(result: Result) -> Figure:
    """Observations 1 and 2: the radius over σ₁, and its ratios to what is predicted."""
    sigmas = result.values["sigmas"]
    with matplotlib.rc_context(STYLE):
        figure = styled(8.6, 6.2)
        axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=[1.5, 1])
        for (size, ratio), (kind, title) in zip(axes.T, SCENES.items(), strict=True):
            for variant, (label, colour, marker) in VARIANTS.items():
                table = result.tensors[f"{kind}/{variant}/upper"]
                _band(size, sigmas, table, colour, marker, f"radius, {label}")
            bound = result.tensors[f"{kind}/asymmetric/along"].nanmedian(dim=1).values
            both = result.tensors.get(f"{kind}/two outliers/upper")
            if both is not None:  # its points fall into two groups, which no quantile shows
                _dots(size, sigmas, both)
            size.plot(
                sigmas,
                bound,
                "--",
                color=BLACK,
                linewidth=1,
                label="along d alone, asymmetric",
            )
            upper = result.tensors[f"{kind}/asymmetric/upper"]
            for name, label, colour, marker in RATIOS:
                table = upper / result.tensors[f"{kind}/asymmetric/{name}"]
                _band(ratio, sigmas, table, colour, marker, f"radius ÷ ({label})")
            ratio.axhline(1, color="#aaaaaa", linewidth=0.8, zorder=0)
            size.set_title(title)
            size.set_xscale("log")
            size.set_yscale("log")
            ratio.set_xlabel("σ₁, standard deviation along d (units of x)")
        axes[0, 0].set_ylabel("L2 distance to another decision\n(units of x)")
        axes[1, 0].set_ylabel("ratio, asymmetric")
        handles, labels = axes[0, 1].get_legend_handles_labels()
        axes[0, 1].legend(handles, labels, loc="lower right", fontsize=8, scatterpoints=3)
        handles, labels = axes[1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
        return figure


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
    axis.scatter(
        at,
        table,
        s=4,
        color=SKY,
        linewidths=0,
        label="radii, an outlier in both classes",
    )


def quantised_features(result: Result) -> Figure:
    """Observations 3 and 4: decisions on all cells, and how many steps away the other one is."""
    spreads = result.values["spreads"]
    with matplotlib.rc_context(STYLE):
        figure = styled(10.4, 5.2)
        axes = figure.subplots(2, 4, width_ratios=[1, 1, 1.15, 1.15])
        for row, (kind, title) in zip(axes, TABLES.items(), strict=True):
            for axis, variant in zip(row, ("symmetric", "asymmetric"), strict=False):
                _regions(axis, result, f"{kind}/{variant}")
                axis.set_title(f"{title}, {variant}", fontsize=9)
            for variant in ("asymmetric", "symmetric"):
                label, colour, marker = VARIANTS[variant]
                _distribution(row[2], result, f"{kind}/{variant}", colour, label)
                shares = [records[0]["one_step"] for records in result.values[f"{kind}/{variant}"]]
                row[3].plot(
                    spreads, shares, color=colour, marker=marker, markersize=3.5, label=label
                )
            row[3].set_xscale("log")
            row[3].set_ylim(-0.02, 1.02)
            row[3].set_ylabel("share of class 1 within one step", fontsize=8)
            row[2].set_ylabel("share of class 1 within r", fontsize=8)
            row[0].set_ylabel("second feature (level)", fontsize=8)
        for axis, text in zip(
            axes[1],
            (
                "first feature (level)",
                "first feature (level)",
                "radius r (steps)",
                "ε, share off the level",
            ),
            strict=True,
        ):
            axis.set_xlabel(text, fontsize=8)
        for axis in axes.flat:
            axis.tick_params(labelsize=7)
        axes[0, 2].set_title("radius at the smallest ε", fontsize=9)
        axes[0, 3].set_title("as ε goes to 0", fontsize=9)
        axes[0, 2].legend(loc="lower right", fontsize=8)
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(),
            loc="outside lower left",
            ncols=2,
            fontsize=8,
            markerscale=2,
        )
        return figure


def _regions(axis: Axes, result: Result, name: str) -> None:
    decided = result.tensors[f"{name}/decisions"].numpy()
    shown = ListedColormap(["#ffffff", "#f3dfe8", "#cfe3f0"])  # nobody's, and pale class colours
    axis.imshow(
        decided.T,
        cmap=shown,
        vmin=UNDECIDED - 0.5,
        vmax=1.5,
        origin="lower",
        interpolation="nearest",
    )
    for label, colour in enumerate(CLASS_COLOURS):
        cells = result.tensors[f"{name}/samples {label}"]
        axis.scatter(
            cells[:, 0], cells[:, 1], s=2, color=colour, linewidths=0, label=f"class {label + 1}"
        )
    axis.set_xlim(-0.5, decided.shape[0] - 0.5)
    axis.set_ylim(-0.5, decided.shape[1] - 0.5)


def _distribution(axis: Axes, result: Result, name: str, colour: str, label: str) -> None:
    """Which share of class 1's correctly decided mass has at most each radius."""
    radius, decided, mass = (
        result.tensors[f"{name}/{key}"].flatten()
        for key in ("radius", "decisions", "probabilities")
    )
    radius, mass = radius[decided == 0], mass[decided == 0]
    order = radius.argsort()
    share = (mass[order].cumsum(dim=0) / mass.sum()).numpy()
    at = np.concatenate([[0.0], radius[order].numpy(), [FARTHEST]])
    share = np.concatenate([[0.0], share, [1.0]])
    axis.step(at, share, where="post", color=colour, linewidth=1.3, label=label)
    axis.set_xlim(0, FARTHEST)
    axis.set_ylim(-0.02, 1.02)
