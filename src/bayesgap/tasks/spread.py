"""Where a task's outliers may be put: what its real images say of one direction."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from bayesgap.errors import BayesgapError


@dataclass(frozen=True)
class Spread:
    """Where an outlier may be put: the data's mean and one principal direction of small variance.

    Attributes:
        mean: The mean of all classes' real images, (d,), in pixel units.
        direction: A unit eigenvector of these images' covariance, (d,).
        deviation: The standard deviation of these images along `direction`, in pixel units.
    """

    mean: Float[Tensor, " d"]
    direction: Float[Tensor, " d"]
    deviation: float

    def check(self, dimension: int) -> None:
        """Refuse a spread that is not of images with so many values, or not finite."""
        if not self.mean.shape == self.direction.shape == (dimension,):
            raise BayesgapError(f"The spread of a task over {dimension} values has other shapes.")
        known = self.mean.isfinite().all() and self.direction.isfinite().all()
        if not (known and 0 <= self.deviation < math.inf):
            raise BayesgapError(
                "The spread of a task must be finite and its deviation not negative; the "
                f"deviation is {self.deviation}."
            )
