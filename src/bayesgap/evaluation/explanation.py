"""One point explained: the nearest images of another decision, of a classifier and the optimum."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from bayesgap.evaluation.measure import PIXEL_UNIT, SMALL_CHANGE

if TYPE_CHECKING:
    from bayesgap.evaluation.record import Evaluation

TOP = 5  # pixels named as those that changed most


@dataclass(frozen=True)
class Nearest:
    """The nearest image found that one decider puts into another class.

    Attributes:
        image: The image, (C, H, W).
        change: What changed: the image less the point, (C, H, W), in pixel units.
        size: How far it is by the evaluation's norm.
        decision: The name of the class that it is put into.
        pixels: Where it changed most: channel, row and column, from the most changed on.
        small: The share of pixels that changed by at most 5/255.
    """

    image: Float[Tensor, "C H W"] = field(repr=False)
    change: Float[Tensor, "C H W"] = field(repr=False)
    size: float
    decision: str
    pixels: list[tuple[int, int, int]]
    small: float


@dataclass(frozen=True)
class Explanation:
    """One point of an evaluation.

    Attributes:
        index: Which of the points it is.
        image: The point itself, (C, H, W).
        label: The name of its class.
        decision: The name of the class that the classifier puts it into.
        classifier: The nearest image that the classifier decides otherwise; None where none was
            found.
        optimum: The nearest image found that the optimum decides otherwise; None without
            certificates, where none was found, or where it decides the point itself wrongly.
        certified: The optimum's proven distance; None where there is no such image.
        moved: From which component of which class to which the optimum's decision moves; None
            where there is no such image.
    """

    index: int
    image: Float[Tensor, "C H W"] = field(repr=False)
    label: str
    decision: str
    classifier: Nearest | None
    optimum: Nearest | None
    certified: float | None
    moved: str | None

    def __str__(self) -> str:
        lines = [f"Point {self.index}, {self.label}, decided as {self.decision}."]
        if self.classifier is not None:
            lines.append(f"The classifier: {self.classifier.decision} at {_said(self.classifier)}.")
        if self.optimum is not None:
            lines.append(
                f"The optimum: {self.optimum.decision} at {_said(self.optimum)}, proven not to be "
                f"nearer than {self.certified:.4g}; it moves {self.moved}."
            )
        return "\n".join(lines)


def explained(evaluation: "Evaluation", index: int) -> Explanation:
    """Explain one of an evaluation's points.

    Args:
        evaluation: The evaluation.
        index: Which of its points, from 0.
    """
    names, nearest = evaluation.facts.class_names, evaluation.nearest
    image, bracket = evaluation.x[index].double(), evaluation.bracket
    found = None
    if nearest.sizes[index].isfinite():
        decision = names[int(nearest.after[index])]
        found = _nearest(image, nearest.images[index], nearest.sizes[index].item(), decision)
    optimum, certified, moved = None, None, None
    if bracket is not None and bracket.correct[index] and bracket.upper[index].isfinite():
        target = names[int(bracket.target_class[index])]
        optimum = _nearest(image, bracket.images[index], bracket.upper[index].item(), target)
        certified = bracket.lower[index].item()
        source, goal = (
            _component(int(place), names, evaluation.facts.components)
            for place in (bracket.source[index], bracket.target[index])
        )
        moved = f"from {source} to {goal}"
    return Explanation(
        index=index,
        image=image,
        label=names[int(evaluation.y[index])],
        decision=names[int(nearest.before[index])],
        classifier=found,
        optimum=optimum,
        certified=certified,
        moved=moved,
    )


def _nearest(
    point: Float[Tensor, "C H W"], image: Float[Tensor, "C H W"], size: float, decision: str
) -> Nearest:
    change = image.double() - point
    order = change.abs().flatten().argsort(descending=True)[:TOP]
    _, rows, columns = change.shape
    pixels = [
        (place // (rows * columns), place // columns % rows, place % columns)
        for place in order.tolist()
    ]
    small = (change.abs() <= SMALL_CHANGE * PIXEL_UNIT).double().mean().item()
    return Nearest(image.double(), change, size, decision, pixels, small)


def _component(place: int, names: list[str], components: list[int]) -> str:
    """A component's number within its class, from its place among those of all classes."""
    for name, count in zip(names, components, strict=True):
        if place < count:
            return f"component {place} of {name}"
        place -= count
    return "no component"


def _said(nearest: Nearest) -> str:
    channel, row, column = nearest.pixels[0]
    of = f" of channel {channel}" if len(nearest.change) > 1 else ""
    return (
        f"distance {nearest.size:.4g}, with {nearest.small:.0%} of the pixels within "
        f"{SMALL_CHANGE}/255 and most changed at row {row}, column {column}{of}"
    )
