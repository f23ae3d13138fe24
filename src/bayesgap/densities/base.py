"""What a density is: a known p(x), which can be scored and sampled exactly.

A density of one's own needs the three members of `Density` and no base class. What rests on
log-densities and samples alone works with it: `Task`, its optimum, every attack, `evaluate`.
Certificates do not: they are proofs about mixtures of factor analyzers.
"""

from collections.abc import Callable
from numbers import Integral
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayesgap.errors import BayesgapError

MEMBERS = ("dimension", "log_prob", "sample")  # of the protocol
PRECISIONS = (torch.float32, torch.float64)  # log-densities of thousands of nats need


@runtime_checkable
class Density(Protocol):
    """The density p(x) of points x, vectors of d values; for images, of all their pixels in a row.

    A density may be a `torch.nn.Module`, of which the optimum holds a copy that moves with it to
    a device; it need not be. Both methods must be exact, and about the same p: a classifier is
    compared with an optimum that believes `log_prob`, at points that come from `sample`.

    Example:
        >>> import math
        >>> class Laplace:
        ...     "Independent pixels, each of density exp(-|x - mean| / scale) / (2 · scale)."
        ...
        ...     def __init__(self, mean, scale):
        ...         self.mean, self.scale = torch.as_tensor(mean, dtype=torch.float64), scale
        ...
        ...     @property
        ...     def dimension(self):
        ...         return len(self.mean)
        ...
        ...     def log_prob(self, x):
        ...         away = (x.to(self.mean) - self.mean).abs() / self.scale
        ...         return -(away + math.log(2 * self.scale)).sum(dim=1)
        ...
        ...     def sample(self, n, *, generator):
        ...         parts = torch.empty(2, n, self.dimension, dtype=torch.float64)
        ...         one, other = parts.exponential_(generator=generator)
        ...         return self.mean + self.scale * (one - other)
        >>> densities = [Laplace([0.0, 0.0], 0.1), Laplace([1.0, 0.0], 0.1)]
        >>> task = bayesgap.Task(densities, image_shape=(1, 1, 2))
        >>> x, y = task.sample(500, seed=0)
        >>> optimum = task.bayes_classifier()
        >>> (optimum(x).argmax(dim=1) == y).double().mean().item() > 0.98
        True
        >>> task.certifiable
        False
    """

    @property
    def dimension(self) -> int:
        """d, the number of values of a point: C · H · W for images (C, H, W)."""

    def log_prob(self, x: Float[Tensor, "n d"], /) -> Float[Tensor, " n"]:
        """log p(x) in nats, for each of n points; n may be 0.

        It must be normalised, or priors mean nothing, and finite at every finite point, or the
        optimum has no logits there: mix a density that vanishes somewhere with a broad one.
        Gradient attacks on the optimum need it to be differentiable in x.

        Args:
            x: The points, (n, d), of any floating-point type and from any device: float64 on the
                CPU where a task asks. What is computed in another type or elsewhere is cast here.
        """

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """Draw n independent points, (n, d).

        Args:
            n: The number of points, 0 or more; `check_count` refuses any other.
            generator: The only source of randomness, so that equal generators give equal points;
                it advances. Tasks give one that lives on the CPU.
        """


class PreciseModule(nn.Module):
    """A module that can be moved to float32 and float64 alone.

    Log-densities reach millions of nats and cancel: in half precision they are NaN, or wrong.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """What `.to`, `.float`, `.half` and the like call; refuses before anything is moved."""
        check_precision(fn(torch.empty(0, dtype=torch.float32)).dtype, type(self).__name__)
        moved: nn.Module = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved


def check_precision(dtype: torch.dtype, what: str) -> None:
    """Refuse a precision in which log-densities are not right.

    Args:
        dtype: The dtype that is asked for.
        what: What is to be in it, the name of a class.

    Raises:
        BayesgapError: neither float32 nor float64.
    """
    if dtype not in PRECISIONS:
        raise BayesgapError(
            f"A {what} computes in torch.float32 or torch.float64, not in {dtype}, in which its "
            "log-densities would be lost: leave it as it is, or call .float()."
        )


def check_density(density: object) -> None:
    """Refuse what lacks a member of the protocol.

    Args:
        density: Anything that is given as a density.

    Raises:
        BayesgapError: it lacks one; the sentence names all that it lacks.
    """
    missing = [name for name in MEMBERS if not hasattr(density, name)]
    if missing:
        hint = "; a fit's is its .density" if hasattr(density, "density") else ""
        raise BayesgapError(
            f"A density has {_listed(MEMBERS, 'and')} (bayesgap.densities.base.Density); got a "
            f"{type(density).__name__} without {_listed(missing, 'or')}{hint}."
        )


def check_count(n: int) -> None:
    """Refuse a number of samples that is no integer, or negative.

    Args:
        n: The number that was asked for.

    Raises:
        BayesgapError: it is no number of samples.
    """
    if not isinstance(n, Integral) or n < 0:
        raise BayesgapError(f"The number of samples must be an integer, 0 or more; got {n!r}.")


def _listed(names: tuple[str, ...] | list[str], word: str) -> str:
    """The names as a sentence has them: a, b and c."""
    *rest, last = names
    return f"{', '.join(rest)} {word} {last}" if rest else last
