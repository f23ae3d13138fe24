"""Learned classifiers as tensors and JSON, so that storing one never stores code."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bayesgap.classifiers.allconv import AllConvolutional
from bayesgap.classifiers.nearest import NearestNeighbour
from bayesgap.classifiers.svm import RBFSVM, LinearSVM
from bayesgap.errors import BayesgapError


def to_tensors(classifier: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that defines a classifier of this package, as named tensors and JSON metadata.

    Args:
        classifier: A CNN, a support vector machine or a nearest neighbour.

    Raises:
        BayesgapError: a classifier of another kind.
    """
    if isinstance(classifier, AllConvolutional):
        shape, classes, width = classifier.image_shape, classifier.classes, classifier.width
        settings = {"image_shape": list(shape), "classes": classes, "width": width}
        settings["scales"] = classifier.scales
        return dict(classifier.state_dict()), {"kind": "cnn", **settings}
    if isinstance(classifier, LinearSVM):
        return dict(classifier.state_dict()), {"kind": "linear-svm"}
    if isinstance(classifier, RBFSVM):
        return dict(classifier.state_dict()), {"kind": "rbf-svm", "gamma": classifier.gamma}
    if isinstance(classifier, NearestNeighbour):
        return dict(classifier.state_dict()), {"kind": "nearest-neighbour"}
    raise BayesgapError(f"A {type(classifier).__name__} cannot be stored.")


def from_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> nn.Module:
    """What `to_tensors` gave, as a classifier again, in evaluation mode.

    Args:
        tensors: The named tensors that `to_tensors` gave.
        metadata: The metadata that it gave with them.

    Raises:
        BayesgapError: metadata of no known kind, or something is missing or does not fit.
    """
    try:
        return _rebuilt(tensors, metadata)
    except KeyError as error:
        raise BayesgapError(f"The stored classifier lacks {error}.") from error
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BayesgapError(f"The stored classifier is damaged: {reason}") from error


def _rebuilt(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> nn.Module:
    kind = metadata.get("kind")
    if kind == "cnn":
        network = AllConvolutional(
            metadata["image_shape"],
            metadata["classes"],
            metadata["width"],
            generator=torch.Generator(),
            scales=metadata.get("scales"),  # files of the first releases lack it
        )
        network.load_state_dict(dict(tensors))
        return network.eval().requires_grad_(False)
    if kind == "linear-svm":
        return LinearSVM(tensors["weight"], tensors["bias"]).eval()
    if kind == "rbf-svm":
        support, coefficients, bias = (
            tensors[name] for name in ("support", "coefficients", "bias")
        )
        return RBFSVM(support, coefficients, bias, metadata["gamma"]).eval()
    if kind == "nearest-neighbour":
        return NearestNeighbour(tensors["images"], tensors["labels"]).eval()
    raise BayesgapError(
        f"There is no kind of classifier called {kind!r} here; a Kind of another takes a `load`."
    )
