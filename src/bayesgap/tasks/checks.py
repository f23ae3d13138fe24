"""What tensors must be before anything is computed with them."""

import torch
from torch import Tensor

from bayesgap.errors import BayesgapError


def strange(given: Tensor) -> str | None:
    """What a tensor is that does not hold one real number for each entry; None of all others.

    Args:
        given: The tensor.
    """
    if given.is_meta:
        return "a tensor on the device meta, which holds no numbers"
    if given.layout != torch.strided:
        return f"a {given.layout} tensor"
    return f"a {given.dtype} tensor" if given.is_complex() else None


def check_dense(given: Tensor, what: str) -> None:
    """Refuse a tensor that does not hold one real number for each entry.

    Args:
        given: The tensor.
        what: What it holds, for the refusal, such as "Images".

    Raises:
        BayesgapError: it is sparse, complex, or lies on the device meta.
    """
    if kind := strange(given):
        raise BayesgapError(f"{what} must be a dense tensor of real numbers; got {kind}.")


def check_floating(x: Tensor) -> None:
    """Refuse images that are no dense tensor of floating-point values.

    Args:
        x: The images.

    Raises:
        BayesgapError: they are something else.
    """
    if not isinstance(x, Tensor) or not torch.is_floating_point(x):
        kind = x.dtype if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise BayesgapError(f"Images must be a floating-point torch tensor; got {kind}.")
    check_dense(x, "Images")


def check_integers(y: Tensor, n: int, *, classes: int) -> None:
    """Refuse labels that are not one integer for each of n images; of two classes, truths are.

    Args:
        y: The labels.
        n: The number of images.
        classes: The number of classes.

    Raises:
        BayesgapError: they are something else.
    """
    if not isinstance(y, Tensor):
        raise BayesgapError(f"Labels must be a torch tensor; got a {type(y).__name__}.")
    check_dense(y, "Labels")
    if y.shape != (n,) or y.is_floating_point() or (y.dtype == torch.bool and classes > 2):
        raise BayesgapError(
            f"{n} images need {n} integer labels; got {y.dtype} of shape {tuple(y.shape)}."
        )
