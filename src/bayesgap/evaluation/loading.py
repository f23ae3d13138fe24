"""Reading evaluations again: a file holds measurements, and all numbers are computed anew."""

from dataclasses import fields
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from bayesgap import files
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.contents import KIND, PARTS
from bayesgap.evaluation.doubts import Doubt
from bayesgap.evaluation.measure import Outcome
from bayesgap.evaluation.record import (
    NO_CERTIFICATE,
    Certified,
    Evaluation,
    Facts,
    Passes,
    measured,
)
from bayesgap.norms import L2, Norm


def load_evaluation(path: str | Path) -> Evaluation:
    """Read what `Evaluation.save` wrote; a stranger's file is only ever read as numbers and text.

    Args:
        path: The file to read.

    Raises:
        BayesgapError: the file is missing, damaged or holds something else.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> optimum = task.bayes_classifier()
        >>> report = bayesgap.evaluate(optimum, task, attacks="ld-grad-tight", per_class=12)
        >>> report.save("report.safetensors")
        >>> bayesgap.load_evaluation("report.safetensors") == report
        True
    """
    tensors, metadata = files.load_tensors(path, kind=KIND)
    try:
        norm = _norm(files.typed(metadata["norm"], "norm", str))
        outcomes = {
            name: Outcome(
                **{part: tensors[f"attack.{place}.{part}"] for part in PARTS},
                norm=norm,
            )
            for place, name in enumerate(files.listed(metadata, "attacks", str))
        }
        certified = None
        if metadata["certified"]:
            parts = {each.name: tensors[f"optimum.{each.name}"] for each in fields(Certified)}
            certified = Certified(**parts)
        return measured(
            tensors["x"],
            tensors["y"],
            tensors["weights"],
            outcomes,
            certified,
            [Doubt(**doubt) for doubt in metadata["doubts"]],
            {name: Passes(*numbers) for name, numbers in metadata["passes"].items()},
            Facts(**metadata["facts"]),
            metadata["no_gap"] or NO_CERTIFICATE,
        )
    except KeyError as error:
        raise BayesgapError(f"{path} is damaged: it lacks {error}.") from error
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise BayesgapError(f"{path} is damaged: {error}.") from error


def _norm(name: str) -> Norm:
    """The norm of that name; of one that is not known here the name alone, for sizes are kept."""

    def unknown(rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        raise BayesgapError(f"How {name} measures is not kept in the file: give the norm itself.")

    return L2 if name == L2.name else Norm(name, unknown)
