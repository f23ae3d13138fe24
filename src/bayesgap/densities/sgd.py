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
from bayesgap.progress import progress


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
        x: Images (n, …) in [0, 1], flattened to (n, d); or torch.uint8, levels from 0 to 255
            that mean 255ths, which are converted a mini-batch at a time.
        components: K.
        latent: l, factors a component.
        seed: Of the k-means start and the order of images.
        isotropic: One noise variance a component instead of one a pixel.
        noise_floor: Smallest noise variance; by default that of 8-bit quantisation.
        max_iterations: Epochs at most.
        tolerance: Stop when an epoch improves the mean log-likelihood by less, relatively, than
            the best one before it, three times in a row.
        dtype: Of the parameters and products.
        device: Where they live.
        chunk: Images a mini-batch.
        learning_rate: Adam's, relative to the scale of each kind of parameter.

    Raises:
        BayesgapError: images or settings that no density can be fitted to.
    """
    check_schedule(max_iterations, chunk, dtype, device)
    x = check_images(x, components, latent, noise_floor)
    generator = torch.Generator().manual_seed(seed)
    start = initialise(
        x, components, latent, isotropic=isotropic, noise_floor=noise_floor, seed=seed
    )
    logits, means, factors, log_noise = (
        tensor.clone().to(device, dtype).requires_grad_()
        for tensor in (
            start.weights.log(),
            start.means,
            start.factors,
            start.noise.log()[:, :1] if isotropic else start.noise.log(),
        )
    )
    scale = _deviation(x)
    optimiser = torch.optim.Adam(
        [
            {"params": [logits, log_noise], "lr": learning_rate},
            {"params": [means, factors], "lr": learning_rate * scale},
        ]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / max_iterations))
    )

    def noise() -> Float[Tensor, "K d"]:
        return log_noise.exp().clamp(min=noise_floor).expand(means.shape)

    history: list[float] = []
    best, stalled = -math.inf, 0
    with progress("fitting by SGD", max_iterations) as advance:
        for _ in range(max_iterations):
            total = 0.0
            for rows in torch.randperm(len(x), generator=generator).split(chunk):
                whitening = whiten(means, factors, noise())
                centred = unit_values(x[rows.to(x.device)]).to(device, dtype) - whitening.centre
                log_prob, _ = score(centred, centred.square(), whitening)
                evidence = (log_prob.mT + logits.log_softmax(dim=0)).logsumexp(dim=1)
                total += evidence.detach().double().sum().item()
                optimiser.zero_grad()
                (-evidence.mean()).backward()
                optimiser.step()
            schedule.step()
            history.append(total / len(x))
            advance(note=f"log-likelihood {history[-1]:.3f}")
            stalled = stalled + 1 if history[-1] - best <= tolerance * abs(history[-1]) else 0
            best = max(best, history[-1])
            if stalled == 3:
                break
    if stalled < 3:
        warnings.warn(
            f"SGD stopped after {max_iterations} epochs before its relative improvement fell "
            f"below {tolerance:g}: raise max_iterations.",
            ConvergenceWarning,
            stacklevel=2,
        )
    with torch.no_grad():
        final = Parameters(
            logits.double().softmax(dim=0), means.double(), factors.double(), noise().double()
        )
    return Fit(final.density(), history, reseeded=[], dropped=[], converged=stalled == 3)


def _deviation(x: Float[Tensor, "n d"] | UInt8[Tensor, "n d"]) -> float:
    """The standard deviation of all values of all images."""
    means = pixel_means(x)
    square = (pixel_variances(x, means) + (means - means.mean()).square()).mean().item()
    return math.sqrt(square * x.numel() / max(1, x.numel() - 1))
