"""Training a CNN on samples that are drawn as it goes (appendix D.1), in legs that add up.

Every image is seen once. Which images a mini-batch holds depends on the seed and on its place in
the whole training alone, and the state between two legs holds all that Adam remembers, so that
a training that was stopped, stored and continued ends with the same network, bit for bit.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap.classifiers import stored
from bayesgap.classifiers.allconv import AllConvolutional, cross_entropy, derived_seed, step
from bayesgap.classifiers.module import check_labels
from bayesgap.errors import BayesgapError
from bayesgap.progress import progress

BLOCK = 1_000  # images drawn at a time; as fast as more, and 100 MB of 64×64×3 in float64
BATCH = 50  # images a mini-batch, the paper's
LEARNING_RATE = 1e-3  # Adam's own default
REMEMBERED = ("step", "exp_avg", "exp_avg_sq")  # by Adam of each parameter: its count and moments
KIND = "online-training"


@runtime_checkable
class Draw(Protocol):
    """Draws images and labels that depend on the seed alone, such as a task's `sample`."""

    def __call__(self, n: int, *, seed: int) -> tuple[Float[Tensor, "n C H W"], Int[Tensor, " n"]]:
        """Draw them.

        Args:
            n: How many images to draw.
            seed: Seed of the random generator that draws.
        """


@dataclass(frozen=True)
class OnlineTraining:
    """A training between two legs.

    Attributes:
        network: The network as trained so far, frozen and in evaluation mode.
        adam: For each parameter `name` of the network, the tensors "step.name", "exp_avg.name"
            and "exp_avg_sq.name": how often Adam moved it, and the moments of its gradient.
        samples: How many images the network has been trained on.
        learning_rate: Adam's learning rate.
    """

    network: AllConvolutional
    adam: Mapping[str, Tensor]
    samples: int
    learning_rate: float

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next leg needs, as named tensors and JSON metadata."""
        weights, about = stored.to_tensors(self.network)
        tensors = {f"network.{name}": tensor for name, tensor in weights.items()}
        tensors |= {f"adam.{name}": tensor for name, tensor in self.adam.items()}
        progressed = {"samples": self.samples, "learning_rate": self.learning_rate}
        return tensors, {"kind": KIND, "network": about, **progressed}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
    ) -> "OnlineTraining":
        """What `to_tensors` gave, as a training again.

        Args:
            tensors: The named tensors that `to_tensors` gave.
            metadata: The metadata that it gave with them.

        Raises:
            BayesgapError: metadata of another kind, or something is missing or does not fit.
        """
        if metadata.get("kind") != KIND:
            raise BayesgapError(f"A stored training is expected; got {metadata.get('kind')!r}.")
        try:
            network = stored.from_tensors(_within("network.", tensors), metadata["network"])
            samples, learning_rate = metadata["samples"], metadata["learning_rate"]
        except KeyError as error:
            raise BayesgapError(f"The stored training lacks {error}.") from error
        if not isinstance(network, AllConvolutional):
            raise BayesgapError(f"A {type(network).__name__} is not trained online.")
        return cls(network, _fitting(network, _within("adam.", tensors)), samples, learning_rate)


def _within(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _fitting(network: AllConvolutional, adam: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What Adam remembers, laid out in memory as the network's parameters are."""
    blank = _blank(network)
    for name, tensor in blank.items():
        if name not in adam:
            raise BayesgapError(f"The stored training lacks 'adam.{name}'.")
        if adam[name].shape != tensor.shape:
            raise BayesgapError(
                f"The stored training is damaged: 'adam.{name}' has shape "
                f"{tuple(adam[name].shape)} instead of {tuple(tensor.shape)}."
            )
        # Copied into place, since steps on another layout may round differently.
        tensor.copy_(adam[name])
    return blank


def _blank(network: AllConvolutional) -> dict[str, Tensor]:
    """What Adam remembers before its first step: zeros."""
    return {
        f"{what}.{name}": torch.zeros(()) if what == "step" else torch.zeros_like(parameter)
        for name, parameter in network.named_parameters()
        for what in REMEMBERED
    }


def start_training(
    image_shape: Sequence[int],
    *,
    width: int,
    classes: int,
    seed: int,
    scales: int | None = None,
    learning_rate: float = LEARNING_RATE,
) -> OnlineTraining:
    """A CNN with random weights that has seen no image yet.

    Args:
        image_shape: (C, H, W) of the images that it takes.
        width: f, the number of filters of the first convolution.
        classes: The number of classes.
        seed: Seed of the random generator that draws the initial weights.
        scales: The number of scales of the network; by default that of the paper's.
        learning_rate: Adam's learning rate in all legs.

    Raises:
        BayesgapError: no filters, or too many scales.
    """
    generator = torch.Generator().manual_seed(seed)
    network = AllConvolutional(image_shape, classes, width, generator=generator, scales=scales)
    network.eval().requires_grad_(False)
    return OnlineTraining(network, _blank(network), 0, learning_rate)


def continue_training(
    state: OnlineTraining, draw: Draw, *, samples: int, batch: int = BATCH, seed: int
) -> tuple[OnlineTraining, list[float]]:
    """Train on further images, each seen once; the state given stays as it is.

    Image number i of the whole training is number i modulo `BLOCK` of the draw number
    i // `BLOCK`, whose seed is derived from `seed` and that number. So, with the same `batch` and
    `seed`, legs of any lengths end where one leg of their sum ends. One draw is held at a time.

    Args:
        state: The training to continue, from `start_training` or a leg before.
        draw: Draws images and labels; called as draw(n, seed=…).
        samples: How many images more to train on; a multiple of `batch`.
        batch: The number of images of a mini-batch; it must divide `BLOCK`.
        seed: The seed that those of the draws are derived from; the same in all legs.

    Returns:
        The training after those images, and for each draw the mean training loss, in nats, of
        its images that were trained on.

    Raises:
        BayesgapError: a batch or a number of images that does not fit, or a draw without the
            images and labels that were asked for.
    """
    _check_leg(state, samples, batch)
    network = copy.deepcopy(state.network).train().requires_grad_(True)
    optimiser = _adam(network, state)
    end = state.samples + samples
    losses = []
    with progress(f"training a CNN of width {network.width}", samples) as advance:
        for block, rows in _parts(state.samples, end):
            x, y = _drawn(network, draw, derived_seed(seed, block))
            of_batches = [
                step(network, optimiser, cross_entropy, images, labels)[0]
                for images, labels in zip(x[rows].split(batch), y[rows].split(batch), strict=True)
            ]
            losses.append(sum(of_batches) / len(of_batches))
            advance(batch * len(of_batches), note=f"loss {losses[-1]:.4f}")
    adam = {
        f"{what}.{name}": optimiser.state[parameter][what]
        for name, parameter in network.named_parameters()
        for what in REMEMBERED
    }
    network.eval().requires_grad_(False).zero_grad()
    return OnlineTraining(network, adam, end, state.learning_rate), losses


def _check_leg(state: OnlineTraining, samples: int, batch: int) -> None:
    if batch < 1 or BLOCK % batch:
        raise BayesgapError(f"Mini-batches must divide the {BLOCK} images of a draw; got {batch}.")
    for which, images in (("this leg has", samples), ("those before had", state.samples)):
        if images < 0 or images % batch:
            raise BayesgapError(
                f"Legs consist of whole mini-batches of {batch} images; {which} {images}."
            )


def _parts(first: int, end: int) -> Iterator[tuple[int, slice]]:
    """The draws that images first … end − 1 of a training come from, and their rows in each."""
    while first < end:
        block, row = divmod(first, BLOCK)
        count = min(BLOCK - row, end - first)
        yield block, slice(row, row + count)
        first += count


def _adam(network: AllConvolutional, state: OnlineTraining) -> torch.optim.Adam:
    """Adam with the memory of the legs before, a copy of it."""
    optimiser = torch.optim.Adam(network.parameters(), lr=state.learning_rate)
    for name, parameter in network.named_parameters():
        optimiser.state[parameter] = {
            what: state.adam[f"{what}.{name}"].clone() for what in REMEMBERED
        }
    return optimiser


def _drawn(
    network: AllConvolutional, draw: Draw, seed: int
) -> tuple[Float[Tensor, "n C H W"], Int[Tensor, " n"]]:
    """The images of one block in float32, and their labels."""
    x, y = draw(BLOCK, seed=seed)
    if tuple(x.shape) != (BLOCK, *network.image_shape) or len(y) != BLOCK:
        raise BayesgapError(
            f"A draw of {BLOCK} images of shape {network.image_shape} gave images "
            f"{tuple(x.shape)} and {len(y)} labels."
        )
    check_labels(y, network.classes)
    return x.float(), y
