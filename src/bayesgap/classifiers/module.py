"""What every classifier is to this package: a `torch.nn.Module` from images to logits.

Whoever calls one casts images to the dtype and device where the classifier's tensors lie, takes
them in chunks, and finds out whether it is a classifier at all; these are the only places that
do so.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.errors import BayesgapError

CHUNK = 256  # images at a time


def check_labels(y: Int[Tensor, " n"], classes: int) -> None:
    """Refuse to train with no images, or with labels that are no classes.

    Args:
        y: The labels of the images to train on.
        classes: The number of classes.

    Raises:
        BayesgapError: there are none, or one of them is no class.
    """
    if not len(y):
        raise BayesgapError("Training needs images; there are none.")
    wrong = y[(y < 0) | (y >= classes)]
    if len(wrong):
        raise BayesgapError(f"Labels must lie in 0 to {classes - 1}; got {wrong[0].item()}.")


def placed(classifier: nn.Module, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n *image"]:
    """The images in the classifier's dtype, on its device; in float32 where it has no tensors.

    Args:
        classifier: The classifier that is to see them.
        x: The images.
    """
    for tensor in itertools.chain(classifier.parameters(), classifier.buffers()):
        if torch.is_floating_point(tensor):
            return x.to(tensor)
    return x.float()


@contextmanager
def evaluating(classifier: nn.Module) -> Iterator[None]:
    """Put a classifier into evaluation mode with frozen parameters, and back as it was after.

    An attack differentiates by images alone: without this it would leave gradients behind on
    parameters that their owner goes on to train.

    Args:
        classifier: The classifier, changed within the block.

    Raises:
        BayesgapError: it is no module.
    """
    if not isinstance(classifier, nn.Module):
        raise BayesgapError(
            "A classifier is a torch.nn.Module from images to logits; this is a "
            f"{type(classifier).__name__}."
        )
    modes = [(module, module.training) for module in classifier.modules()]
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    classifier.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in trained:
            parameter.requires_grad_(True)


def outputs(classifier: nn.Module, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n classes"]:
    """What the classifier says of each image, finite or not, without gradients, on the CPU.

    Args:
        classifier: The classifier to ask.
        x: The images, of any float dtype and device.

    Raises:
        BayesgapError: the classifier cannot take the images, or its output is not one row of
            logits an image.
    """
    kind = type(classifier).__name__
    rows = []
    for chunk in x.split(CHUNK):
        shape = tuple(chunk.shape)
        try:
            with torch.no_grad():
                # A copy, for a forward may change its input in place.
                out = classifier(placed(classifier, chunk).clone())
        except (RuntimeError, ValueError) as error:  # what torch raises where shapes do not fit
            reason = str(error).partition("\n")[0]
            raise BayesgapError(f"This {kind} failed on images of {shape}: {reason}") from error
        given = tuple(out.shape) if isinstance(out, Tensor) else f"a {type(out).__name__}"
        if not (
            isinstance(out, Tensor)
            and out.ndim == 2
            and len(out) == len(chunk)
            and out.shape[1] >= 2
        ):
            raise BayesgapError(
                f"A classifier must turn images (n, C, H, W) into logits (n, classes); this {kind} "
                f"turned {shape} into {given}."
            )
        rows.append(out.cpu())
    return torch.cat(rows)


def logits(classifier: nn.Module, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n classes"]:
    """The classifier's logits, without gradients, on the CPU.

    Args:
        classifier: The classifier to ask.
        x: The images, of any float dtype and device.

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
    """The class that each image is put in: the first of the largest logits; on the CPU.

    Args:
        classifier: The classifier to ask.
        x: The images, of any float dtype and device.

    Raises:
        BayesgapError: the classifier's output is not one row of finite logits an image.
    """
    return logits(classifier, x).argmax(dim=1)


def margin(logit: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The logit of y less the largest other one: negative where the decision is not y.

    Args:
        logit: The logits of each image.
        y: The class whose margin is meant, for each image.
    """
    own = torch.nn.functional.one_hot(y, logit.shape[1]).bool()
    return logit[own] - logit.masked_fill(own, -torch.inf).amax(dim=1)
