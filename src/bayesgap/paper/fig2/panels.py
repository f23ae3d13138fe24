"""The panels of figure 2 and their radii, which its picture shows and its claims judge."""

from jaxtyping import Float
from torch import Tensor

from bayesgap.paper.engine import Findings, Named
from bayesgap.runs.store import Result

SIBLINGS = {"e": "a", "f": "b", "g": "c", "h": "d"}  # the panel above each of the bottom row


def radii(result: Result, end: str, label: int | None = None) -> Float[Tensor, " n"]:
    """The radii of a panel's samples that are decided correctly and come from no outlier.

    Args:
        result: What a panel's stage found.
        end: Which end of the radii's brackets to take, "lower" or "upper".
        label: The class whose samples to take, 0 or 1; by default those of both.

    Returns:
        Distances in the units of the panel's features.
    """
    tensors = result.tensors
    chosen = tensors["correct"] & ~tensors["outlier"]
    if label is not None:
        chosen &= tensors["y"] == label
    return tensors[end][chosen]


def half_distance(result: Result) -> float:
    """Half the distance between a panel's classes, as far as a boundary can be from both."""
    return float(result.values["distance"]) / 2


def relative_radii(result: Result, end: str, label: int | None = None) -> Float[Tensor, " n"]:
    """The same as `radii`, in half the distance between the classes."""
    return radii(result, end, label) / half_distance(result)


def looseness(result: Result) -> float:
    """The largest upper/lower of a panel's samples; 1 where radii are exact."""
    return (radii(result, "upper") / radii(result, "lower")).max().item()


def pairs(findings: Findings) -> list[tuple[str, Result, str, Result]]:
    """Each panel of the top row with its letter, and the one below it with its own."""
    return [
        (top, findings[Named(top)], below, findings[Named(below)])
        for below, top in SIBLINGS.items()
    ]
