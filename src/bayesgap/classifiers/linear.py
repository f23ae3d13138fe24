"""Classifiers that are linear, and the recognition of those that are so for certain."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayesgap.classifiers.adapted import Adapted
from bayesgap.classifiers.svm import LinearSVM


class Affine(nn.Module):
    """Logits W x + b of flattened images; float64.

    Attributes:
        weight: W, of shape (classes, d).
        bias: b, of shape (classes,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Float[Tensor, "classes d"], bias: Float[Tensor, " classes"]):
        """Hold the function.

        Args:
            weight: W, one row a class.
            bias: b of each class.
        """
        super().__init__()
        self.register_buffer("weight", weight.to(torch.float64, copy=True))
        self.register_buffer("bias", bias.to(torch.float64, copy=True))

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """Logits.

        Args:
            x: The images, float64.
        """
        return nn.functional.linear(x.flatten(1), self.weight, self.bias)


class AffineStep(nn.Module):
    """A x + b of flattened images, as images (n, 1, 1, k); float64.

    Attributes:
        matrix: A, of shape (k, d), or its diagonal, of shape (d,).
        offset: b, of shape (k,).
    """

    matrix: Tensor
    offset: Tensor

    def __init__(self, matrix: Float[Tensor, "..."], offset: Float[Tensor, " k"]):
        """Hold the step.

        Args:
            matrix: A, or its diagonal.
            offset: b.
        """
        super().__init__()
        self.register_buffer("matrix", matrix.double())
        self.register_buffer("offset", offset.double())

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n 1 1 k"]:
        """The images of the next step.

        Args:
            x: The images, float64.
        """
        rows = x.flatten(1)
        moved = rows * self.matrix if self.matrix.ndim == 1 else rows @ self.matrix.mT
        return (moved + self.offset)[:, None, None, :]

    def before(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The weight and bias of W (A x + b) + c, from W and c."""
        folded = weight * self.matrix if self.matrix.ndim == 1 else weight @ self.matrix
        return folded, bias + weight @ self.offset


def of_functions(
    weight: Float[Tensor, "f d"], bias: Float[Tensor, " f"]
) -> tuple[Float[Tensor, "classes d"], Float[Tensor, " classes"]]:
    """Weight and bias of each class's logit; of one function f for two classes, −f/2 and f/2.

    Args:
        weight: Weight of each function.
        bias: Bias of each function.
    """
    if len(bias) > 1:
        return weight, bias
    return torch.cat([-weight / 2, weight / 2]), torch.cat([-bias / 2, bias / 2])


def affine_of(
    classifier: nn.Module,
) -> tuple[Float[Tensor, "classes d"], Float[Tensor, " classes"]] | None:
    """W and b, float64, of a classifier in evaluation mode whose logits are W x + b for certain.

    Known are `Affine`, this package's `LinearSVM`, and an `nn.Sequential` of one `nn.Flatten`
    and `nn.Linear`, with `nn.Identity` or `nn.Dropout` between; also where `as_classifier` read
    its one logit as two.

    Args:
        classifier: Any classifier.

    Returns:
        Weight and bias of each class; None where the classifier is not known to be linear.
    """
    if _hooked(classifier):
        return None
    if isinstance(classifier, Adapted):
        reading = classifier.reading
        inner = _composed(classifier.inner) if reading.take is None else None
        if inner is None or reading.outputs not in ("logits", "one-logit"):
            return None
        return of_functions(*inner)
    if isinstance(classifier, Affine | LinearSVM):
        # A subclass may compute something else.
        own = type(classifier).forward in (Affine.forward, LinearSVM.forward)
        return of_functions(classifier.weight, classifier.bias) if own else None
    found = _composed(classifier)
    return found if found is not None and len(found[1]) > 1 else None


def _composed(network: nn.Module) -> tuple[Tensor, Tensor] | None:
    """The product of a flattening and linear layers, and of nothing else."""
    parts = _flat(network)
    if not parts or not _flattens(parts[0]):
        return None
    product: tuple[Tensor, Tensor] | None = None
    for part in parts[1:]:
        if type(part) in (nn.Identity, nn.Dropout) or _flattens(part):
            continue
        if type(part) is not nn.Linear:
            return None
        weight = part.weight.detach().double()
        bias = weight.new_zeros(len(weight)) if part.bias is None else part.bias.detach().double()
        if product is not None:
            weight, bias = weight @ product[0], weight @ product[1] + bias
        product = weight, bias
    return product


def _flat(network: nn.Module) -> list[nn.Module] | None:
    """The layers of nested `nn.Sequential`s in order; None where hooks may change what passes."""
    if _hooked(network):
        return None
    if type(network) is not nn.Sequential:
        return [network]
    layers: list[nn.Module] = []
    for part in network:
        inner = _flat(part)
        if inner is None:
            return None
        layers += inner
    return layers


def _flattens(layer: nn.Module) -> bool:
    return type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
