"""What every classifier is to this package: a `torch.nn.Module` from images to logits.

Whoever calls one casts images to the dtype and device where the classifier's tensors lie, and
takes them in chunks; these are the only places that do so.
"""

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.errors import BayesgapError

CHUNK = 256  # images at a time


def placed(classifier: nn.Module, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n *image"]:
    """The images in the classifier's dtype, on its device."""
    for tensor in itertools.chain(classifier.parameters(), classifier.buffers()):
        if torch.is_floating_point(tensor):
            return x.to(tensor)
    return x.float()


def outputs(classifier: nn.Module, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n classes"]:
    """What the classifier says of each image, finite or not, without gradients, on the CPU.

    Raises:
        BayesgapError: the classifier's output is not one row of logits an image.
    """
    rows = []
    for chunk in x.split(CHUNK):
        with torch.no_grad():
            out = classifier(placed(classifier, chunk)).cpu()
        if out.ndim != 2 or len(out) != len(chunk) or out.shape[1] < 2:
            raise BayesgapError(
                f"A classifier must turn images (n, C, H, W) into logits (n, classes); this "
                f"{type(classifier).__name__} turned {tuple(chunk.shape)} into {tuple(out.shape)}."
            )
        rows.append(out)
    return torch.cat(rows)


def logits(classifier: nn.Module, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n classes"]:
    """The classifier's logits, without gradients, on the CPU.

    Raises:
        BayesgapError: the classifier's output is not one row of finite logits an image.
    """
    out = outputs(classifier, x)
    if not torch.isfinite(out).all():
        raise BayesgapError(
            f"This {type(classifier).__name__} gave NaN or infinite logits for "
            f"{int((~torch.isfinite(out)).any(dim=1).sum())} of {len(x)} images."
        )
    return out


def decisions(classifier: nn.Module, x: Float[Tensor, "n *image"]) -> Int[Tensor, " n"]:
    """The class that each image is put in: the first of the largest logits; on the CPU."""
    return logits(classifier, x).argmax(dim=1)


def margin(logit: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The logit of y less the largest other one: negative where the decision is not y."""
    own = torch.nn.functional.one_hot(y, logit.shape[1]).bool()
    return logit[own] - logit.masked_fill(own, -torch.inf).amax(dim=1)
