"""Maximum likelihood for mixtures of factor analyzers by stochastic gradients.

The paper trained its densities this way (appendix B.1). The likelihood is the one that EM
maximises, so the two can be compared; EM needs no learning rate and is faster on these sizes.
"""

import math
import warnings

import torch
from jaxtyping import Float, UInt8
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from bayesgap.densities.fitting import (
    QUANTISATION_VARIANCE,
    Fit,
    Parameters,
    check_images,
    check_schedule,
    initialise,
    pixel_means,
    pixel_variances,
    unit_values,
)
from bayesgap.densities.mfa import score, whiten
from bayesgap.densities.ranges import Prepared, allowed_rounding, prepare
from bayesgap.errors import check_seed
from bayesgap.progress import progress

PATIENCE = 3  # epochs in a row without enough improvement, after which a fit has converged


def fit_sgd(
    x: Tensor,
    components: int,
    latent: int,
    *,
    seed: int,
    isotropic: bool = False,
    noise_floor: float = QUANTISATION_VARIANCE,
    max_iterations: int = 200,
    tolerance: float = 1e-5,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    chunk: int = 256,
    learning_rate: float = 1e-2,
) -> Fit:
    """Fit a mixture of factor analyzers by Adam on mini-batches, from the start that EM uses.

    Weights are a softmax of logits, variances the exponential of their logarithms, held above
    the floor. The learning rate falls to zero along a half cosine over `max_iterations`.

    Args:
        x: Images (n, …), flattened to (n, d): floats in [0, 1] (much wider ranges warn), or
            torch.uint8, levels of 255ths, which are converted a mini-batch at a time.
        components: K, the number of components to fit.
        latent: l, the number of factors of each component.
        seed: Seed of the random generators that start k-means and order the images.
        isotropic: Whether a component has one noise variance instead of one a pixel.
        noise_floor: The smallest noise variance; by default that of 8-bit images in [0, 1].
        max_iterations: The largest number of epochs; reaching it warns.
        tolerance: The relative improvement of an epoch's mean log-likelihood on the best before
            it, below which, three times in a row, the fit stops.
        dtype: The dtype of parameters and products, torch.float32 or torch.float64.
        device: The device on which parameters lie and products run.
        chunk: How many images a mini-batch has.
        learning_rate: Adam's learning rate, relative to the scale of each kind of parameter.

    Returns:
        The fitted mixture in float64, and how the fit went.

    Raises:
        BayesgapError: images, a range of theirs, or settings that no density can be fitted to.

    Example:
        >>> x = torch.rand(100, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> fit = bayesgap.fit_sgd(x, components=2, latent=1, seed=0, tolerance=0.1)
        >>> fit.density.components, fit.density.dimension
        (2, 4)
    """
    check_schedule(max_iterations, chunk, dtype, device)
    seed, x = check_seed(seed), check_images(x, components, latent, noise_floor)
    near = prepare(x, noise_floor, dtype)
    start = initialise(
        near.images, components, latent, isotropic=isotropic, noise_floor=noise_floor, seed=seed
    )
    trained = _Trained(start, isotropic, noise_floor, dtype, device)
    optimiser = trained.optimiser(learning_rate, _deviation(near.images))
    history, stood = _epochs(
        trained, optimiser, near.images, max_iterations, tolerance, chunk, seed
    )
    return _ended(near, trained, history, stood, tolerance)


def _ended(
    near: Prepared, trained: "_Trained", history: list[float], stood: bool, tolerance: float
) -> Fit:
    """What `fit_sgd` returns, once its caller was told of what went wrong.

    Args:
        near: The images.
        trained: What was fitted to them.
        history: Mean log-likelihood of each epoch.
        stood: Whether epochs stopped gaining.
        tolerance: The relative improvement below which they do.
    """
    density, exact = near.fitted(trained.parameters(), trained.means.device)
    best, last = max(history), history[-1]
    allowed = allowed_rounding(best, density.dimension, tolerance)
    converged = stood and best - last <= allowed and last - exact <= allowed
    message = (
        f"SGD stopped after {len(history)} epochs before its relative improvement fell below "
        f"{tolerance:g}: raise max_iterations."
    )
    if stood:
        message = (
            f"SGD stopped and has not converged: its log-likelihood fell from {best:.6g} to "
            f"{last:.6g} nats (the density's is {exact:.6g}): lower learning_rate, or use fit_em."
        )
    if not converged:
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
    return Fit(density, history, [], [], converged, exact)


class _Trained:
    """What gradients move: a mixture whose weights are a softmax and whose variances have a floor.

    Attributes:
        logits: One for each component; the weights are their softmax.
        means: mu of each component.
        factors: A of each component.
        log_noise: The logarithm of each noise variance before the floor holds it; of shape
            (K, 1) where noise is isotropic.
    """

    def __init__(
        self,
        start: Parameters,
        isotropic: bool,
        noise_floor: float,
        dtype: torch.dtype,
        device: str | torch.device,
    ):
        """Take parameters to start from."""
        self.noise_floor = noise_floor
        self.logits, self.means, self.factors, self.log_noise = (
            tensor.clone().to(device, dtype).requires_grad_()
            for tensor in (
                start.weights.log(),
                start.means,
                start.factors,
                start.noise.log()[:, :1] if isotropic else start.noise.log(),
            )
        )

    def optimiser(self, learning_rate: float, scale: float) -> torch.optim.Adam:
        """Adam, with steps of means and factors relative to the scale of the images."""
        return torch.optim.Adam(
            [
                {"params": [self.logits, self.log_noise], "lr": learning_rate},
                {"params": [self.means, self.factors], "lr": learning_rate * scale},
            ]
        )

    def noise(self) -> Float[Tensor, "K d"]:
        """The noise variances."""
        return self.log_noise.exp().clamp(min=self.noise_floor).expand(self.means.shape)

    def log_likelihoods(self, images: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The log-likelihood of each image, in nats."""
        whitening = whiten(self.means, self.factors, self.noise())
        centred = images.to(self.means) - whitening.centre
        log_prob, _ = score(centred, centred.square(), whitening)
        return (log_prob.mT + self.logits.log_softmax(dim=0)).logsumexp(dim=1)

    @torch.no_grad()
    def parameters(self) -> Parameters:
        """The parameters as they are now, in float64."""
        return Parameters(
            self.logits.double().softmax(dim=0),
            self.means.double(),
            self.factors.double(),
            self.noise().double(),
        )


def _epochs(
    trained: _Trained,
    optimiser: torch.optim.Adam,
    x: Tensor,
    max_iterations: int,
    tolerance: float,
    chunk: int,
    seed: int,
) -> tuple[list[float], bool]:
    """Train until no epoch gains enough; each epoch's mean log-likelihood, and whether it ended so.

    An image's log-likelihood is the one before the step of its mini-batch.
    """
    generator = torch.Generator().manual_seed(seed)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / max_iterations))
    )
    history: list[float] = []
    best, stalled = -math.inf, 0
    with progress("fitting by SGD", max_iterations) as advance:
        for _ in range(max_iterations):
            total = 0.0
            for rows in torch.randperm(len(x), generator=generator).split(chunk):
                total += _step(trained, optimiser, unit_values(x[rows.to(x.device)]))
            schedule.step()
            history.append(total / len(x))
            advance(note=f"log-likelihood {history[-1]:.3f}")
            stalled = stalled + 1 if history[-1] - best <= tolerance * abs(history[-1]) else 0
            best = max(best, history[-1])
            if stalled == PATIENCE:
                break
    return history, stalled == PATIENCE


def _step(trained: _Trained, optimiser: torch.optim.Adam, images: Tensor) -> float:
    """One step on a mini-batch; the sum of its log-likelihoods before."""
    evidence = trained.log_likelihoods(images)
    optimiser.zero_grad()
    (-evidence.mean()).backward()
    optimiser.step()
    return evidence.detach().double().sum().item()


def _deviation(x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"]) -> float:
    """The standard deviation of all values of all images."""
    means = pixel_means(x)
    square = (pixel_variances(x, means) + (means - means.mean()).square()).mean().item()
    return math.sqrt(square * x.numel() / max(1, x.numel() - 1))
