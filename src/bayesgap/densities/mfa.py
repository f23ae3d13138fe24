"""Mixtures of factor analyzers: densities of images that can be scored and sampled exactly.

Three requirements shaped this module. The paper's noise (standard deviation 0.001) makes
log-densities of millions of nats that cancel, so every derived quantity is computed in float64
and relative to a point amid the means. All components are scored at once by matrix products,
in chunks of images, so that memory does not grow with their number. And a density is a
`torch.nn.Module`, so that whatever contains one moves to a device with it; its parameters are plain
tensors that anyone can edit, so what was derived from them is derived anew when they have changed.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap import files
from bayesgap.densities.base import PRECISIONS, PreciseModule, check_count, check_precision
from bayesgap.errors import BayesgapError

PARAMETERS = ("weights", "means", "factors", "noise")  # in files, and of the constructor
LOST = 1e-14  # share of a pivot in its row of M = I + AᵀD⁻¹A; no digit of less is right
ROUNDING = 1e-12  # that a sum of normalised weights may be off by
SINGULAR = (
    "The factors of a mixture are too large for its noise: I + AᵀD⁻¹A is singular in float64. "
    "Raise the noise or scale the factors down."
)
CHUNK_BYTES = 64 * 2**20  # of working memory for each chunk of images


class Whitening(NamedTuple):
    """What scoring needs of K components, derived from their parameters (see `whiten`).

    A component's l + 1 projections are the rows of W and, last, D⁻¹(mu − centre); its shifts
    are what these products lack: −W(mu − centre) and all of log N that does not depend on x.
    """

    centre: Float[Tensor, " d"]
    inverse_noise: Float[Tensor, "K d"]
    projections: Float[Tensor, "K w d"]
    shifts: Float[Tensor, "K w"]
    cholesky: Float[Tensor, "K l l"]


def whiten(
    means: Float[Tensor, "K d"], factors: Float[Tensor, "K d l"], noise: Float[Tensor, "K d"]
) -> Whitening:
    """Derive what scores N(mu, A Aᵀ + diag(D)) by the Woodbury identity, differentiably.

    With M = I + AᵀD⁻¹A = L Lᵀ and W = L⁻¹AᵀD⁻¹, the squared Mahalanobis distance is
    ‖D^(-1/2)(x − mu)‖² − ‖W(x − mu)‖² and log|Σ| = log|M| + Σ log D. Everything is relative to
    the average of the means, so that a common offset of the data costs no precision.

    Raises:
        BayesgapError: M is singular in the dtype of the arguments.
    """
    dimension, latent = factors.shape[1:]
    inverse_noise = 1 / noise
    scaled_factors = factors * inverse_noise[:, :, None]
    capacitance = factors.mT @ scaled_factors + torch.eye(latent).to(factors)
    try:
        cholesky = torch.linalg.cholesky(capacitance)
    except RuntimeError as error:  # torch.linalg.LinAlgError
        raise BayesgapError(SINGULAR) from error
    loadings = torch.linalg.solve_triangular(cholesky, scaled_factors.mT, upper=False)
    centre = means.mean(dim=0)
    offsets = means - centre
    log_determinants = 2 * cholesky.diagonal(dim1=1, dim2=2).log().sum(1) + noise.log().sum(1)
    constants = (
        (offsets.square() * inverse_noise).sum(1)
        + log_determinants
        + dimension * math.log(2 * math.pi)
    )
    return Whitening(
        centre=centre,
        inverse_noise=inverse_noise,
        projections=torch.cat([loadings, (offsets * inverse_noise)[:, None]], dim=1),
        shifts=torch.cat(
            [-(loadings @ offsets[:, :, None]).squeeze(2), -constants[:, None] / 2], 1
        ),
        cholesky=cholesky,
    )


def score(
    centred: Float[Tensor, "n d"], squared: Float[Tensor, "n d"], whitening: Whitening
) -> tuple[Float[Tensor, "K n"], Float[Tensor, "K w n"]]:
    """Log-density of every component at every point, by two matrix products.

    Points run along the last axis of what is returned, so that what is done to a component's
    few projections of many points is done to long contiguous rows.

    Args:
        centred: The points x less `whitening.centre`, (n, d).
        squared: The element-wise squares of `centred`, (n, d).
        whitening: What `whiten` derived from the components.

    Returns:
        log N(x; mu_k, Σ_k) in nats, (K, n), and the projections of x, (K, l + 1, n), of which
        the first l are W(x − mu_k).

    Raises:
        BayesgapError: products are rounded to half precision, as within torch.autocast.
    """
    components, width = whitening.shifts.shape
    projected = _precise(
        torch.addmm(
            whitening.shifts.flatten()[:, None], whitening.projections.flatten(0, 1), centred.mT
        )
    ).reshape(components, width, -1)
    explained = projected[:, :-1].square().sum(dim=1)
    spread = whitening.inverse_noise @ squared.mT
    return projected[:, -1] + 0.5 * (explained - spread), projected


class MixtureOfFactorAnalyzers(PreciseModule):
    """The density Σ_k pi_k N(mu_k, A_k A_kᵀ + diag(D_k)) on vectors of length d.

    Each of the K components is a Gaussian with l latent factors (equation 11 of the paper). All
    quantities are float64 unless the module is moved to float32; inputs follow the module.

    Parameters may be edited, in place or by assignment: all that the density gives follows them,
    and what is no density any more is refused. What was made of it before, a classifier or a
    certificate, is not changed.

    Example:
        >>> density = bayesgap.MixtureOfFactorAnalyzers(
        ...     torch.ones(1), torch.zeros(1, 2), torch.zeros(1, 2, 0), noise=torch.ones(1, 2)
        ... )
        >>> round(density.log_prob(torch.zeros(1, 2)).item(), 3)
        -1.838
        >>> density.sample(5, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([5, 2])
    """

    weights: Tensor
    means: Tensor
    factors: Tensor
    noise: Tensor

    def __init__(
        self,
        weights: Float[Tensor, " K"],
        means: Float[Tensor, "K d"],
        factors: Float[Tensor, "K d l"],
        noise: Float[Tensor, "K d"],
    ):
        """Check the parameters and derive what scoring needs.

        Args:
            weights: The mixing proportions pi of the K components, positive; they must sum to 1
                within 1e-5 and are normalised.
            means: The mean mu of each component, in pixel units.
            factors: The factors A of each component, one in each column, in pixel units; l may
                be 0.
            noise: The **variances** D of each component's axis-aligned noise, positive.

        Raises:
            BayesgapError: shapes disagree, or values are not finite, positive or normalised.
        """
        super().__init__()
        _check(weights, means, factors, noise)
        given = dict(zip(PARAMETERS, (weights, means, factors, noise), strict=True))
        for name, tensor in given.items():
            self.register_buffer(name, tensor.detach().to(torch.float64, copy=True).contiguous())
        total = self.weights.sum()
        if abs(total - 1) > ROUNDING:  # else a density read from a file would not be the one saved
            self.weights /= total
        self._derive()
        nn.Module.register_load_state_dict_post_hook(self, _derive_after_loading)

    @torch.no_grad()
    def _derive(self) -> None:
        """Derive from the parameters what scoring needs, in float64; refuse those of no density."""
        _check(*(getattr(self, name) for name in PARAMETERS))
        for name in PARAMETERS:
            check_precision(getattr(self, name).dtype, type(self).__name__)
        exact = [getattr(self, name).double() for name in PARAMETERS[1:]]
        whitening = whiten(*exact)
        # Whether a factorisation of what is singular fails depends on the machine.
        pivots = whitening.cholesky.diagonal(dim1=1, dim2=2).square()
        if (pivots <= LOST * whitening.cholesky.square().sum(dim=2)).any():
            raise BayesgapError(SINGULAR)
        for name, tensor in whitening._asdict().items():
            self.register_buffer(f"_{name}", tensor.to(self.means), persistent=False)
        self._remember()

    def _remember(self) -> None:
        """Keep copies of the parameters that the derived quantities belong to."""
        self._derived_from = [getattr(self, name).clone() for name in PARAMETERS]

    def _follow(self) -> None:
        """Derive anew where parameters were edited.

        Their values are compared, since version counters do not see what NumPy or `.data` write.
        """
        if not all(map(_same, (getattr(self, name) for name in PARAMETERS), self._derived_from)):
            self._derive()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """What moves and casts the module; derived quantities go with their parameters."""
        self._follow()
        super()._apply(fn, recurse)
        self._remember()
        return self

    @property
    def components(self) -> int:
        """K, the number of Gaussians."""
        return self.means.shape[0]

    @property
    def dimension(self) -> int:
        """d, the number of pixel values of an image."""
        return self.means.shape[1]

    @property
    def latent(self) -> int:
        """l, the number of factors of each component."""
        return self.factors.shape[2]

    @property
    def log_weights(self) -> Float[Tensor, " K"]:
        """log pi, of the mixing proportions."""
        return self.weights.log()

    @property
    def whitening(self) -> Whitening:
        """A copy of the derived quantities that `score` uses."""
        self._follow()
        return Whitening(*(tensor.clone() for tensor in self._whitening()))

    def _whitening(self) -> Whitening:
        return Whitening(*(getattr(self, f"_{name}") for name in Whitening._fields))

    def component_log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n K"]:
        """log pi_k + log N(x; mu_k, Σ_k) in nats, for every point and component.

        Differentiable in x. Points are taken in chunks, so working memory is bounded.

        Args:
            x: The points, (n, d), of any floating-point type; they are cast to the density's.

        Raises:
            BayesgapError: x has another width than d, or the parameters were edited and are those
                of no density.
        """
        self._follow()
        if x.shape[1] != self.dimension:
            raise BayesgapError(
                f"Points of {x.shape[1]} values were given to a density over {self.dimension}."
            )
        x = x.to(self.means)
        whitening = self._whitening()
        width = self.components * (self.latent + 4) + 2 * self.dimension
        rows = max(1, CHUNK_BYTES // (width * x.element_size()))
        scores, log_weights = [], self.log_weights
        for chunk in x.split(rows):
            centred = chunk - whitening.centre
            scores.append(log_weights + score(centred, centred.square(), whitening)[0].mT)
        return torch.cat(scores)

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log p(x) in nats: the log-sum-exp of `component_log_prob` over components."""
        return self.component_log_prob(x).logsumexp(dim=1)

    def responsibilities(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n K"]:
        """The probability of each component given the point (equation 8); rows sum to 1."""
        return self.component_log_prob(x).softmax(dim=1)

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """Draw n points.

        The random numbers are drawn where the generator lives, so a CPU generator gives the
        same points whatever the device of the density.

        Args:
            n: The number of points to draw, 0 or more.
            generator: The only source of randomness; it advances.

        Raises:
            BayesgapError: n is no number of points.
        """
        return self.sample_with_components(n, generator=generator)[0]

    def sample_with_components(
        self, n: int, *, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
        """Draw the points that `sample` draws, and tell which component each came from.

        Args:
            n: The number of points to draw, 0 or more.
            generator: The only source of randomness; it advances.

        Returns:
            The points, (n, d), and for each the index of its component, from 0 to K − 1.

        Raises:
            BayesgapError: n is no number of points.
        """
        check_count(n)
        self._follow()
        device, dtype = generator.device, self.means.dtype
        # torch refuses to draw none; one is drawn and left out.
        component = torch.multinomial(
            self.weights.to(device), max(n, 1), replacement=True, generator=generator
        )[:n]
        z = torch.randn(n, self.latent, generator=generator, dtype=dtype, device=device)
        epsilon = torch.randn(n, self.dimension, generator=generator, dtype=dtype, device=device)
        component, z, epsilon = (t.to(self.means.device) for t in (component, z, epsilon))
        # One product with all components' factors side by side: z stands in its own's columns.
        basis = self.factors.permute(0, 2, 1).reshape(-1, self.dimension)
        rows = max(1, CHUNK_BYTES // ((len(basis) + self.dimension) * z.element_size()))
        signal = []
        for chunk, own in zip(z.split(rows), component.split(rows), strict=True):
            codes = chunk.new_zeros(len(chunk), self.components, self.latent)
            codes[torch.arange(len(chunk), device=own.device), own] = chunk
            signal.append(_precise(codes.flatten(1) @ basis))
        x = torch.cat(signal) + self.means[component] + self.noise[component].sqrt() * epsilon
        return x, component

    def covariance(self, component: int) -> Float[Tensor, "d d"]:
        """Σ_k = A_k A_kᵀ + diag(D_k) of one component, as a dense matrix."""
        self._follow()
        factors = self.factors[component]
        return factors @ factors.mT + torch.diag(self.noise[component])

    def parameters_for_file(self) -> dict[str, Tensor]:
        """The tensors that define the density, under the names of the constructor's arguments."""
        self._follow()
        return {name: getattr(self, name) for name in PARAMETERS}

    def save(self, path: str | Path) -> None:
        """Write the density to a safetensors file.

        Args:
            path: The file to write; one that exists is replaced.

        Raises:
            BayesgapError: the folder is missing or not writable.
        """
        files.save_tensors(path, self.parameters_for_file(), kind="density", metadata={})

    @classmethod
    def load(cls, path: str | Path) -> "MixtureOfFactorAnalyzers":
        """Read what `save` wrote.

        Args:
            path: The file to read.

        Raises:
            BayesgapError: the file is missing, damaged or holds something else.
        """
        tensors, _ = files.load_tensors(path, kind="density")
        try:
            return cls(*files.require(tensors, PARAMETERS, path))
        except BayesgapError as error:
            raise BayesgapError(f"{path} cannot be read as a density: {error}") from error

    def extra_repr(self) -> str:
        """K, d and l."""
        return f"components={self.components}, dimension={self.dimension}, latent={self.latent}"


def _precise(product: Tensor) -> Tensor:
    """The product, unless it was rounded on the way."""
    if product.dtype not in PRECISIONS:
        raise BayesgapError(
            f"Within torch.autocast a density's products are rounded to {product.dtype}, in which "
            "log-densities are lost: leave autocast around it, or keep it in torch.float64."
        )
    return product


def _same(now: Tensor, before: Tensor) -> bool:
    """Whether two tensors are equal in all that scores depend on."""
    alike = now.dtype == before.dtype and now.device == before.device
    return alike and torch.equal(now, before)


def _derive_after_loading(density: nn.Module, _: object) -> None:
    assert isinstance(density, MixtureOfFactorAnalyzers)
    density._derive()


def _check(weights: Tensor, means: Tensor, factors: Tensor, noise: Tensor) -> None:
    dimensions = (weights.ndim, means.ndim, factors.ndim, noise.ndim)
    if (
        dimensions != (1, 2, 3, 2)
        or not len(weights) == len(means) == len(factors) == len(noise)
        or means.shape != noise.shape
        or means.shape != factors.shape[:2]
        or 0 in means.shape
    ):
        shapes = ", ".join(str(tuple(t.shape)) for t in (weights, means, factors, noise))
        raise BayesgapError(
            "A mixture needs weights (K,), means (K, d), factors (K, d, l) and noise (K, d); "
            f"the shapes given are {shapes}."
        )
    named = {"weights": weights, "means": means, "factors": factors, "noise": noise}
    for name, tensor in named.items():
        if not torch.isfinite(tensor).all():
            raise BayesgapError(f"The {name} of a mixture must be finite; they are not.")
    for name in ("weights", "noise"):
        if not (named[name] > 0).all():
            raise BayesgapError(
                f"The {name} of a mixture must be positive; the smallest is "
                f"{named[name].min().item():g}."
            )
    total = weights.double().sum().item()
    if abs(total - 1) > 1e-5:
        raise BayesgapError(f"The weights of a mixture must sum to 1; they sum to {total:g}.")
