"""What values images have, and whether the precision of a fit can hold them at its noise floor.

Squared distances over the noise cancel to a few nats a value, so that rounding grows with the
square of the images' range over the noise. Images in [0, 1] at the default floor are what single
precision was chosen for; of images in another unit the same floor can be too low for it, or above
all that the images say. What can be told beforehand is refused or warned of here; what rounding
did to a fit is measured afterwards, by the log-likelihood of its density in double precision.
"""

import copy
import dataclasses
import warnings
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bayesgap.densities.fitting import (
    CHUNK,
    QUANTISATION_VARIANCE,
    Parameters,
    exact_chunks,
    unit_values,
)
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError

WIDE = 16.0  # largest range of a pixel that the default floor, for images in [0, 1], is taken for
LARGEST_RATIO = 2.0**53  # of a squared range to the floor: the digits of double precision
FAR = 8.0  # offsets of so many ranges are taken off before images are rounded
LEAST_ROUNDING = 0.1  # nats an image that rounding may change a log-likelihood by, …
ROUNDING = 1e-3  # … or so many nats a pixel value, if that is more


class Range(NamedTuple):
    """The smallest and the largest value of each pixel, in float64 on the CPU."""

    lowest: Float[Tensor, " d"]
    highest: Float[Tensor, " d"]

    @property
    def widest(self) -> float:
        """The largest difference between two images at one pixel."""
        return (self.highest - self.lowest).max().item()

    def __str__(self) -> str:
        return f"from {self.lowest.min().item():.4g} to {self.highest.max().item():.4g}"


class Prepared(NamedTuple):
    """Images as a fit takes them.

    Attributes:
        given: The images as they were given, flattened.
        images: The same less the offset.
        offset: What was taken off each pixel; None for nothing.
        found: The range of what was given.
    """

    given: Tensor
    images: Tensor
    offset: Float[Tensor, " d"] | None
    found: Range

    def fitted(
        self, parameters: Parameters, device: str | torch.device
    ) -> tuple[MixtureOfFactorAnalyzers, float]:
        """The density of the given images, and their mean log-likelihood under it.

        Args:
            parameters: What was fitted to `images`.
            device: Where the images are scored.
        """
        if self.offset is not None:
            means = parameters.means.cpu() + self.offset
            parameters = dataclasses.replace(parameters, means=means)
        density = parameters.density()
        return density, mean_log_prob(density, self.given, device)


def prepare(
    x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"], noise_floor: float, dtype: torch.dtype
) -> Prepared:
    """Check the range of images and take off what dwarfs their differences.

    Args:
        x: The images, flattened.
        noise_floor: The smallest noise variance.
        dtype: The dtype of products with the images.

    Raises:
        BayesgapError: what `check_range` refuses.
    """
    found = check_range(x, noise_floor, dtype)
    return Prepared(x, *without_offset(x, found), found)


def range_of(x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"]) -> Range:
    """The range of each pixel.

    Args:
        x: The images, flattened; those of torch.uint8 are levels, 255ths.
    """
    chunks = torch.split(x, CHUNK)
    lowest = torch.stack([chunk.amin(dim=0) for chunk in chunks]).amin(dim=0)
    highest = torch.stack([chunk.amax(dim=0) for chunk in chunks]).amax(dim=0)
    return Range(*(unit_values(values).double().cpu() for values in (lowest, highest)))


def check_range(
    x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"], noise_floor: float, dtype: torch.dtype
) -> Range:
    """Refuse values that the products of a fit cannot hold, and doubt a floor of another unit.

    Args:
        x: The images, flattened.
        noise_floor: The smallest noise variance.
        dtype: The dtype of products with the images.

    Returns:
        The range of each pixel.

    Raises:
        BayesgapError: squares of the values overflow, the floor underflows, or there are not as
            many digits between them.
    """
    found = range_of(x)
    limits, square = torch.finfo(dtype), found.widest * found.widest  # inf where ** would raise
    held = square * x.numel() < limits.max and noise_floor > limits.tiny
    if not held or square > LARGEST_RATIO * noise_floor:
        raise BayesgapError(
            f"Images {found} at a noise floor of {noise_floor:.3g} are beyond the digits of "
            f"{dtype}: the square of their range is {square / noise_floor:.2g} times the "
            "floor. Scale them to [0, 1], or give a noise_floor in their squared unit."
        )
    if found.widest > WIDE and noise_floor == QUANTISATION_VARIANCE:
        warnings.warn(
            f"These images reach {found}, and the noise floor is that of 8-bit images in [0, 1] "
            f"({noise_floor:.3g}): divide them by their largest value (levels by 255), or give a "
            "noise_floor in their squared unit.",
            UserWarning,
            stacklevel=4,  # of who called the fit that called `prepare`
        )
    if square <= noise_floor:
        warnings.warn(
            f"No two of these images, which reach {found}, differ at any pixel by more than the "
            f"standard deviation of the noise floor ({noise_floor**0.5:.3g}), so that the density "
            "is the floor's: scale them to [0, 1], give a noise_floor in their squared unit, or "
            "give images that differ.",
            UserWarning,
            stacklevel=4,  # of who called the fit that called `prepare`
        )
    return found


def without_offset(
    x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"], found: Range
) -> tuple[Tensor, Float[Tensor, " d"] | None]:
    """The images less what is common to all at a pixel, where that dwarfs their differences.

    Rounding the images to single precision would lose the differences otherwise. The subtraction
    is exact: a value and the offset taken off it are within a factor of two. Images in [0, 1]
    stay what they are.

    Args:
        x: The images, flattened.
        found: Their range.

    Returns:
        Images of the same dtype, and the offset of each pixel, float64 on the CPU; None where
        nothing was taken off.
    """
    lowest, highest = found
    middle = ((lowest + highest) / 2).to(x.dtype).double() if x.is_floating_point() else lowest
    far = middle.abs() > FAR * (highest - lowest)
    if (lowest.min() >= 0 and highest.max() <= 1) or not far.any():
        return x, None
    offset = torch.where(far, middle, 0.0)
    return x - offset.to(x), offset


@torch.no_grad()
def mean_log_prob(
    density: MixtureOfFactorAnalyzers,
    x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"],
    device: str | torch.device,
) -> float:
    """The mean log-likelihood of images in nats, in double precision, some at a time.

    Args:
        density: The density that is scored.
        x: The images, flattened.
        device: Where the products run; on the CPU where the device has no double precision.
    """
    place = "cpu" if torch.device(device).type == "mps" else device
    scorer = copy.deepcopy(density).to(place)
    total = sum(scorer.log_prob(chunk.to(place)).sum().item() for chunk in exact_chunks(x))
    return total / len(x)


def allowed_rounding(log_likelihood: float, dimension: int, tolerance: float) -> float:
    """By how many nats a log-likelihood may be off, or fall, and its fit have converged.

    Args:
        log_likelihood: Mean log-likelihood in nats per image.
        dimension: d, the number of values of an image.
        tolerance: The relative improvement below which the fit stops.
    """
    return max(tolerance * abs(log_likelihood), ROUNDING * dimension, LEAST_ROUNDING)


def remedies(found: Range, noise_floor: float, dtype: torch.dtype) -> str:
    """The end of a sentence about a fit that rounding spoils: what to do.

    Args:
        found: The range of the images.
        noise_floor: The smallest noise variance.
        dtype: The dtype of products with the images.
    """
    finer = "" if dtype == torch.float64 else "fit in torch.float64, "
    return (
        f"images {found} leave {dtype} too few digits at a noise floor of {noise_floor:.3g}: "
        f"{finer}divide images of levels by 255, or raise noise_floor."
    )
