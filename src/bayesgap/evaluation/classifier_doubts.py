"""What is doubtful of a classifier before it is attacked: is it a function with useful gradients?

All is found with about a dozen passes over the points, and a few dozen over some of them.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from bayesgap.attacks.boundary import (
    FIRST_BISECTIONS,
    Gap,
    bisect,
    by_image,
    gaps,
    norms,
    value_and_gradient,
)
from bayesgap.classifiers.module import NO_GRADIENT, margin, outputs, placed
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.doubts import (
    ABSTAINS,
    ACCURACY,
    BATCH,
    COARSE,
    DISAGREEING,
    FEW_POINTS,
    LABELS,
    NO_GRADIENTS,
    NOT_FINITE,
    RANDOM,
    RANGE,
    SATURATED,
    VANISHING,
    Doubt,
)
from bayesgap.evaluation.statistics import binomial_interval

REPEATS = 3  # passes that must give the same
SINGLES = 6  # points that are asked about alone
GOOD = 0.9  # of the best accuracy, from which another range looks like the right one
SAME = 64  # roundings of the largest logit that two passes may differ by, on a GPU
LEANING = 1e-3  # of the median margin: what other images of the batch may move a logit by
BATCH_ROUNDINGS = 1_000  # of the largest logit, which batches of other sizes round by
ENOUGH = 20  # correctly decided points, for an interval over them to mean something
ALIKE = 1e-6  # share by which margins differ that are counted as the same
SATURATION = 0.5  # of the points with the same margin
RESOLUTION = 0.01  # of the median margin: spacing of outputs that moves boundaries by as much
LOOKED_AT = 16  # points whose gradients, and whose ways to another decision, are looked at
BETWEEN = 9  # images on each of these ways
STEPS = (
    0.1,
    0.01,
    0.001,
    0.0001,
)  # of the way to another decision, over which differences are taken
AGREEING = (0.5, 2.0)  # a slope over the difference that it should equal, at one of the steps
RANDOM_DIRECTIONS = 16  # along which slopes and differences are compared as well
MISSING = 0.02  # share of the square of differences that slopes leave unexplained
DOUBTFUL = 0.25  # share of the points looked at, beyond which their gradients are doubted

Images = Callable[[Tensor], Tensor]


def classifier_doubts(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    *,
    optimum: float | None = None,
) -> list[Doubt]:
    """Examine a classifier in evaluation mode at the points that are to be attacked.

    Args:
        classifier: The classifier.
        x: The points.
        y: The label of each point.
        optimum: The share of the points that the task's optimum decides correctly; None where it
            is not known, then all of them.
    """
    first = outputs(classifier, x)
    doubts = [*_repeats(classifier, x, first)] or [*_batches(classifier, x, first)]
    if doubts:  # of what is no function of the image there is little more to say
        slopes = _gradients(classifier, x, first.argmax(dim=1))
        return doubts + [doubt for doubt in slopes if doubt.name == NO_GRADIENTS]
    return [
        *_accuracy(classifier, x, y, first, 1.0 if optimum is None else optimum),
        *_saturation(first),
        *_abstentions(classifier, x, first.argmax(dim=1)),
        *_gradients(classifier, x, first.argmax(dim=1)),
    ]


def _repeats(
    classifier: nn.Module, x: Float[Tensor, "n C H W"], first: Float[Tensor, "n classes"]
) -> Iterator[Doubt]:
    """Is it a function: does it say the same of the same images?"""
    again = torch.stack([outputs(classifier, x) for _ in range(REPEATS - 1)])
    change = (again - first).abs().nan_to_num(0.0).amax(dim=(0, 2))
    if (change > SAME * torch.finfo(first.dtype).eps * _scale(first)).any():
        flipped = int((again.argmax(dim=2) != first.argmax(dim=1)).any(dim=0).sum())
        yield Doubt(
            RANDOM,
            f"asked {REPEATS} times about the same images, it moved its outputs for "
            f"{int((change > 0).sum())} of {len(x)}, by up to {change.max().item():.3g}, and its "
            f"decision on {flipped}",
            "Switch dropout and noise off (call eval() on a network that a function or wrapper "
            "uses), or average many draws with a fixed seed: what is attacked must be a function "
            "of the image.",
            voids=True,
        )


def _batches(
    classifier: nn.Module, x: Float[Tensor, "n C H W"], first: Float[Tensor, "n classes"]
) -> Iterator[Doubt]:
    """Is it a function of one image: does it say the same whatever the others are?"""
    some = _spread(len(x), SINGLES)
    try:
        alone = torch.cat([outputs(classifier, x[row : row + 1]) for row in some.tolist()])
        order = torch.cat([torch.arange(start, len(x), 2) for start in (0, 1)])
        halves = torch.cat([outputs(classifier, x[part]) for part in order.chunk(2) if len(part)])
    except BayesgapError as error:
        remedy = "Make it decide one image as it decides many, such as by running statistics."
        yield Doubt(BATCH, f"it fails on other batches of the same images: {error}", remedy, True)
        return
    change = (halves[order.argsort()] - first).abs().nan_to_num(0.0)
    change[some] = change[some].maximum((alone - first[some]).abs().nan_to_num(0.0))
    rounding = BATCH_ROUNDINGS * torch.finfo(first.dtype).eps * _scale(first)
    leaning = LEANING * margin(first, first.argmax(dim=1)).median().item()
    moved = (change > max(rounding, leaning)).any(dim=1)
    if moved.any():
        yield Doubt(
            BATCH,
            f"its outputs for {int(moved.sum())} of {len(x)} images change by up to "
            f"{change.max().item():.3g} with the other images of the batch",
            "Put it into evaluation mode with running statistics (batch normalisation without "
            "them looks at the batch), so that it decides each image alone.",
            voids=True,
        )


def _accuracy(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    first: Float[Tensor, "n classes"],
    optimum: float,
) -> Iterator[Doubt]:
    """Does it know the task: as it is, in another range, or under other labels?"""
    n, classes = first.shape
    right = int((first.argmax(dim=1) == y).sum())
    if right < ENOUGH:
        yield Doubt(
            FEW_POINTS,
            f"{right} of {n} points are decided correctly and count",
            f"Attack more points: with fewer than {ENOUGH} the intervals mean little.",
        )
    ways = {"x": right}
    if _better(n, right, n):  # else nothing can be better by more than chance
        ways = {name: _right(classifier, change(x), y) for name, change in _ranges(x).items()}
    way = max(ways, key=lambda name: ways[name])
    renamed, names = _renamed(first.argmax(dim=1), y, classes)
    if _better(ways[way], right, n) and ways[way] > max(renamed, GOOD * optimum * n):
        yield Doubt(
            RANGE,
            f"it decides {right / n:.1%} of the points correctly as they are, and "
            f"{ways[way] / n:.1%} of {way}",
            "Build what it expects into it, such as a first layer that scales images.",
            voids=True,
        )
    elif _better(renamed, right, n):
        yield Doubt(
            LABELS,
            f"it decides {right / n:.1%} of the points correctly, and {renamed / n:.1%} were its "
            f"outputs those of the classes {', '.join(map(str, names))}",
            "Bring its outputs into the order of the task's classes.",
            voids=True,
        )
    elif right / n < (1 / classes + optimum) / 2:
        yield Doubt(
            ACCURACY,
            f"it decides {right / n:.1%} of the points correctly, where guessing has "
            f"{1 / classes:.1%} and the best {optimum:.1%}",
            "Sizes are over correctly decided points: of so few they say little of the classifier.",
            voids=binomial_interval(right, n)[0] <= 1 / classes,
        )


def _renamed(
    decided: Int[Tensor, " n"], y: Int[Tensor, " n"], classes: int
) -> tuple[int, list[int]]:
    """How many points are right under the best names of the outputs, and these names."""
    table = torch.zeros(classes, classes, dtype=torch.long)  # a row an output, a column a class
    table.index_put_((decided, y), torch.ones_like(y), accumulate=True)
    rows, columns = linear_sum_assignment(-table.numpy())
    return int(table.numpy()[rows, columns].sum()), columns.tolist()


def _ranges(x: Float[Tensor, "n C H W"]) -> dict[str, Images]:
    """Other ways to give the same images, in words that follow "… of"."""
    mean, deviation = x.mean().item(), x.std().item() or 1.0
    ways: dict[str, Images] = {
        "255 · x": lambda z: 255 * z,
        "x / 255": lambda z: z / 255,
        "2 · x − 1": lambda z: 2 * z - 1,
        "(x + 1) / 2": lambda z: (z + 1) / 2,
        "1 − x": lambda z: 1 - z,
        f"(x − {mean:.3g}) / {deviation:.3g}": lambda z: (z - mean) / deviation,
    }
    if x.shape[1] > 1:
        ways["x with its channels reversed"] = lambda z: z.flip(1)
    if x.shape[2] == x.shape[3] > 1:
        ways["x with rows and columns exchanged"] = lambda z: z.mT
    return ways


def _right(classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]) -> int:
    """How many images are decided as labelled; none of what the classifier cannot take."""
    try:
        return int((outputs(classifier, x).argmax(dim=1) == y).sum())
    except BayesgapError:
        return 0


def _better(other: int, right: int, n: int) -> bool:
    """Whether a share is larger by more than chance: the 95 % intervals are disjoint."""
    return other > right and binomial_interval(other, n)[0] > binomial_interval(right, n)[1]


def _saturation(first: Float[Tensor, "n classes"]) -> Iterator[Doubt]:
    """Do outputs still tell how near another decision is, and finely enough?"""
    margins = margin(first, first.argmax(dim=1)).double()
    _, counts = (
        (margins / (ALIKE * margins.abs().max().clamp(min=1e-300)))
        .round()
        .unique(return_counts=True)
    )
    if len(margins) > 1 and int(counts.max()) > SATURATION * len(margins):
        yield Doubt(
            SATURATED,
            f"{int(counts.max())} of {len(margins)} points have the same margin",
            "Give the scores before they are rounded, clipped or squashed, if there are any: these "
            "are attacked by decisions alone, and sizes may be too large.",
        )
    spacing = torch.finfo(first.dtype).eps * _scale(first)
    if spacing > RESOLUTION * margins.median().item():
        yield Doubt(
            COARSE,
            f"in {first.dtype} outputs of up to {_scale(first):.2g} are spaced by {spacing:.2g}, "
            f"and half of the margins lie below {margins.median().item():.2g}",
            "Compute in float64, or take off what all outputs share: sizes are off by a share of "
            "about that ratio.",
        )


def _abstentions(
    classifier: nn.Module, x: Float[Tensor, "n C H W"], decided: Int[Tensor, " n"]
) -> Iterator[Doubt]:
    """Does it decide what lies between images of different decisions?"""
    some = _spread(len(x), LOOKED_AT)
    far = _other(x, decided, some)
    steps = torch.linspace(0, 1, BETWEEN + 2, dtype=x.dtype)[1:-1]
    between = torch.cat([x[some] + share * (far - x[some]) for share in steps])
    silent = int((~outputs(classifier, between).isfinite()).any(dim=1).sum())
    if silent:
        yield Doubt(
            ABSTAINS,
            f"its outputs are not finite at {silent} of {len(between)} images between points of "
            "different decisions",
            "Such images count as withstanding, so that abstaining would look like robustness: "
            "give outputs that decide every image.",
            voids=True,
        )


def _gradients(
    classifier: nn.Module, x: Float[Tensor, "n C H W"], decided: Int[Tensor, " n"]
) -> Iterator[Doubt]:
    """Do gradients at the boundary, where walks follow them, say what outputs do?"""
    some = _spread(len(x), LOOKED_AT)
    images, own = placed(classifier, x[some]), decided[some].to(x.device)
    far = placed(classifier, _other(x, decided, some))
    own = own.to(images.device)
    gap = gaps(classifier, own)
    try:
        _, at_image = value_and_gradient(gap, images)
        crossing = bisect(gap, images, far, FIRST_BISECTIONS)
        _, at_crossing = value_and_gradient(gap, crossing)
    except BayesgapError as error:
        none = "its outputs have none with respect to the images"
        yield Doubt(
            NO_GRADIENTS,
            none if str(error) == NO_GRADIENT else str(error).removesuffix("."),
            "It is attacked by its scores or decisions alone, which takes far more passes, and "
            "sizes may be too large; where it is differentiable at heart, give the part that is.",
        )
        return
    broken = ~(at_image.isfinite() & at_crossing.isfinite()).flatten(1).all(dim=1)
    if broken.any():
        yield Doubt(
            NOT_FINITE,
            f"those of {int(broken.sum())} of {len(some)} points hold NaN or infinity",
            "Mend the operation that makes them, such as a root or logarithm at 0.",
        )
    crossed = ~broken & (norms(far - images) > 0)
    if crossed.any():
        gap = gaps(classifier, own[crossed])
        yield from _slopes(gap, *(part[crossed] for part in (images, far, crossing, at_crossing)))


def _slopes(
    gap: Gap,
    images: Float[Tensor, "n C H W"],
    far: Float[Tensor, "n C H W"],
    crossing: Float[Tensor, "n C H W"],
    gradient: Float[Tensor, "n C H W"],
) -> Iterator[Doubt]:
    """Slopes at crossings beside differences of outputs over several steps across them."""
    n, length = len(images), norms(far - images)
    gradient = gradient.double()  # whose square may be too small for another dtype
    ray = (far - images) / by_image(length)
    size = norms(gradient)
    normal = (gradient / by_image(size.clamp(min=torch.finfo(size.dtype).tiny))).to(ray)
    agrees = torch.zeros_like(size, dtype=torch.bool)
    for direction in (ray, normal):
        slope = (gradient * direction).flatten(1).sum(dim=1)
        for share in STEPS:
            step = by_image(share * length) * direction
            with torch.no_grad():
                rise = (gap(crossing + step) - gap(crossing - step)) / (2 * share * length)
            ratio = slope / rise
            agrees |= (ratio > AGREEING[0]) & (ratio < AGREEING[1])
    missing = _missing(gap, crossing, gradient, length)
    if int((size == 0).sum()) > DOUBTFUL * n:
        yield Doubt(
            VANISHING,
            f"those of {int((size == 0).sum())} of {n} points on the boundary are 0, where outputs "
            "change",
            "Something rounds or cuts gradients off: it is attacked by score differences or "
            "decisions as well, and sizes may still be too large; or give the classifier without "
            "that part.",
        )
    elif int((~agrees).sum()) > DOUBTFUL * n:
        yield Doubt(
            DISAGREEING,
            f"at {int((~agrees).sum())} of {n} points on the boundary they differ from differences "
            "of outputs, by a factor of 2 or more at every step",
            "Gradients are masked or wrong: it is attacked by score differences or decisions as "
            "well, and sizes may still be too large; look for custom backward passes, noise and "
            "rounding.",
        )
    elif missing > MISSING:
        yield Doubt(
            DISAGREEING,
            f"along random directions they leave {missing:.0%} of the square of differences of "
            "outputs unexplained",
            "Part of the way from images to outputs has no gradient, or a wrong one: it is "
            "attacked by score differences as well; sizes may still be too large.",
        )


def _missing(
    gap: Gap,
    crossing: Float[Tensor, "n C H W"],
    gradient: Float[Tensor, "n C H W"],
    length: Float[Tensor, " n"],
) -> float:
    """The share of the square of differences along random directions that slopes do not explain.

    A gradient that lacks some pixels lacks as large a share of its square, whatever there is of
    the rest. Of several steps the one counts at which slopes and differences agree best: the
    larger ones are bent, the smaller ones rounded.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (RANDOM_DIRECTIONS, *crossing.shape)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64).to(crossing)
    directions = drawn / drawn.flatten(2).norm(dim=2)[..., None, None, None]
    slopes = (gradient * directions).flatten(2).sum(dim=2)
    shares: list[float] = []
    for share in STEPS:
        step = by_image(share * length)
        with torch.no_grad():
            rises = [gap(crossing + step * u) - gap(crossing - step * u) for u in directions]
        rise = torch.stack(rises).double() / (2 * share * length)
        # By the median over points, of which some lie at kinks.
        left = (rise - slopes).square().sum(dim=0) / rise.square().sum(dim=0)
        shares.append(left.nan_to_num(0.0).clamp(max=1.0).median().item())
    return min(shares)


def _other(
    x: Float[Tensor, "n C H W"], decided: Int[Tensor, " n"], some: Int[Tensor, " few"]
) -> Float[Tensor, "few C H W"]:
    """For some points the nearest of all that is decided otherwise; itself where none is."""
    flat = x.flatten(1).double()
    distances = torch.cdist(flat[some], flat)
    distances = distances.masked_fill(decided[some][:, None] == decided[None], torch.inf)
    least, nearest = distances.min(dim=1)
    return x[torch.where(least.isfinite(), nearest, some)]


def _spread(n: int, count: int) -> Int[Tensor, " few"]:
    """Up to so many of n rows, over all of them."""
    return torch.linspace(0, n - 1, min(n, count)).round().long()


def _scale(first: Float[Tensor, "n classes"]) -> float:
    finite = first[first.isfinite()]
    return max(1e-30, finite.abs().max().item() if len(finite) else 0.0)
