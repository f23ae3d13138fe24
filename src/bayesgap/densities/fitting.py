"""What both ways of fitting share: checks of the images, the k-means start, and the result.

Images may be many: nothing here holds them all as floats. Those of 8-bit levels are converted a
chunk at a time, to the same single-precision values in [0, 1] that images read from files have,
so that a fit to levels is the fit to those floats.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from numbers import Integral

import torch
from jaxtyping import Float, Int, UInt8
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError

QUANTISATION_VARIANCE = (1 / 255) ** 2 / 12  # of rounding a pixel in [0, 1] to 8 bits
PROJECTED_DIMENSIONS = 50  # that k-means sees
BASIS_IMAGES = 5_000  # from which that projection is computed
SMALLEST_FACTOR = 0.1  # of the noise's standard deviation: EM never leaves A = 0 by itself
CHUNK = 1024  # images that are converted to float64 at a time
CHUNK_VALUES = 2**21  # their values at most: memory of more goes back to the system each time
DENSE = 4e9  # multiplications, up to which a dense decomposition takes a second or so
SMALLEST_BLOCK = 16  # vectors that are multiplied at once
LARGEST_BASIS = 4096  # vectors that are kept
ROUNDED = 1e-11  # residual, over the largest eigenvalue, below which only rounding may be left
CLOSE = 1e-4  # residual, over the largest eigenvalue, of directions to start from


@dataclass(frozen=True)
class Parameters:
    """The parameters of a mixture while it is being fitted; float64.

    Attributes:
        weights: pi of each component; they sum to 1.
        means: mu of each component.
        factors: A of each component.
        noise: The diagonal of D of each component.
    """

    weights: Float[Tensor, " K"]
    means: Float[Tensor, "K d"]
    factors: Float[Tensor, "K d l"]
    noise: Float[Tensor, "K d"]

    def at(self, pixels: Int[Tensor, " kept"]) -> "Parameters":
        """The parameters of some of the pixels.

        Args:
            pixels: Indices of the pixels to keep.
        """
        pixels = pixels.cpu()
        return Parameters(
            self.weights, self.means[:, pixels], self.factors[:, pixels], self.noise[:, pixels]
        )

    def density(self) -> MixtureOfFactorAnalyzers:
        """The mixture with these parameters, on the CPU."""
        return MixtureOfFactorAnalyzers(
            self.weights.cpu(), self.means.cpu(), self.factors.cpu(), self.noise.cpu()
        )


@dataclass(frozen=True)
class Fit:
    """A fitted density and how it came about.

    Attributes:
        density: The fitted mixture.
        log_likelihoods: Mean log-likelihood in nats per image at the start of each iteration
            (for SGD: over the mini-batches of each epoch).
        reseeded: The iterations after which empty components were started anew; the
            log-likelihood may fall after them.
        dropped: The iterations after which components that stayed empty were removed; the
            log-likelihood may fall after them too, and nowhere else.
        converged: Whether the relative improvement fell below the tolerance. Never of a
            log-likelihood that fell, or that differs from the density's own, by more than rounding
            accounts for: 0.1 nats an image, or 0.001 a pixel value, or the tolerance, whichever
            is most.
        log_likelihood: Mean log-likelihood in nats per image of the density itself, as its
            `log_prob` gives it in float64: after the last iteration, free of the fit's rounding.

    Example:
        >>> x = torch.rand(100, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> fit = bayesgap.fit_em(x, components=1, latent=1, seed=0)
        >>> fit.converged, fit.log_likelihoods[-1] > fit.log_likelihoods[0]
        (True, True)
    """

    density: MixtureOfFactorAnalyzers
    log_likelihoods: list[float] = field(repr=False)
    reseeded: list[int]
    dropped: list[int]
    converged: bool
    log_likelihood: float


def is_levels(x: Tensor) -> bool:
    """Whether images are 8-bit levels, from 0 to 255, and not floats.

    Args:
        x: Images of any shape.
    """
    return x.dtype == torch.uint8


def unit_values(x: Tensor) -> Tensor:
    """Pixel values in [0, 1]: floats as they are, 8-bit levels as float32 in 255ths.

    Args:
        x: Images of any shape.
    """
    return x.float().div_(255) if is_levels(x) else x


def exact_chunks(x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"]) -> Iterator[Tensor]:
    """The points in float64 on the CPU, some at a time.

    Args:
        x: The points; those of torch.uint8 are levels.
    """
    for chunk in torch.split(x, max(1, min(CHUNK, CHUNK_VALUES // x.shape[1]))):
        yield unit_values(chunk).double().cpu()


def pixel_means(x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Each pixel's mean, in float64.

    Args:
        x: The images, flattened; those of torch.uint8 are levels.
    """
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    for chunk in exact_chunks(x):
        total += chunk.sum(dim=0)
    return total / len(x)


def pixel_variances(
    x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"], means: Float[Tensor, " d"]
) -> Float[Tensor, " d"]:
    """Each pixel's mean square distance from its mean, in float64.

    Args:
        x: The images, flattened; those of torch.uint8 are levels.
        means: The mean of each pixel.
    """
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    for chunk in exact_chunks(x):
        total += (chunk - means).square_().sum(dim=0)
    return total / len(x)


def check_images(x: Tensor, components: int, latent: int, noise_floor: float) -> Tensor:
    """Flatten images (n, …) to points (n, d), refusing what no density can be fitted to.

    The points keep the images' dtype; those of torch.uint8 are levels.

    Args:
        x: The images.
        components: K, how many components are to be fitted to them.
        latent: l, how many factors each component is to have.
        noise_floor: The smallest noise variance.

    Raises:
        BayesgapError: values that are not finite, fewer distinct images than components, or
            settings out of range.
    """
    if not isinstance(x, Tensor):
        raise BayesgapError(f"Images must be a torch tensor; got a {type(x).__name__}.")
    if x.ndim < 2 or 0 in x.shape:
        raise BayesgapError(f"Images (n, …) are needed to fit a density; got {tuple(x.shape)}.")
    if not (torch.is_floating_point(x) or is_levels(x)):
        raise BayesgapError(
            "Images must be floating-point, in [0, 1], or torch.uint8, levels from 0 to 255; "
            f"these are {x.dtype}."
        )
    x = x.detach().reshape(len(x), -1)
    finite = torch.cat([chunk.isfinite().all(dim=1) for chunk in x.split(CHUNK)])
    if not finite.all():
        bad = (~finite).nonzero().flatten().tolist()
        raise BayesgapError(f"{len(bad)} of {len(x)} images hold NaN or infinity, first: {bad[0]}.")
    if not (isinstance(components, Integral) and isinstance(latent, Integral)):
        raise BayesgapError(
            f"Components and latent factors are counted in integers; got {components!r} and "
            f"{latent!r}."
        )
    if components < 1 or not 0 <= latent <= x.shape[1]:
        raise BayesgapError(
            f"A mixture needs at least 1 component and 0 to {x.shape[1]} latent factors; "
            f"got {components} and {latent}."
        )
    if not (noise_floor > 0 and math.isfinite(noise_floor)):
        raise BayesgapError(
            f"The floor on the noise variance must be positive and finite; got {noise_floor}."
        )
    distinct = _count_distinct(x, components)
    if distinct < components:
        raise BayesgapError(
            f"{len(x)} images ({distinct} distinct) are too few for {components} components: "
            "ask for fewer."
        )
    return x


def check_schedule(
    max_iterations: int, chunk: int, dtype: torch.dtype, device: str | torch.device
) -> None:
    """Refuse a fit without iterations or images at a time, or that cannot be computed as asked.

    Args:
        max_iterations: The largest number of iterations.
        chunk: How many images are taken at a time.
        dtype: The dtype of products with the images.
        device: The device on which they run.

    Raises:
        BayesgapError: a number below 1, a dtype too coarse, or a device that is not there.
    """
    if dtype not in (torch.float32, torch.float64):
        raise BayesgapError(f"A density is fitted in torch.float32 or torch.float64; got {dtype}.")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch is built without CUDA
        raise BayesgapError(f"There is no device {str(device)!r} here: {error}") from error
    if max_iterations < 1 or chunk < 1:
        raise BayesgapError(
            "A fit needs at least 1 iteration and 1 image at a time; "
            f"got max_iterations={max_iterations} and chunk={chunk}."
        )


def _count_distinct(x: Tensor, enough: int) -> int:
    """Distinct rows, by a hash of each, or some number from `enough` on; −0 is 0."""
    hashes: set[bytes] = set()
    for chunk in exact_chunks(x):
        hashes.update(blake2b(row.tobytes()).digest() for row in (chunk + 0.0).numpy())
        if len(hashes) >= enough:
            break
    return len(hashes)


def initialise(
    x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"],
    components: int,
    latent: int,
    *,
    isotropic: bool,
    noise_floor: float,
    seed: int,
) -> Parameters:
    """Start from k-means on a projection, with a probabilistic PCA inside each cluster.

    Everything runs on the CPU; k-means on one thread, where its sums have one order.

    Args:
        x: The images, flattened; those of torch.uint8 are levels.
        components: K, the number of clusters and so of components.
        latent: l, the number of factors of each component.
        isotropic: Whether a component has one noise variance instead of one a pixel.
        noise_floor: The smallest noise variance.
        seed: Seed of the random generators that start k-means and fill factors.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = _cluster(x, components, seed=seed)
    means, factors, noise, counts = [], [], [], []
    for component in range(components):
        members = x[labels == component]
        if not len(members):  # images that differ by less than rounding
            members = x[torch.randint(len(x), (1,), generator=generator)]
        mean, loading, variance = _principal_factors(
            members, latent, noise_floor=noise_floor, generator=generator
        )
        means.append(mean)
        factors.append(loading)
        noise.append(variance.mean().expand_as(variance) if isotropic else variance)
        counts.append(len(members))
    weights = torch.tensor(counts, dtype=torch.float64)
    return Parameters(
        weights / weights.sum(), torch.stack(means), torch.stack(factors), torch.stack(noise)
    )


def _cluster(
    x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"], clusters: int, *, seed: int
) -> Int[Tensor, " n"]:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(x), generator=generator)[:BASIS_IMAGES]
    some = x[chosen.to(x.device)]
    centre = pixel_means(some)
    directions = min(PROJECTED_DIMENSIONS, *some.shape)
    basis = _leading_directions(some, centre, directions)[0]
    projected = torch.cat([(chunk - centre) @ basis.mT for chunk in exact_chunks(x)])
    with threadpool_limits(1), warnings.catch_warnings():
        # Images that are nearly equal can leave a cluster empty; EM starts it anew.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means = KMeans(clusters, n_init=1, random_state=seed % 2**32).fit(projected.numpy())
    return torch.from_numpy(means.labels_).long().to(x.device)


def _leading_directions(
    x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"], mean: Float[Tensor, " d"], count: int
) -> tuple[Float[Tensor, "count d"], Float[Tensor, " count"]]:
    """Unit principal directions and their variances, from the smaller of the two Gram matrices.

    Where that would take minutes, from products with blocks of vectors.
    """
    n, d = x.shape
    if n * d * min(n, d) > DENSE:
        return principal_directions(x, mean, count, tolerance=CLOSE)[:2]
    centred = torch.cat(list(exact_chunks(x))) - mean
    if n < d:
        values, vectors = torch.linalg.eigh(centred @ centred.mT)
        directions = vectors.mT @ centred
    else:
        values, vectors = torch.linalg.eigh(centred.mT @ centred)
        directions = vectors.mT
    directions = torch.nn.functional.normalize(directions.flip(0)[:count], dim=1)
    return directions, values.flip(0)[:count].clamp(min=0) / n


def principal_directions(
    x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"],
    mean: Float[Tensor, " d"],
    count: int,
    *,
    tolerance: float = 0.0,
) -> tuple[Float[Tensor, "count d"], Float[Tensor, " count"], float]:
    """Leading eigenvectors and eigenvalues of the images' covariance, without forming it.

    Block Lanczos with full orthogonalisation: the best approximations in the span of B, CB, C²B,
    … for the covariance C and a block B of random vectors, of which there are more than are
    wanted, so that close eigenvalues part. In float64, by chunks of images.

    Args:
        x: The images, flattened; those of torch.uint8 are levels.
        mean: The mean of each pixel.
        count: How many eigenvectors to find.
        tolerance: The largest ‖Cv − λv‖, as a share of the largest λ, at which the search stops;
            in any case it does when rounding keeps them from falling.

    Returns:
        Unit eigenvectors, one a row; their eigenvalues, descending; and the largest ‖Cv − λv‖ as
        a share of the largest λ.
    """
    dimension = x.shape[1]
    width = min(dimension, max(SMALLEST_BLOCK, 2 * count))
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(dimension, width, generator=generator, dtype=torch.float64)
    basis, products = torch.empty(2, dimension, 0, dtype=torch.float64)
    before = math.inf
    while True:
        block = _orthonormal(block, basis)
        product = _covariance_times(block, x, mean)
        basis = torch.cat([basis, block], dim=1)
        products = torch.cat([products, product], dim=1)
        projected = basis.mT @ products
        values, vectors = torch.linalg.eigh((projected + projected.mT) / 2)
        values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
        directions = basis @ vectors
        residual = (products @ vectors - directions * values).norm(dim=0).max().item()
        residual /= max(values[0].item(), torch.finfo(torch.float64).tiny)
        at_rounding = residual < ROUNDED and residual > before / 2
        room = min(dimension, LARGEST_BASIS) - basis.shape[1]
        if residual <= tolerance or at_rounding or room <= 0:
            return directions.mT, values, residual
        before, block = residual, product[:, :room]


def _orthonormal(block: Float[Tensor, "d b"], basis: Float[Tensor, "d k"]) -> Float[Tensor, "d b"]:
    """Orthonormal vectors that span the block's part outside the basis; twice is enough."""
    for _ in range(2):
        block = torch.linalg.qr(block - basis @ (basis.mT @ block)).Q
    return block


def _covariance_times(
    block: Float[Tensor, "d b"],
    x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"],
    mean: Float[Tensor, " d"],
) -> Float[Tensor, "d b"]:
    product = torch.zeros_like(block)
    for chunk in exact_chunks(x):
        centred = chunk - mean
        product.addmm_(centred.mT, centred @ block)
    return product / len(x)


def _principal_factors(
    members: Float[Tensor, "m d"] | UInt8[Tensor, "m d"],
    latent: int,
    *,
    noise_floor: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d l"], Float[Tensor, " d"]]:
    """Mean, factors and noise variances of one cluster: its PCA, the rest of each pixel as noise.

    A cluster of few or equal images spans fewer than l directions; the rest are filled with
    small random ones, since A = 0 is a fixed point of EM.
    """
    mean = pixel_means(members)
    variances = pixel_variances(members, mean)
    dimension = members.shape[1]
    factors = torch.randn(dimension, latent, generator=generator, dtype=torch.float64)
    factors *= SMALLEST_FACTOR * noise_floor**0.5
    spanned = min(latent, len(members) - 1)
    if spanned > 0:
        directions, values = _leading_directions(members, mean, spanned)
        rest = (variances.sum() - values.sum()).clamp(min=0) / max(1, dimension - spanned)
        factors[:, :spanned] += directions.mT * (values - rest).clamp(min=0).sqrt()
    noise = (variances - factors.square().sum(dim=1)).clamp(min=noise_floor)
    return mean, factors, noise
