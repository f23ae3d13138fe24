"""Figure 3: one extremely predictive feature makes the optimum brittle."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import matplotlib
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from bayesgap.drawing import (
    BLACK,
    GREEN,
    GREY,
    STYLE,
    VERMILION,
    Picture,
    Section,
    distribution,
    percent,
    signed,
    styled,
    with_interval,
)
from bayesgap.evaluation.statistics import (
    mean_with_interval,
    ratio_with_interval,
    share_with_interval,
)
from bayesgap.experiment import NOISY, Case, Setting, data_stage
from bayesgap.paper.engine import Claim, Exhibit, Findings, Named, Number, Wants
from bayesgap.paper.fig3.study import COLUMNS, FADES, ROWS, VARIANTS, study_mole
from bayesgap.runs.stage import Stage, seed_of
from bayesgap.runs.store import Result

TASK = "mnist-0-6"
MOLE = Named("mole")
BRITTLE = 0.1  # of the mean radius without the mole: at most that is brittle
IN_THE_MOLE = 0.9  # of the squared change: at least that is a change of just that feature
ACCURATE = 0.99
DIGITS = ("digit 0", "digit 6")
NAMES = {"mole": "with the mole", "plain": "without it"}
COLOURS = {"mole": VERMILION, "plain": GREEN}
RADIUS_LIMITS = (0.03, 6.0)  # in pixel units


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Attributes:
        per_class: The number of points of each class whose radii are certified.
        images: The number of samples for the optimum's accuracy.
    """

    per_class: int
    images: int


SIZES = {"quick": Size(20, 1_000), "default": Size(50, 10_000), "paper": Size(200, 10_000)}


def wants(setting: Setting, *, sizes: Mapping[str, Size]) -> Wants:
    """The one stage, on the released task with the noise of appendix D.2."""
    if TASK not in setting.tasks:
        return Wants()
    settings = {**asdict(sizes[setting.scale]), "sample_seed": seed_of("fig3", setting.seed)}
    task = data_stage(setting, Case(TASK, NOISY))
    return Wants(stages={MOLE: Stage("mole", study_mole, settings, {"task": task}, "figure 3")})


def of_class(result: Result, name: str, label: int = 0) -> Float[Tensor, "1 n"]:
    """A tensor's values at the points of one class, as one row for the intervals.

    Args:
        result: What the stage found.
        name: The name of one of its tensors that has a value for each point.
        label: The class of the points, 0 or 1.
    """
    return result.tensors[name][result.tensors["y"] == label][None]


def claims(findings: Findings) -> list[Claim]:
    """What figure 3 is to explain."""
    result = findings[MOLE]
    ratio = ratio_with_interval(of_class(result, "mole/upper"), of_class(result, "plain/lower"))
    share = mean_with_interval(of_class(result, "mole/in mole"))
    counts = result.values["mole"]
    accuracy = share_with_interval([counts["correct"]], counts["images"])
    return [
        Claim(
            "one predictive feature: brittle",
            "One feature that all samples of a class share, and hardly any of the other, gets so "
            "large a weight that changing it alone alters the optimum's decision, although that "
            "is nearly always right.",
            "a tiny change, erasing a mole, drastically changes the optimum's output; unseen "
            "images have it too, so that the weight does not hurt generalization (section 2, "
            "figure 3)",
            f"class with the mole: mean upper bound at most {BRITTLE:g} of the mean certified "
            f"lower bound without it, mean share of the squared change in the mole at least "
            f"{IN_THE_MOLE:g}; accuracy with the mole at least {ACCURATE:g}",
            [
                Number("mean radius, with over without mole", ratio, at_most=BRITTLE),
                Number("share of the change in the mole", share, at_least=IN_THE_MOLE),
                Number("accuracy with the mole", accuracy, at_least=ACCURATE),
            ],
        )
    ]


def section(findings: Findings) -> Section:
    """An image with a mole, what alters the optimum's decision, and how little it is."""
    result = findings[MOLE]
    mean = {
        (name, label): with_interval(mean_with_interval(of_class(result, f"{name}/upper", label)))
        for name in VARIANTS
        for label in (0, 1)
    }
    share = mean_with_interval(of_class(result, "mole/in mole"))
    counts = result.values["mole"]
    lost = (result.tensors["density"][:, 0] - result.tensors["density"][:, -1]).mean().item()
    return Section(
        [
            f"Where digit 0 always has a mole, {len(ROWS) * len(COLUMNS)} bright pixels, and "
            f"digit 6 hardly ever, a mean change of {mean['mole', 0]} turns the optimum's decision "
            f"on a 0, of which {percent(share.value, 2)} (of its square) is in the mole. Without "
            f"the mole it takes {mean['plain', 0]}.",
            f"With the mole the optimum decides {counts['correct']:,} of {counts['images']:,} "
            f"fresh samples correctly. Erasing it wholly lowers log p(x | 0) by {lost:,.0f} "
            "nats on average.",
            f"To pass for a 0, a 6 needs the very mole: its mean radius is {mean['mole', 1]} with "
            f"the mole and {mean['plain', 1]} without.",
        ],
        [
            Picture(
                changes_and_radii(result),
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


def changes_and_radii(result: Result) -> Figure:
    """The smallest changes with and without the mole, its fading, and all radii."""
    with matplotlib.rc_context(STYLE):
        figure = styled(9.4, 4.6)
        grid = figure.add_gridspec(2, 4, width_ratios=[1, 1, 1, 1.75])
        for row, name in enumerate(VARIANTS):
            _change([figure.add_subplot(grid[row, column]) for column in range(3)], result, name)
        _fading(figure.add_subplot(grid[0, 3]), result)
        _radii(figure.add_subplot(grid[1, 3]), result)
        return figure


def _change(axes: Sequence[Axes], result: Result, name: str) -> None:
    """An image, the smallest change that alters the decision, and the outcome."""
    before, after = (result.tensors[f"{name}/{key}"][0, 0] for key in ("images", "changed"))
    change = after - before
    reach = change.abs().max().item()
    for axis, image, shown in (
        (axes[0], before, {"cmap": "gray", "vmin": 0, "vmax": 1}),
        (axes[1], change, {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}),
        (axes[2], after, {"cmap": "gray", "vmin": 0, "vmax": 1}),
    ):
        axis.imshow(image.numpy(), interpolation="nearest", **shown)
    titles = (DIGITS[0], f"smallest change, L2 {change.norm().item():.2g}", "decided 6")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(True)
        axis.spines[:].set_color(GREY)
    axes[0].set_ylabel(NAMES[name], fontsize=9)


def _fading(axis: Axes, result: Result) -> None:
    odds, erased = result.tensors["odds"][:, :-1] / 1_000, [100 * fade for fade in FADES]
    low, high = odds.quantile(odds.new_tensor([0.05, 0.95]), dim=0).numpy()
    axis.fill_between(erased, low, high, color=VERMILION, alpha=0.2, linewidth=0)
    axis.plot(erased, odds.mean(dim=0).numpy(), color=VERMILION)
    axis.axhline(0, color=BLACK, linewidth=0.8)
    last = result.tensors["odds"][:, -1].mean().item() / 1e6
    axis.set_title(f"erased wholly: {signed(last)} million nats", fontsize=8)
    axis.set_xlabel("share of the mole erased (%)", fontsize=8)
    axis.set_ylabel("log posterior odds of 0\n(thousand nats)", fontsize=8)
    axis.set_xlim(0, erased[-1])
    axis.tick_params(labelsize=7)


def _radii(axis: Axes, result: Result) -> None:
    for name, colour in COLOURS.items():
        for label, dashes in enumerate(("-", "--")):
            values = of_class(result, f"{name}/lower", label).flatten()
            text = f"{DIGITS[label]} {NAMES[name]}"
            distribution(axis, values, RADIUS_LIMITS, colour, dashes, text)
    axis.set_xlabel("certified radius (L2, pixel units)", fontsize=8)
    axis.set_ylabel("share of points within", fontsize=8)
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(0.33, 0.5))


def exhibit(sizes: Mapping[str, Size] = SIZES) -> Exhibit:
    """The figure.

    Args:
        sizes: How much is computed at each scale, by its name.
    """
    return Exhibit(
        name="fig3",
        label="Figure 3",
        title="One extremely predictive feature makes the optimum brittle",
        needs="nothing but the package",
        wants=partial(wants, sizes=sizes),
        section=section,
        claims=claims,
    )


EXHIBIT = exhibit()
