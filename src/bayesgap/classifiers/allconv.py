"""The paper's CNN: all-convolutional, after the reference network of CleverHans (appendix B.3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.classifiers.module import check_labels
from bayesgap.errors import BayesgapError
from bayesgap.progress import progress

SLOPE = 0.2  # of every leaky ReLU


class AllConvolutional(nn.Module):
    """Two 3×3 convolutions and a 2×2 average pooling a scale; a last convolution to the classes.

    Scale s has f·2^s and f·2^(s+1) filters, for s in 0 … round(log2(height)) − 3. Every
    convolution, the last too, is followed by a leaky ReLU and starts from He's initialisation;
    logits are averaged over space. float32.
    """

    def __init__(
        self, image_shape: Sequence[int], classes: int, width: int, *, generator: torch.Generator
    ):
        """Build it with random weights.

        Args:
            image_shape: (C, H, W).
            classes: How many logits.
            width: f, the filters of the first convolution.
            generator: The source of the initial weights.
        """
        super().__init__()
        self.image_shape, self.classes, self.width = tuple(image_shape), classes, width
        channels, height, _ = image_shape
        layers: list[nn.Module] = []
        for scale in range(round(math.log2(height)) - 2):
            layers += _convolution(channels, width << scale, generator)
            layers += _convolution(width << scale, width << (scale + 1), generator)
            layers.append(nn.AvgPool2d(2))
            channels = width << (scale + 1)
        layers += _convolution(channels, classes, generator)
        self.layers = nn.Sequential(*layers)
        # Convolutions on the CPU are about twice as fast with the channels of a pixel together.
        nn.utils.convert_conv2d_weight_memory_format(self.layers, torch.channels_last)

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        return self.layers(x).mean(dim=(2, 3))


def _convolution(inputs: int, outputs: int, generator: torch.Generator) -> list[nn.Module]:
    layer = nn.utils.skip_init(nn.Conv2d, inputs, outputs, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE, generator=generator)
    nn.init.zeros_(layer.bias)
    return [layer, nn.LeakyReLU(SLOPE)]


@dataclass(frozen=True)
class Training:
    """How a CNN is trained: Adam on the cross-entropy of mini-batches."""

    epochs: int = 8
    batch: int = 100
    learning_rate: float = 3e-3


def train_allconv(
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    *,
    width: int,
    classes: int,
    seed: int,
    training: Training | None = None,
) -> tuple[AllConvolutional, list[float]]:
    """Train a CNN on images and labels.

    Args:
        x: Images.
        y: Labels.
        width: f, the filters of the first convolution.
        classes: How many.
        seed: Of the initial weights and the order of images.
        training: Epochs, batch size and learning rate.

    Returns:
        The network, and the mean training loss of each epoch in nats.

    Raises:
        BayesgapError: no images, labels that are no classes, or no filters.
    """
    check_labels(y, classes)
    if width < 1:
        raise BayesgapError(f"A CNN needs a width of 1 or more; got {width}.")
    training = training or Training()
    generator = torch.Generator().manual_seed(seed)
    network = AllConvolutional(x.shape[1:], classes, width, generator=generator)
    optimiser = torch.optim.Adam(network.parameters(), lr=training.learning_rate)
    images = x.float()
    losses = []
    with progress(f"training a CNN of width {width}", training.epochs) as advance:
        for _ in range(training.epochs):
            total = 0.0
            for rows in torch.randperm(len(images), generator=generator).split(training.batch):
                loss = nn.functional.cross_entropy(network(images[rows]), y[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item() * len(rows)
            losses.append(total / len(images))
            advance(note=f"loss {losses[-1]:.4f}")
    return network.eval().requires_grad_(False), losses
