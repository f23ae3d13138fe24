"""The curves of figure 9: one network's trainings over the samples that they saw."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bayesgap.estimates import Estimate
from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.paper.engine import Findings, Key
from bayesgap.paper.rules import ACCURATE
from bayesgap.runs.store import Result


@dataclass(frozen=True)
class Checkpoint(Key):
    """A network of one training after so many samples.

    Attributes:
        task: The name of the task whose samples it saw.
        width: The width of its first convolution.
        scales: How many scales it has, two convolutions each.
        replicate: Which of the trainings it is of.
        samples: How many samples it saw.
    """

    task: str
    width: int
    scales: int
    replicate: int
    samples: int


@dataclass(frozen=True)
class Shared(Key):
    """What all networks of a task share.

    Attributes:
        task: The name of the task.
        what: `CERTIFIED`, the optimum's certified radii, or `POINTS`, the attacked points.
    """

    task: str
    what: str


CERTIFIED, POINTS = "certified", "points"


@dataclass(frozen=True)
class Curve:
    """One network's trainings.

    Attributes:
        task: The name of the task whose samples they saw.
        width: The width of the first convolution.
        scales: How many scales the network has, two convolutions each.
        samples: How many samples were seen at each checkpoint.
        l2: For each checkpoint, the L2 at each point of each training.
        lower: The optimum's certified lower bound at these points.
        correct: For each checkpoint, how many test images each training decides correctly.
        images: How many test images there were.
        success: For each checkpoint, the attack's lowest success rate of all trainings.
    """

    task: str
    width: int
    scales: int
    samples: list[int]
    l2: list[Float[Tensor, "seeds points"]]
    lower: Float[Tensor, " points"]
    correct: list[list[int]]
    images: int
    success: list[float]

    @property
    def name(self) -> str:
        """What the figure calls the network."""
        return f"width {self.width}, {2 * self.scales + 1} convolutions"

    @property
    def optimum(self) -> float:
        """The optimum's mean certified lower bound."""
        return self.lower.nanmean().item()

    def means(self) -> list[Estimate]:
        """The mean L2 at each checkpoint."""
        return [mean_with_interval(l2) for l2 in self.l2]

    def accurate(self, checkpoint: int) -> bool:
        """Whether every training was accurate there: what has not learned says nothing."""
        return min(self.correct[checkpoint]) >= ACCURATE * self.images


def curves(findings: Findings) -> list[Curve]:
    """The results of all checkpoints, network by network."""
    checkpoints = [key for key in findings.results if isinstance(key, Checkpoint)]
    networks = dict.fromkeys((key.task, key.width, key.scales) for key in checkpoints)
    return [
        _curve(
            findings, [key for key in checkpoints if (key.task, key.width, key.scales) == network]
        )
        for network in networks
    ]


def _curve(findings: Findings, own: list[Checkpoint]) -> Curve:
    """The curve of one network's checkpoints."""
    samples = list(dict.fromkeys(key.samples for key in own))
    results = [[findings[key] for key in own if key.samples == seen] for seen in samples]
    l2 = [torch.stack([result.tensors["l2"] for result in row]) for row in results]
    first = own[0]
    return Curve(
        task=first.task,
        width=first.width,
        scales=first.scales,
        samples=samples,
        l2=l2,
        lower=_lower(findings, first.task)[: l2[0].shape[1]],
        correct=[[result.values["correct"] for result in row] for row in results],
        images=results[0][0].values["images"],
        success=[min(_successes(row)) for row in results],
    )


def _lower(findings: Findings, task: str) -> Float[Tensor, " points"]:
    certified, points = (findings[Shared(task, what)].tensors for what in (CERTIFIED, POINTS))
    return torch.where(certified["before"] == points["y"], certified["lower"], torch.nan)


def _successes(row: list[Result]) -> Iterator[float]:
    for result in row:
        yield result.values["success_rate"] or 0.0
