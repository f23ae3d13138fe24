"""TRADES: adversarial training by the Kullback-Leibler divergence (Zhang et al., 2019).

The paper that this package implements trains its robust CNNs by it (appendix D.3, figure 11).
Its inner ascent lives here, since it belongs to the loss; attacks on finished classifiers are
elsewhere.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.classifiers.allconv import AllConvolutional, Loss, Training, derived_seed, train_on
from bayesgap.classifiers.module import evaluating
from bayesgap.errors import BayesgapError

START = 0.001  # standard deviation of the ascent's first perturbation, as published
TINY = 1e-30  # keeps vanished gradients from dividing by 0, in float32 too


@dataclass(frozen=True)
class Ball:
    """Where the inner ascent looks for the worst image, and how.

    Attributes:
        norm: The norm that the ball is one of, "L2" or "Linf".
        radius: The ball's radius in pixel units; of the whole image for L2, of each value for L∞.
        steps: The number of steps of the ascent.
        step_share: The length of a step over the radius. The authors' code has 2 / steps for
            L2; for L∞ 0.03 with 40 steps on MNIST and about 0.23 with 10 on CIFAR-10.
        box: The lowest and highest value of a pixel, where perturbed images must keep to them.
            None by default: samples of a density lie in no box.
    """

    norm: str
    radius: float
    steps: int = 10
    step_share: float = 0.2
    box: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse what is no ball, or what cannot be searched.

        Raises:
            BayesgapError: an unknown norm, or a number out of its range.
        """
        if self.norm not in ("L2", "Linf"):
            raise BayesgapError(f'A ball has the norm "L2" or "Linf"; got {self.norm!r}.')
        for what, value in (("radius", self.radius), ("step share", self.step_share)):
            if not (value > 0 and math.isfinite(value)):
                raise BayesgapError(f"A ball needs a positive {what}; got {value}.")
        if self.steps < 1:
            raise BayesgapError(f"The ascent needs 1 step or more; got {self.steps}.")
        if self.box is not None and not self.box[0] < self.box[1]:
            raise BayesgapError(f"A box needs a lowest value below its highest; got {self.box}.")


class TradesLoss(NamedTuple):
    """The means of an epoch: total = natural + beta · robust.

    Attributes:
        total: Mean of what was minimised, in nats.
        natural: Mean cross-entropy at the images, in nats.
        robust: Mean KL divergence at the worst images that the ascent found, in nats.
    """

    total: float
    natural: float
    robust: float


def divergence(p: Float[Tensor, "n classes"], q: Float[Tensor, "n classes"]) -> Float[Tensor, " n"]:
    """KL(softmax p ‖ softmax q) = Σ_c p_c (log p_c − log q_c) of each row of logits, in nats.

    Args:
        p: Logits of the distribution that the mean is taken over.
        q: Logits of the distribution that it is compared with.
    """
    log_p, log_q = p.log_softmax(dim=1), q.log_softmax(dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def worst_in_ball(
    network: nn.Module, x: Float[Tensor, "n C H W"], ball: Ball, *, generator: torch.Generator
) -> Float[Tensor, "n C H W"]:
    """For each image, the one of largest KL(f(x) ‖ f(x')) that ascent finds within the ball.

    Zhang et al.'s algorithm 1: from x + 0.001 · N(0, I), steps along the gradient's sign (L∞),
    each followed by the projection onto the ball. From their code: steps along the gradient
    scaled to length 1 for L2, and a network that is in evaluation mode meanwhile. Ours: the best
    of all points passed comes back, the first included, and not the last; an image whose
    gradient vanishes stays, where their code for L2 takes a random step; and no clipping to
    [0, 1] without a box.

    Args:
        network: The network, from images to logits.
        x: The images, in the network's dtype; inside the box, where the ball has one.
        ball: Where to look around each image, and in which steps.
        generator: The random generator that draws the first perturbations.

    Returns:
        The worst image found for each image; without a gradient.
    """
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device)
    z = _projected(x + START * noise.to(x.device), x, ball)
    with evaluating(network):
        with torch.no_grad():
            logits = network(x)
        objective = _ascended(network, logits)
        best, most = z, torch.full_like(logits[:, 0], -torch.inf)
        for _ in range(ball.steps):
            value, gradient = objective(z)
            best, most = _larger(best, most, z, value)
            z = _projected(z + ball.step_share * ball.radius * _uphill(gradient, ball), x, ball)
        with torch.no_grad():
            value = divergence(logits, network(z))
        return _larger(best, most, z, value)[0]


def _ascended(network: nn.Module, logits: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """From images to their divergence from the logits and its gradient."""

    def objective(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = images.detach().requires_grad_()
            value = divergence(logits, network(z))
            (gradient,) = torch.autograd.grad(value.sum(), z)
        return value.detach(), gradient

    return objective


def _larger(best: Tensor, most: Tensor, z: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Image by image, the one of larger value and that value."""
    more = value > most
    return torch.where(_by_image(more), z, best), torch.where(more, value, most)


def _uphill(gradient: Float[Tensor, "n C H W"], ball: Ball) -> Float[Tensor, "n C H W"]:
    """The direction of a step, of length 1 in the ball's norm; 0 where the gradient is."""
    if ball.norm == "Linf":
        return gradient.sign()
    # Largest entry first: squares of what a confident network leaves over would underflow.
    scaled = gradient / _by_image(gradient.flatten(1).abs().amax(dim=1).clamp(min=TINY))
    return scaled / _by_image(scaled.flatten(1).norm(dim=1).clamp(min=TINY))


def _projected(
    z: Float[Tensor, "n C H W"], x: Float[Tensor, "n C H W"], ball: Ball
) -> Float[Tensor, "n C H W"]:
    """z moved into the box and then the ball around x, which lies in the box itself.

    The second move is towards x and so does not leave the box, which is convex. With a box and
    L2 it is not the nearest point of both, but one of both.
    """
    if ball.box is not None:
        z = z.clamp(*ball.box)
    move = z - x
    if ball.norm == "Linf":
        return x + move.clamp(-ball.radius, ball.radius)
    length = move.flatten(1).norm(dim=1).clamp(min=TINY)
    return x + _by_image((ball.radius / length).clamp(max=1.0)) * move


def _by_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def trades_loss(ball: Ball, beta: float, *, generator: torch.Generator) -> Loss:
    """CE(f(x), y) + beta · max KL(f(x) ‖ f(x')) over x' in the ball around x, and both parts.

    beta is Zhang et al.'s 1/λ. Their multi-class objective leaves the second loss open (any
    calibrated one, such as cross-entropy). From their code: the divergence in this direction,
    averaged over the mini-batch, with gradients through both f(x) and f(x') but not through the
    choice of x'.

    Args:
        ball: Where to look for the worst image, and in which steps.
        beta: The weight of the second part; 0 or more.
        generator: The random generator that draws the ascents' starts; it advances with every
            call of the loss.

    Returns:
        The loss; it reports its sum, the first part and the second without its weight, in nats.

    Raises:
        BayesgapError: a beta that is negative or no number.
    """
    if not (beta >= 0 and math.isfinite(beta)):
        raise BayesgapError(f"TRADES needs a beta of 0 or more; got {beta}.")

    def loss(network: AllConvolutional, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        worst = worst_in_ball(network, x, ball, generator=generator)
        logits = network(x)
        natural = nn.functional.cross_entropy(logits, y)
        robust = divergence(logits, network(worst)).mean()
        return natural + beta * robust, natural, robust

    return loss


def train_trades(
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    *,
    width: int,
    classes: int,
    seed: int,
    training: Training | None = None,
    ball: Ball,
    beta: float = 10.0,
    scales: int | None = None,
) -> tuple[AllConvolutional, list[TradesLoss]]:
    """Train a CNN by TRADES (see `trades_loss`).

    With beta = 0 the network is that of `train_allconv`, bit for bit: the ascent has random
    numbers of its own.

    Args:
        x: The images to train on.
        y: The label of each image.
        width: f, the number of filters of the first convolution.
        classes: The number of classes.
        seed: Seed of the random generators that draw the initial weights, order the images and
            start the ascents.
        training: Epochs, batch size and learning rate; by default those of `Training`.
        ball: Where the loss looks for the worst image, and in which steps.
        beta: The weight of robustness; 10 in the paper.
        scales: The number of scales of the network; by default that of the paper's.

    Returns:
        The network, and the mean losses of each epoch.

    Raises:
        BayesgapError: what `train_allconv` refuses, a negative beta, or images outside the
            ball's box.
    """
    _check_box(x, ball)
    ascents = torch.Generator().manual_seed(derived_seed(seed, 0))
    network, history = train_on(
        trades_loss(ball, beta, generator=ascents),
        x,
        y,
        width=width,
        classes=classes,
        seed=seed,
        training=training or Training(),
        scales=scales,
        name="a robust CNN",
    )
    return network, [TradesLoss(*losses) for losses in history]


def _check_box(x: Tensor, ball: Ball) -> None:
    if ball.box is not None and len(x) and not (ball.box[0] <= x.min() and x.max() <= ball.box[1]):
        raise BayesgapError(
            f"Images lie in {x.min().item():g} to {x.max().item():g}, outside the ball's box "
            f"{ball.box}: leave the box out."
        )
