"""Figure 8: a mixture of factor analyzers fitted to a noisy helix.

Every component is a Gaussian on a learned plane with noise along the axes added (equation 11).
The numbers of components are ours. What the fits lack of the helix's own density is known, for
the mean of log p − log q over held-out points estimates the divergence KL(p, q).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

from bayesgap.drawing import (
    CLASS_COLOURS,
    STYLE,
    VERMILION,
    Picture,
    Section,
    Table,
    styled,
    with_interval,
)
from bayesgap.estimates import Estimate
from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.experiment import Setting
from bayesgap.paper.engine import Exhibit, Findings, Key, Wants
from bayesgap.paper.fig8.study import LATENT, NOISE_STD, study_helix
from bayesgap.runs.stage import Stage, seed_of
from bayesgap.runs.store import Result

SHOWN = 12  # components in the picture


@dataclass(frozen=True)
class Fit(Key):
    """A fit of one number of components.

    Attributes:
        components: The number of components that is asked for.
    """

    components: int


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Attributes:
        images: The number of points that are fitted to.
        held_out: The number of points that fits are compared on with the helix's own density.
        components: The numbers of components that are fitted, `SHOWN` among them.
    """

    images: int
    held_out: int
    components: Sequence[int]


SIZES = {
    "quick": Size(1_000, 1_000, (1, 4, SHOWN)),
    "default": Size(5_000, 5_000, (1, 2, 4, 8, SHOWN, 16, 24, 32)),
    "paper": Size(50_000, 20_000, (1, 2, 4, 8, SHOWN, 16, 24, 32, 64)),
}


def wants(setting: Setting, *, sizes: Mapping[str, Size]) -> Wants:
    """One fit for each number of components."""
    size = sizes[setting.scale]
    return Wants(stages={Fit(number): _stage(setting, number, size) for number in size.components})


def _stage(setting: Setting, components: int, size: Size) -> Stage:
    settings = {
        "components": components,
        "images": size.images,
        "held_out": size.held_out,
        "sample_seed": seed_of("fig8", setting.seed),
    }
    return Stage("helix", study_helix, settings, label=f"figure 8, {components} components")


def fits(findings: Findings) -> list[Result]:
    """What came of the fits, in order of the number of components that was asked for."""
    asked = {key.components: key for key in findings.results if isinstance(key, Fit)}
    return [findings[asked[number]] for number in sorted(asked)]


def log_likelihood(result: Result, name: str = "fit") -> Estimate:
    """Mean log-density of the held-out points in nats, of a "fit" or the "truth"."""
    return mean_with_interval(result.tensors[name][None])


def divergence(result: Result) -> Estimate:
    """KL(p, q) in nats of a fit q from the helix's own density p."""
    return mean_with_interval((result.tensors["truth"] - result.tensors["fit"])[None])


def section(findings: Findings) -> Section:
    """The components of a fit to a helix, and what fits lack of the helix's density."""
    every = fits(findings)
    truth = log_likelihood(every[0], "truth")
    best = min(every, key=lambda fit: divergence(fit).value or np.inf)
    return Section(
        [
            "Points of a helix of radius 1 with noise of standard deviation "
            f"{NOISE_STD:g} along each axis, and mixtures of factor analyzers with {LATENT} "
            "factors, fitted to them by EM. The helix's own density gives held-out points "
            f"{with_interval(truth)} nats on average; the best fit has "
            f"{best.values['components']} components and lacks "
            f"{with_interval(divergence(best))} nats of that."
        ],
        [
            Picture(
                components_and_divergences(findings[Fit(SHOWN)], every),
                "Points of a helix in space with the components of a mixture of factor analyzers "
                "as discs along it, and the divergence of fits over the number of components.",
                f"Left: points, and the {SHOWN} components of a fit as discs: two standard "
                "deviations on the plane of each one's factors. Right: how many nats fits lack of "
                "the helix's own density on held-out points, with 95 % intervals.",
                kind="png",
            )
        ],
        [
            Table(
                heading=["components", "held-out log-likelihood (nats)", "divergence (nats)"],
                rows=[
                    [
                        str(fit.values["components"]),
                        with_interval(log_likelihood(fit)),
                        with_interval(divergence(fit)),
                    ]
                    for fit in every
                ],
                note="Means over held-out points with 95 % intervals. Divergence: of the fit from "
                "the helix's own density.",
                words=0,
            )
        ],
    )


def components_and_divergences(shown: Result, every: Sequence[Result]) -> Figure:
    """The components of one fit in space, and the divergences of all fits.

    Args:
        shown: The fit whose components are drawn.
        every: All fits, in order of the number of components.
    """
    with matplotlib.rc_context(STYLE):
        figure = styled(9.4, 4.6)
        grid = figure.add_gridspec(1, 2, width_ratios=[1.35, 1])
        _discs(figure.add_subplot(grid[0], projection="3d"), shown)
        _divergences(figure.add_subplot(grid[1]), every)
        return figure


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
    for feature, name in enumerate("xyz", start=1):
        getattr(axis, f"set_{name}label")(f"feature {feature}", fontsize=8)


def _divergences(axis: Axes, every: Sequence[Result]) -> None:
    numbers = [fit.values["components"] for fit in every]
    values, low, high = np.array([divergence(fit) for fit in every], dtype=float).T
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


def exhibit(sizes: Mapping[str, Size] = SIZES) -> Exhibit:
    """The figure.

    Args:
        sizes: How much is computed at each scale, by its name.
    """
    return Exhibit(
        name="fig8",
        label="Figure 8",
        title="A mixture of factor analyzers fitted to a helix",
        needs="nothing but the package",
        wants=partial(wants, sizes=sizes),
        section=section,
    )


EXHIBIT = exhibit()
