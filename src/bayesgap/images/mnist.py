"""MNIST, all 70,000 digits of it, as it travels with the package."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap.errors import BayesgapError

IMAGE_SHAPE = (1, 28, 28)


def load_mnist(
    digits: Sequence[int] = tuple(range(10)), *, split: Literal["train", "test"] = "train"
) -> tuple[Float[Tensor, "n 1 28 28"], Int[Tensor, " n"]]:
    """The images of some digits, in [0, 1] and in the order of the original files.

    Args:
        digits: The digits to take; their order gives the labels, so (4, 5) labels fours 0 and
            fives 1.
        split: Whether to take them from the 60,000 training images or the 10,000 test images.

    Returns:
        float32 images, and the int64 label of each.

    Raises:
        BayesgapError: something that is no digit, a digit twice, or no such split.

    Example:
        >>> x, y = bayesgap.load_mnist([0, 6], split="test")
        >>> x.shape, y.bincount().tolist()
        (torch.Size([1938, 1, 28, 28]), [980, 958])
    """
    if isinstance(digits, int):
        raise BayesgapError(f"Digits are given as a list; for one digit, [{digits}].")
    if not digits or len(set(digits)) < len(digits) or not set(digits) <= set(range(10)):
        raise BayesgapError(f"Digits must be different numbers from 0 to 9; got {list(digits)}.")
    if split not in ("train", "test"):
        raise BayesgapError(f"MNIST has the splits 'train' and 'test', not {split!r}.")
    images, labels = _arrays(split)
    classes = np.full(10, -1)
    classes[list(digits)] = np.arange(len(digits))
    label = classes[labels]
    chosen = label >= 0
    x = torch.from_numpy(images[chosen]).float().div_(255).unsqueeze(1)
    return x, torch.from_numpy(label[chosen])


@cache
def mnist_checksum() -> str:
    """The SHA-256 of the file of all digits, in hexadecimal."""
    source = resources.files("bayesgap.images") / "data" / "mnist.npz"
    return hashlib.sha256(source.read_bytes()).hexdigest()


@cache
def _arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    source = resources.files("bayesgap.images") / "data" / "mnist.npz"
    with resources.as_file(source) as path, np.load(path, allow_pickle=False) as arrays:
        return arrays[f"x_{split}"], arrays[f"y_{split}"]
