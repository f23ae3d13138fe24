"""Whatever anyone's classifier returns, read as logits.

Readings are exact: decisions stay what they were, and gradients go through wherever what is
returned comes from torch. What cannot be read for certain is refused with what to say instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayesgap.classifiers.module import as_two, called
from bayesgap.errors import BayesgapError
from bayesgap.tasks.checks import strange

OUTPUTS = ("logits", "probabilities", "one-logit", "one-probability", "labels")
ONE_VALUE = ("one-logit", "one-probability")
SLACK = 1e-3  # by which rounded probabilities may leave [0, 1], or sums of them 1


@dataclass(frozen=True)
class Reading:
    """How what a classifier returns is to be read.

    Attributes:
        classes: The number of classes.
        outputs: One of `OUTPUTS`.
        take: The index, key or attribute of what returns several things.
        labels: What the classes are called, in their order, where "labels" are no numbers.
    """

    classes: int
    outputs: str = "logits"
    take: int | str | None = None
    labels: tuple[Any, ...] | None = None


class Adapted(nn.Module):
    """A module whose output is read as logits.

    Attributes:
        inner: What is called with the images.
        reading: How its output is read.
        adapted_kind: What messages call it.
        detached: Whether it is given images without a gradient, since it takes no others.
    """

    def __init__(self, inner: nn.Module, reading: Reading, *, kind: str):
        """Hold the module.

        Args:
            inner: What is called with the images.
            reading: How its output is read.
            kind: What messages call it.
        """
        super().__init__()
        self.inner = inner
        self.reading = reading
        self.adapted_kind = kind
        self.detached = False

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """Logits.

        Args:
            x: The images.

        Raises:
            BayesgapError: what is inside fails, or returns something else than was said.
        """
        try:
            given = x.detach() if self.detached else x
            return read(called(self.inner, given, kind=self.adapted_kind), x, self.reading)
        except UnreadableError as error:
            raise UnreadableError(f"This {self.adapted_kind} {error}") from error


class UnreadableError(BayesgapError):
    """What a classifier returned is not what was said of it; the message lacks its subject."""


def read(out: Any, x: Float[Tensor, "n C H W"], reading: Reading) -> Float[Tensor, "n classes"]:
    """Logits from what a classifier returned.

    Args:
        out: What it returned.
        x: The images that it was called with.
        reading: How to read it.

    Raises:
        UnreadableError: it is something else.
    """
    out = _taken(out, reading.take)
    if reading.outputs == "labels":
        return _one_hot(out, x, reading)
    values = _rows(_as_tensor(out, x), len(x), reading)
    if reading.outputs in ("probabilities", "one-probability"):
        outside = (values < -SLACK) | (values > 1 + SLACK)
        if outside.any():
            raise UnreadableError(
                f'gives {values[outside][0].item():g} for a probability: outputs="logits" or '
                '"one-logit" may be meant.'
            )
    if reading.outputs == "probabilities":
        return log(values)
    if reading.outputs == "one-probability":
        values = log(values) - log(1 - values)
    return as_two(values) if reading.outputs in ONE_VALUE else values


def log(probabilities: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Their logarithm, with a gradient that is finite, and 0 where they are next to 0.

    Args:
        probabilities: The probabilities.
    """
    # 1 / p leaves a fifth of the exponents to what the gradient is multiplied by.
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny ** 0.8).log()


def _taken(out: Any, take: int | str | None) -> Any:
    """The part that was asked for.

    Raises:
        UnreadableError: there are several and none was, or none such.
    """
    parts = _parts(out)
    if take is None and parts is None:
        return out
    if parts is None:
        raise UnreadableError(f"returns a {type(out).__name__} alone: leave take={take!r} out.")
    # Not by `in`: an index of True is none.
    found = [part for name, part in parts.items() if name == take and type(name) is type(take)]
    if not found and isinstance(take, str) and hasattr(out, take):
        found = [getattr(out, take)]
    if not found and (out is None or isinstance(out, str | bytes) or callable(out)):
        what = "None" if out is None else f"a {type(out).__name__}"
        more = ": give that instead, if it is the classifier" if callable(out) else ""
        raise UnreadableError(f"returns {what}, which is no output of a classifier{more}.")
    if not found:
        known = ", ".join(f"{name!r} ({_described(part)})" for name, part in parts.items())
        asked = "" if take is None else f" and not {take!r}"
        raise UnreadableError(
            f"returns a {type(out).__name__} of {known or 'nothing'}{asked}: say which of them "
            "by take=…"
        )
    return found[0]


def _parts(out: Any) -> dict[int | str, Any] | None:
    """What is in a structure, by what `take` calls it; None of what is itself a table."""
    if isinstance(out, Mapping):
        return dict(out)
    if isinstance(out, tuple) or (
        isinstance(out, list) and any(isinstance(part, Tensor) for part in out)
    ):
        return dict(enumerate(out))
    if isinstance(out, Tensor | list | int | float) or hasattr(out, "__array__"):
        return None
    return {name: part for name, part in getattr(out, "__dict__", {}).items() if name[0] != "_"}


def _described(part: Any) -> str:
    shape = f" {tuple(part.shape)}" if isinstance(part, Tensor | np.ndarray) else ""
    return type(part).__name__ + shape


def _as_tensor(out: Any, x: Tensor) -> Tensor:
    """The numbers as a floating tensor; they have no gradient where they come from elsewhere."""
    if not isinstance(out, Tensor):
        try:
            if np.iscomplexobj(out):
                raise TypeError("complex numbers")
            out = torch.as_tensor(np.asarray(out, dtype=np.float64)).to(x)
        except (TypeError, ValueError) as error:
            raise UnreadableError(
                f"returns a {type(out).__name__} that is no table of real numbers."
            ) from error
    if kind := strange(out):
        raise UnreadableError(f"returns {kind}, and not a dense one of real numbers.")
    table: Tensor = out if torch.is_floating_point(out) else out.to(x.dtype)
    return table


def _rows(values: Tensor, n: int, reading: Reading) -> Float[Tensor, "n k"]:
    """As a table of one row an image, of as many columns as were said.

    Raises:
        UnreadableError: there is another number of them.
    """
    columns = 1 if reading.outputs in ONE_VALUE else reading.classes
    shape = tuple(values.shape)
    trailing = shape[2:]
    if trailing and all(size == 1 for size in trailing):
        values = values.reshape(shape[:2])
    if tuple(values.shape) in ((n,), ()) and values.numel() == n and columns == 1:
        return values.reshape(n, 1)
    if n == 1 and columns > 1 and tuple(values.shape) == (columns,):  # squeezed
        return values[None]
    if tuple(values.shape) == (n, columns):
        return values
    raise UnreadableError(_misshapen(tuple(values.shape), n, reading, columns))


def _misshapen(shape: tuple[int, ...], n: int, reading: Reading, columns: int) -> str:
    if columns == 1:
        return f"turns {n} images into {shape}, not one value an image as {reading.outputs!r} says."
    if shape in ((n,), (n, 1)):
        two = (
            'outputs="one-logit" (positive for class 1), "one-probability" (of class 1) or '
            if reading.classes == 2
            else "outputs="
        )
        return (
            f"gives one value for each of {reading.classes} classes' images, {shape}: say "
            f'{two}"labels".'
        )
    if len(shape) == 2 and shape[0] == n:
        return (
            f"gives {shape[1]} values an image, and there are {reading.classes} classes: give a "
            "function of it that picks the columns of these classes, in their order."
        )
    return (
        f"turns {n} images into {shape}, not ({n}, {reading.classes}): give a function of it that "
        "returns one row of logits an image."
    )


def _one_hot(out: Any, x: Tensor, reading: Reading) -> Tensor:
    """1 for the class that is named and 0 for the others.

    Raises:
        UnreadableError: not one label an image, or one that is no class.
    """
    named = out.detach().cpu().numpy() if isinstance(out, Tensor) else np.asarray(out)
    if named.size != len(x):
        raise UnreadableError(f"turns {len(x)} images into {named.shape}, not one label an image.")
    known = range(reading.classes) if reading.labels is None else reading.labels
    places = {label: place for place, label in enumerate(known)}
    strange = [label for label in named.flatten().tolist() if label not in places]
    if strange:
        raise UnreadableError(
            f"gives the label {strange[0]!r}, which is none of {', '.join(map(repr, known))}: say "
            "labels=[…], what it calls the classes in their order."
        )
    indices = torch.tensor([places[label] for label in named.flatten().tolist()])
    return nn.functional.one_hot(indices, reading.classes).to(x)
