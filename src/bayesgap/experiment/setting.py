"""What a run is asked for, and the cases that it studies: a task in one of its variants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bayesgap.errors import BayesgapError
from bayesgap.experiment.scales import SCALES, Draws, Scale
from bayesgap.images.source import Source
from bayesgap.images.sources import SOURCES, source_of
from bayesgap.norms import L2, Norm
from bayesgap.tasks.catalog import Known

SYMMETRIC, ASYMMETRIC, NOISY, REAL = "symmetric", "asymmetric", "noisy", "real"
VARIANTS = (SYMMETRIC, ASYMMETRIC)  # the paper's two of a fitted task
DIGIT_TASKS = ("mnist-0-6", "mnist-2-7", "mnist-4-5")  # the paper's, which travel with the package
NOISE_MULTIPLE = 50  # of the noisy variant, appendix D.2


@dataclass(frozen=True)
class Case:
    """A task in one variant: what classifiers learn from and are attacked on.

    Attributes:
        task: The task's name without a variant, for example "mnist-0-6".
        variant: "symmetric", "asymmetric", "noisy" (the symmetric one with fifty times the noise)
            or "real" (the images that the task was fitted to).
    """

    task: str
    variant: str

    def __str__(self) -> str:
        return f"{self.task}/{self.variant}"


@dataclass(frozen=True)
class Setting:
    """What a run was asked for.

    Attributes:
        scale: How much to compute: "quick", "default" or "paper".
        seed: The one number that all random numbers follow from.
        tasks: The fitted tasks that are at hand, by name.
        sources: Where real images come from, those described but not at hand included.
        scales: The sizes of each scale, by the key that a source names.
        draws: How many images stages draw for purposes of their own.
        norm: What perturbations are measured by.
    """

    scale: str
    seed: int
    tasks: Mapping[str, Known]
    sources: Sequence[Source] = SOURCES
    scales: Mapping[str, Mapping[str, Scale]] = field(default_factory=lambda: SCALES)
    draws: Draws = field(default_factory=Draws)
    norm: Norm = L2

    def source(self, task: str) -> Source:
        """The source of a task's real images."""
        return source_of(task, self.sources)

    def scale_for(self, task: str) -> Scale:
        """The sizes for one task.

        Raises:
            BayesgapError: there is no such scale.
        """
        scales = self.scales[self.source(task).sizes]
        if self.scale not in scales:
            raise BayesgapError(f"There is no scale {self.scale!r}. Known are {', '.join(scales)}.")
        return scales[self.scale]

    def known(self, task: str) -> Known:
        """The fitted task of that name.

        Raises:
            BayesgapError: it is not at hand.
        """
        if task not in self.tasks:
            raise BayesgapError(f"The task {task} is not at hand.")
        return self.tasks[task]

    def with_real_images(self) -> list[str]:
        """The names of the tasks whose real images are at hand."""
        return [task for task in self.tasks if self.source(task).at_hand]
