"""What an evaluation holds, as tensors and JSON: for its file, and to compare two of them."""

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from bayesgap.evaluation.record import Evaluation

KIND = "evaluation"  # what its file says that it is
PARTS = ("before", "after", "sizes", "images")  # of what an attack found


def tensors_of(evaluation: "Evaluation") -> dict[str, Tensor]:
    """What was measured at each point, by the names that its file uses.

    Args:
        evaluation: The evaluation.
    """
    tensors = {"x": evaluation.x, "y": evaluation.y, "weights": evaluation.weights}
    for place, outcome in enumerate(evaluation.outcomes.values()):
        for part in PARTS:
            tensors[f"attack.{place}.{part}"] = getattr(outcome, part)
    if evaluation.bracket is not None:
        for each in fields(evaluation.bracket):
            tensors[f"optimum.{each.name}"] = getattr(evaluation.bracket, each.name)
    return tensors


def metadata_of(evaluation: "Evaluation") -> dict[str, Any]:
    """All else that its file says, as JSON values.

    Args:
        evaluation: The evaluation.
    """
    return {
        "attacks": [*evaluation.outcomes],
        "norm": evaluation.best.norm.name,
        "certified": evaluation.bracket is not None,
        "doubts": [doubt.record() for doubt in evaluation.doubts],
        "passes": {name: [*taken] for name, taken in evaluation.passes.items()},
        "facts": asdict(evaluation.facts),
        "no_gap": evaluation.no_gap,
    }


def timeless(metadata: dict[str, Any]) -> dict[str, Any]:
    """The same but for seconds, which differ from run to run.

    Args:
        metadata: What `metadata_of` gives.
    """
    return metadata | {"passes": {name: taken[:2] for name, taken in metadata["passes"].items()}}
