"""Reading evaluations again: a file holds measurements, and all numbers are computed anew."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
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

ROUNDING = 1e-6  # of an image's length and its size: sizes are of images as classifiers take them
RESERVE = 1e-9  # share by which a lower bound may lie above its upper one


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
        facts = _facts(metadata["facts"])
        x, y, weights = (tensors[name] for name in ("x", "y", "weights"))
        _check_points(x, y, weights, len(facts.class_names))
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
            _check_certified(certified, x, len(facts.class_names))
        for name, outcome in outcomes.items():
            _check_outcome(name, outcome, x, len(facts.class_names))
        doubts = [_doubt(each) for each in files.listed(metadata, "doubts", dict)]
        passes = _passes(files.typed(metadata["passes"], "passes", dict), [*outcomes])
        no_gap = files.typed(metadata["no_gap"] or NO_CERTIFICATE, "no_gap", str)
        return measured(x, y, weights, outcomes, certified, doubts, passes, facts, no_gap)
    except KeyError as error:
        raise BayesgapError(f"{path} is damaged: it lacks {error}.") from error
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise BayesgapError(f"{path} is damaged: {error}.") from error


def _norm(name: str) -> Norm:
    """The norm of that name; of one that is not known here the name alone, for sizes are kept."""

    def unknown(rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        raise BayesgapError(f"How {name} measures is not kept in the file: give the norm itself.")

    return L2 if name == L2.name else Norm(name, unknown)


def _facts(given: Mapping[str, Any]) -> Facts:
    for name in ("classifier", "task", "points_sha256"):
        files.typed(given[name], name, str)
    for name in ("settings", "versions"):
        files.typed(given[name], name, dict)
    for name, kind in (("class_names", str), ("priors", float), ("components", int)):
        files.listed(given, name, kind)
    return Facts(**given)


def _doubt(given: Mapping[str, Any]) -> Doubt:
    for name in ("name", "finding", "remedy"):
        files.typed(given[name], name, str)
    files.typed(given["voids"], "voids", bool)
    return Doubt(**given)


def _passes(given: Mapping[str, Any], attacks: list[str]) -> dict[str, Passes]:
    if {*given} != {*attacks}:
        raise ValueError(f"its passes are of {[*given]} and its attacks are {attacks}")
    passes = {name: Passes(*map(float, numbers)) for name, numbers in given.items()}
    for name, numbers in passes.items():
        if not all(0 <= number < float("inf") for number in numbers):
            raise ValueError(f"its passes of {name} are {[*numbers]}")
    return passes


def _check_points(x: Tensor, y: Tensor, weights: Tensor, classes: int) -> None:
    if not len(x) or x.ndim != 4 or not (x.is_floating_point() and x.isfinite().all()):
        raise ValueError(f"its x are no images: {x.dtype} of shape {tuple(x.shape)}")
    _check_classes(y, "y", len(x), classes)
    if weights.shape != y.shape or not ((weights > 0) & (weights < torch.inf)).all():
        raise ValueError("its weights are not positive, one a point")


def _check_classes(given: Tensor, name: str, n: int, classes: int) -> None:
    whole = not (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool)
    if given.shape != (n,) or not whole or not ((given >= 0) & (given < classes)).all():
        raise ValueError(f"its {name} are not one of {classes} classes for each of {n} points")


def _check_sizes(sizes: Tensor, images: Tensor, x: Tensor, name: str, norm: Norm) -> None:
    """Are they sizes, and of these images?"""
    if sizes.shape != (len(x),) or not (sizes.is_floating_point() and (sizes >= 0).all()):
        raise ValueError(f"its {name} are not 0 or more, one a point")
    if images.shape != x.shape or not (images.is_floating_point() and images.isfinite().all()):
        raise ValueError(f"its images beside {name} are none")
    if norm == L2:
        found = L2.size(images.double() - x.double())
        slack = ROUNDING * (L2.size(x) + found)
        if (sizes.isfinite() & ((sizes - found).abs() > slack)).any():
            raise ValueError(f"its {name} are not the distances of its images from its points")


def _check_outcome(name: str, outcome: Outcome, x: Tensor, classes: int) -> None:
    _check_classes(outcome.before, f"decisions before {name}", len(x), classes)
    _check_classes(outcome.after, f"decisions after {name}", len(x), classes)
    _check_sizes(outcome.sizes, outcome.images, x, f"sizes of {name}", outcome.norm)


def _check_certified(certified: Certified, x: Tensor, classes: int) -> None:
    _check_sizes(certified.upper, certified.images, x, "upper bounds", L2)
    lower, upper = certified.lower, certified.upper
    if lower.shape != upper.shape or not ((lower >= 0) & (lower <= (1 + RESERVE) * upper)).all():
        raise ValueError("its lower bounds do not lie between 0 and its upper bounds")
    if certified.correct.shape != (len(x),) or certified.correct.dtype != torch.bool:
        raise ValueError("it does not say of each point whether the optimum decides it correctly")
    _check_classes(certified.target_class, "target classes", len(x), classes)
    for part in (certified.source, certified.target):
        if part.shape != (len(x),) or part.is_floating_point() or not (part >= -1).all():
            raise ValueError("its components are no numbers of components")
