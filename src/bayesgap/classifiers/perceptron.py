"""Multi-layer perceptrons of scikit-learn as torch modules, from their weights."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn

from bayesgap.classifiers.linear import Affine, of_functions

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "logistic": nn.Sigmoid}
IDENTITY = "identity"


def of_perceptron(last: MLPClassifier, order: Sequence[int]) -> nn.Module | None:
    """Its scores before the last sigmoid or softmax, in float64: of two classes (−f/2, f/2).

    The log-softmax of these is its `predict_log_proba`.

    Args:
        last: The fitted perceptron.
        order: For each class, its place in the perceptron's `classes_`.

    Returns:
        Layers one after the other, or an `Affine` where nothing lies between them; None of one
        with another kind of output or activation.
    """
    outputs = 1 if len(order) == 2 else len(order)
    kind = "logistic" if outputs == 1 else "softmax"
    if (last.n_outputs_, last.out_activation_) != (outputs, kind):
        return None
    weights = [torch.from_numpy(np.asarray(each, dtype=np.float64)).mT for each in last.coefs_]
    biases = [torch.from_numpy(np.asarray(each, dtype=np.float64)) for each in last.intercepts_]
    weight, bias = of_functions(weights[-1], biases[-1])
    weight, bias = weight[list(order)], bias[list(order)]
    inner = list(zip(weights[:-1], biases[:-1], strict=True))
    if not inner or last.activation == IDENTITY:
        for before, offset in reversed(inner):
            weight, bias = weight @ before, weight @ offset + bias
        return Affine(weight, bias)
    if last.activation not in ACTIVATIONS:
        return None
    layers: list[nn.Module] = [nn.Flatten()]
    for before, offset in inner:
        layers += [_layer(before, offset), ACTIVATIONS[last.activation]()]
    return nn.Sequential(*layers, _layer(weight, bias)).eval()


def _layer(weight: Float[Tensor, "k d"], bias: Float[Tensor, " k"]) -> nn.Linear:
    # A new layer's own weights would be drawn from the user's random numbers.
    layer: nn.Linear = nn.utils.skip_init(
        nn.Linear, weight.shape[1], len(weight), dtype=torch.float64
    )
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer.requires_grad_(False)
