"""Hashes of what a result rests on: a task, points of it, and settings."""

import hashlib
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from bayesgap import files
from bayesgap.tasks.task import Task


def task_digest(task: Task) -> str:
    """SHA-256, in hexadecimal, of all that defines a task.

    Args:
        task: The task, of mixtures of factor analyzers.

    Raises:
        BayesgapError: a density is no mixture of factor analyzers.
    """
    tensors, about = task.to_tensors()
    found = hashlib.sha256(files.dump(about).encode())
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def points_digest(x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]) -> str:
    """SHA-256, in hexadecimal, of images as float64 and their labels.

    Args:
        x: The images.
        y: The label of each.
    """
    images, labels = x.double().contiguous(), y.long().contiguous()
    return hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of settings, whatever their order.

    Args:
        settings: JSON values by name.
    """
    return hashlib.sha256(files.dump(dict(settings)).encode()).hexdigest()
