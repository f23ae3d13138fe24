"""The paper's CNN: all-convolutional, after the reference network of CleverHans (appendix B.3)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.classifiers.module import check_labels
from bayesgap.errors import BayesgapError
from bayesgap.progress import progress

SLOPE = 0.2  # of every leaky ReLU


class AllConvolutional(nn.Module):
    """Two 3×3 convolutions and a 2×2 average pooling a scale; a last convolution to the classes.

    Scale s has f·2^s and f·2^(s+1) filters, for s in 0 … round(log2(height)) − 3 unless told
    otherwise. Every convolution, the last too, is followed by a leaky ReLU and starts from He's
    initialisation; logits are averaged over space. float32.

    Attributes:
        image_shape: (C, H, W) of the images that it takes.
        classes: The number of classes, and so of logits.
        width: f, the number of filters of the first convolution.
        scales: The number of scales.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        classes: int,
        width: int,
        *,
        generator: torch.Generator,
        scales: int | None = None,
    ):
        """Build it with random weights.

        Args:
            image_shape: (C, H, W) of the images that it takes.
            classes: The number of classes, and so of logits.
            width: f, the number of filters of the first convolution.
            generator: The random generator that draws the initial weights.
            scales: The number of scales, half of the convolutions before the last one; by default
                the paper's round(log2(height)) − 2. With 4 they are the 8 convolutions of
                appendix D.1, of which the last has 16 · f filters.

        Raises:
            BayesgapError: no filters, or scales that are no number or that pool the image away.
        """
        super().__init__()
        if width < 1:
            raise BayesgapError(f"A CNN needs a width of 1 or more; got {width}.")
        self.image_shape, self.classes, self.width = tuple(image_shape), classes, width
        self.scales = _checked(scales, self.image_shape)
        channels = image_shape[0]
        layers: list[nn.Module] = []
        for scale in range(self.scales):
            layers += _convolution(channels, width << scale, generator)
            layers += _convolution(width << scale, width << (scale + 1), generator)
            layers.append(nn.AvgPool2d(2))
            channels = width << (scale + 1)
        layers += _convolution(channels, classes, generator)
        self.layers = nn.Sequential(*layers)
        # Convolutions on the CPU are about twice as fast with the channels of a pixel together.
        nn.utils.convert_conv2d_weight_memory_format(self.layers, torch.channels_last)

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """Logits.

        Args:
            x: The images, float32.
        """
        logits: Float[Tensor, "n classes"] = self.layers(x).mean(dim=(2, 3))
        return logits


def _checked(scales: int | None, image_shape: tuple[int, ...]) -> int:
    """The scales, or as many as the paper's network has on such images."""
    _, height, width = image_shape
    if scales is None:
        scales = max(0, round(math.log2(height)) - 2)
    if scales < 0:
        raise BayesgapError(f"A CNN needs 0 scales or more; got {scales}.")
    if min(height, width) >> scales < 1:
        raise BayesgapError(
            f"{scales} scales halve images of {height}×{width} pixels until nothing is left; "
            f"they have room for {min(height, width).bit_length() - 1}."
        )
    return scales


def _convolution(inputs: int, outputs: int, generator: torch.Generator) -> list[nn.Module]:
    layer = nn.utils.skip_init(nn.Conv2d, inputs, outputs, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE, generator=generator)
    nn.init.zeros_(layer.bias)
    return [layer, nn.LeakyReLU(SLOPE)]


@dataclass(frozen=True)
class Training:
    """How a CNN is trained: by Adam on mini-batches.

    Attributes:
        epochs: How often each image is seen.
        batch: The number of images of a mini-batch.
        learning_rate: Adam's learning rate.
    """

    epochs: int = 8
    batch: int = 100
    learning_rate: float = 3e-3


# From a network, images and labels: what is minimised, and whatever else is to be reported; each
# a mean over the images.
Loss = Callable[[AllConvolutional, Tensor, Tensor], tuple[Tensor, ...]]


def cross_entropy(network: AllConvolutional, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """−log of the probability of the label, in nats: the plain `Loss`.

    Args:
        network: The network that is trained.
        x: The images of a mini-batch (n, C, H, W).
        y: The label of each image (n,).

    Returns:
        The mean over the images, alone.
    """
    return (nn.functional.cross_entropy(network(x), y),)


def train_allconv(
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    *,
    width: int,
    classes: int,
    seed: int,
    training: Training | None = None,
    scales: int | None = None,
) -> tuple[AllConvolutional, list[float]]:
    """Train a CNN on images and labels.

    Args:
        x: The images to train on.
        y: The label of each image.
        width: f, the number of filters of the first convolution.
        classes: The number of classes.
        seed: Seed of the random generator that draws the initial weights and orders the images.
        training: Epochs, batch size and learning rate; by default those of `Training`.
        scales: The number of scales of the network; by default that of the paper's.

    Returns:
        The network, and the mean training loss of each epoch in nats.

    Raises:
        BayesgapError: no images, labels that are no classes, no filters, or too many scales.
    """
    network, history = train_on(
        cross_entropy,
        x,
        y,
        width=width,
        classes=classes,
        seed=seed,
        training=training or Training(),
        scales=scales,
        name="a CNN",
    )
    return network, [loss for (loss,) in history]


def train_on(
    loss: Loss,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    *,
    width: int,
    classes: int,
    seed: int,
    training: Training,
    scales: int | None,
    name: str,
) -> tuple[AllConvolutional, list[tuple[float, ...]]]:
    """Train a CNN by any loss.

    Args:
        loss: What to minimise, and what else to report.
        x: The images to train on.
        y: The label of each image.
        width: f, the number of filters of the first convolution.
        classes: The number of classes.
        seed: Seed of the random generator that draws the initial weights and orders the images.
        training: Epochs, batch size and learning rate.
        scales: The number of scales of the network; None for that of the paper's.
        name: What the progress bar calls the network.

    Returns:
        The network, and for each epoch the mean over images of all that the loss reports, each
        batch's as it was before its step.

    Raises:
        BayesgapError: no images, labels that are no classes, no filters, or too many scales.
    """
    check_labels(y, classes)
    generator = torch.Generator().manual_seed(seed)
    network = AllConvolutional(x.shape[1:], classes, width, generator=generator, scales=scales)
    optimiser = torch.optim.Adam(network.parameters(), lr=training.learning_rate)
    images = x.float()
    history = []
    with progress(f"training {name} of width {width}", training.epochs) as advance:
        for _ in range(training.epochs):
            totals: list[float] = []
            for rows in torch.randperm(len(images), generator=generator).split(training.batch):
                parts = step(network, optimiser, loss, images[rows], y[rows])
                sums = [part * len(rows) for part in parts]
                totals = [a + b for a, b in zip(totals or [0.0] * len(sums), sums, strict=True)]
            history.append(tuple(total / len(images) for total in totals))
            advance(note=f"loss {history[-1][0]:.4f}")
    return network.eval().requires_grad_(False), history


def step(
    network: AllConvolutional, optimiser: torch.optim.Optimizer, loss: Loss, x: Tensor, y: Tensor
) -> list[float]:
    """One step of the optimiser on one mini-batch.

    Args:
        network: The network that is trained.
        optimiser: The optimiser of the network's parameters.
        loss: What to minimise, and what else to report.
        x: The images of the mini-batch (n, C, H, W).
        y: The label of each image (n,).

    Returns:
        All that the loss reports, as it was before the step.
    """
    parts = loss(network, x, y)
    optimiser.zero_grad()
    parts[0].backward()
    optimiser.step()
    return [part.item() for part in parts]


def derived_seed(seed: int, index: int) -> int:
    """A seed for one of several streams of random numbers that share no number with each other.

    Unlike seed + index, it is not another stream's of a neighbouring seed.

    Args:
        seed: The seed that all streams come from.
        index: The number of the stream.
    """
    sequence = np.random.SeedSequence(seed % 2**64, spawn_key=(index,))
    return int(sequence.generate_state(1, np.uint32)[0])
