"""What a user of the command line gives by name: a classifier of their own, points in a file."""

import inspect
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.errors import BayesgapError
from bayesgap.foreign import named_object, what_stopped
from bayesgap.tasks.task import Task

ARRAYS = ("x", "y")  # of a file of points: images and labels
# What reading a file raises that is no .npz of plain numbers.
DAMAGE = (
    *(OSError, EOFError, KeyError, ValueError, MemoryError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


def given_classifier(
    name: str, task: Task, *, outputs: str | None = None, take: str | None = None
) -> object:
    """The classifier "module:name", or what makes it, with outputs of the kind that is said.

    Args:
        name: Module and name, a colon between them.
        task: The task that it is for.
        outputs: What `bayesgap.as_classifier` is told of its outputs; None to tell nothing.
        take: Which of several things that it returns: an index where it is an integer, else a key
            or an attribute; None to tell nothing.

    Raises:
        BayesgapError: it cannot be imported or made, or is no classifier.
    """
    found = named_classifier(name)
    if outputs is None and take is None:
        return found
    from bayesgap.classifiers.adapt import as_classifier

    return as_classifier(
        found,
        image_shape=task.image_shape,
        classes=task.classes,
        outputs=outputs or "logits",
        take=int(take) if take and re.fullmatch(r"-?\d+", take) else take,
    )


def named_classifier(name: str) -> object:
    """The classifier that "module:name" says, or what makes it.

    A module of torch, an object and a function with one required argument are classifiers
    themselves; a class and a function without required arguments are called.

    Args:
        name: Module and name, a colon between them.

    Returns:
        What `bayesgap.as_classifier` takes, or refuses.

    Raises:
        BayesgapError: it cannot be imported or made, with the sentence of what stopped it.
    """
    found = named_object(name, "classifier")
    if isinstance(found, nn.Module) or not callable(found):
        return found
    needed = _required(found)
    if not isinstance(found, type) and len(needed) == 1:
        return found
    if needed:
        what = "class" if isinstance(found, type) else "function"
        raise BayesgapError(
            f"The {what} {name!r} needs {', '.join(needed)}: name a function without required "
            "arguments that makes the classifier, or a classifier."
        )
    with _their_code(name):
        return found()


def _required(given: object) -> list[str]:
    """The arguments that a call must give; of what does not tell, one."""
    try:
        parameters = inspect.signature(given).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ["images"]
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        each.name
        for each in parameters
        if each.default is inspect.Parameter.empty and each.kind not in several
    ]


@contextmanager
def _their_code(name: str) -> Iterator[None]:
    """Say in a sentence what stopped a user's own code, and where."""
    try:
        yield
    except BayesgapError:
        raise
    except (Exception, SystemExit) as error:
        raise BayesgapError(
            f"The classifier {name!r} stopped with {what_stopped(error)}."
        ) from error


def points_in(path: Path) -> tuple[Float[Tensor, "..."], Int[Tensor, "..."]]:
    """Images and labels of a .npz file, which is only ever read as numbers.

    Args:
        path: The file, with the arrays x, floats in the unit of the task's images, and y, integers.

    Returns:
        Images as float64 and labels as int64, of any shapes.

    Raises:
        BayesgapError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise BayesgapError(f"There is no file {path} of points.")
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            held = set(getattr(loaded, "files", ()))
            arrays = [loaded[name] for name in ARRAYS] if held.issuperset(ARRAYS) else []
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BayesgapError(f"{path} is no .npz file of numbers: {reason.rstrip('.')}.") from error
    if not arrays or not all(isinstance(array, np.ndarray) for array in arrays):
        names = ", ".join(sorted(held)) or "none"
        raise BayesgapError(
            f"{path} must hold the arrays x and y, as numpy.savez(path, x=x, y=y) writes them; it "
            f"holds {names}."
        )
    x, y = arrays
    if x.dtype.kind != "f":
        raise BayesgapError(
            f"The images x in {path} are {x.dtype}: give floats in the unit of the task's images, "
            "such as x / 255."
        )
    if y.dtype.kind not in "iu":
        raise BayesgapError(f"The labels y in {path} are {y.dtype}: give integers.")
    return torch.from_numpy(x.astype(np.float64)), torch.from_numpy(y.astype(np.int64))
