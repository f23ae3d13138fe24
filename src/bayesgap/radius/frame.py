"""The components of a task as quadratics, in as few coordinates as describe them.

Where every noise is isotropic, nothing happens outside the span of all factors and of the
differences between means: an image is its coordinates in there and the length of what is left
of it. Searches then work in K(l + 1) dimensions instead of d. Proofs do not; they return to the
images themselves (see `proof`).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize, pad

from bayesgap.densities.mfa import MixtureOfFactorAnalyzers


class Frame(NamedTuple):
    """Quadratics a_k(z) = constants_k − ½ (z − m_k)ᵀ(diag(s_k) − W_kᵀW_k)(z − m_k), in nats.

    Attributes:
        basis: Orthonormal directions, in pixels, of all coordinates but the last, one a column;
            None where the coordinates are the pixels.
        centre: The pixel values at the origin of the coordinates.
        means: m of each component, in coordinates.
        precisions: s of each component, its inverse noise variances: one for each of the D
            coordinates, or one for all (S = 1) where noises are isotropic.
        loadings: W of each component, so that W_kᵀW_k is what factors take off the precision.
        constants: log prior + log pi + the logarithm of the Gaussian's normalisation, in nats.
    """

    basis: Float[Tensor, "d D-1"] | None
    centre: Float[Tensor, " d"]
    means: Float[Tensor, "K D"]
    precisions: Float[Tensor, "K S"]
    loadings: Float[Tensor, "K l D"]
    constants: Float[Tensor, " K"]

    def coordinates(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n D"]:
        """Where images lie.

        Args:
            x: The images, flattened.
        """
        centred = x - self.centre
        if self.basis is None:
            return centred
        inside = centred @ self.basis
        rest = (centred - inside @ self.basis.mT).norm(dim=1, keepdim=True)
        return torch.cat([inside, rest], dim=1)

    def displacements(
        self, x: Float[Tensor, "n d"], moves: Float[Tensor, "n D"]
    ) -> Float[Tensor, "n d"]:
        """What moves in coordinates are in pixels.

        Args:
            x: The images, flattened, that are moved.
            moves: A move for each image; its last coordinate is along what the basis leaves over.
        """
        if self.basis is None:
            return moves
        centred = x - self.centre
        rest = centred - centred @ self.basis @ self.basis.mT
        length = rest.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        pixels: Float[Tensor, "n d"]
        pixels = moves[:, :-1] @ self.basis.mT + moves[:, -1:] / length * rest
        return pixels

    def values(self, z: Float[Tensor, "n D"]) -> Float[Tensor, "n K"]:
        """a_k(z) of every component, in nats.

        Args:
            z: Points in coordinates.
        """
        components, latent, dimension = self.loadings.shape
        s, m = self.precisions.expand(-1, dimension), self.means
        shifts = (self.loadings @ m[:, :, None]).flatten()
        projected = z @ self.loadings.flatten(0, 1).mT - shifts
        explained = projected.reshape(len(z), components, latent).square().sum(dim=2)
        spread = z.square() @ s.mT - 2 * z @ (s * m).mT + (s * m.square()).sum(dim=1)
        return self.constants + 0.5 * (explained - spread)

    def inverses(self) -> Float[Tensor, "K D D"]:
        """Σ_k⁻¹ of every component, for few coordinates."""
        diagonals = torch.diag_embed(self.precisions.expand(-1, self.means.shape[1]))
        return diagonals - self.loadings.mT @ self.loadings

    def slopes(self, z: Float[Tensor, "n D"], component: Int[Tensor, " n"]) -> Float[Tensor, "n D"]:
        """Σ_k⁻¹(z − m_k), minus the gradient of a_k, of one component at each point.

        Args:
            z: Points in coordinates.
            component: k, the index of a component for each point.
        """
        offset = z - self.means[component]
        return self.times(component, offset)

    def times(self, component: Int[Tensor, " n"], v: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        """Σ_k⁻¹v of one component at each vector.

        Args:
            component: k, the index of a component for each vector.
            v: Vectors in coordinates.
        """
        loadings = self.loadings[component]
        inside = loadings @ v[:, :, None]
        return self.precisions[component] * v - (loadings.mT @ inside).squeeze(2)


def frame(density: MixtureOfFactorAnalyzers) -> Frame:
    """The components of a mixture, in few coordinates where that is exact.

    Args:
        density: The mixture; of a task, the `marginal` of its Bayes-optimal classifier.
    """
    whitening, (components, dimension) = density.whitening, density.means.shape
    loadings, precisions = whitening.projections[:, :-1], 1 / density.noise
    log_determinants = 2 * whitening.cholesky.diagonal(dim1=1, dim2=2).log().sum(dim=1)
    log_determinants = log_determinants + density.noise.log().sum(dim=1)
    constants = density.log_weights - 0.5 * (log_determinants + dimension * math.log(2 * math.pi))
    means = density.means - whitening.centre
    if (density.noise == density.noise[:, :1]).all():
        precisions = precisions[:, :1]
    if precisions.shape[1] == 1 and components * (density.latent + 1) < dimension:
        factors = normalize(density.factors.mT.flatten(0, 1), dim=1)
        basis, _ = torch.linalg.qr(torch.cat([factors, means]).mT)
        means, loadings = pad(means @ basis, (0, 1)), pad(loadings @ basis, (0, 1))
        return Frame(basis, whitening.centre, means, precisions, loadings, constants)
    return Frame(None, whitening.centre, means, precisions, loadings, constants)
