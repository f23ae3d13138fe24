"""What a figure or table of the paper is here: the stages that it needs, and its claims."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bayesgap.errors import BayesgapError
from bayesgap.paper.claim import Claim
from bayesgap.paper.scales import Scale, scale_for
from bayesgap.runs.run import Finished
from bayesgap.runs.stage import Stage
from bayesgap.runs.store import Result
from bayesgap.tasks.catalog import Known


@dataclass(frozen=True)
class Setting:
    """What a run was asked for.

    Attributes:
        scale: How much to compute: "quick", "default" or "paper".
        seed: The one number that all random numbers follow from.
        tasks: The fitted tasks that are at hand, by name.
        celeba: The folder of the copy of CelebA that is at hand, and its checksum.
    """

    scale: str
    seed: int
    tasks: Mapping[str, Known]
    celeba: tuple[str, str] | None = None

    def scale_for(self, name: str) -> Scale:
        """The sizes for one task."""
        return scale_for(self.scale, name)

    def known(self, name: str) -> Known:
        """A task that is at hand.

        Raises:
            BayesgapError: it is not.
        """
        if name not in self.tasks:
            raise BayesgapError(f"The task {name} is not at hand.")
        return self.tasks[name]


def every_task(setting: Setting) -> tuple[str, ...]:
    """All tasks at hand."""
    return tuple(setting.tasks)


@dataclass(frozen=True)
class Exhibit:
    """A figure or table of the paper.

    Attributes:
        name: As the command line calls it, for example "fig2".
        title: What it shows.
        needs: In a few plain words, for `bayesgap reproduce --list`.
        stages: Which it needs besides the attacks on tasks' classifiers, by name.
        claims: What the paper says of it, judged by the results of `stages`.
        tasks: Which of the tasks at hand it is about.
        only: The one task that it is about, where there is one.
        jobs: The variants of each of those tasks whose classifiers are attacked for it, and the
            kinds of classifiers.
        judges: What the paper says of it, judged by those attacks' `Results`.
    """

    name: str
    title: str
    needs: str
    stages: Callable[[Setting], Mapping[str, Stage]] = lambda setting: {}
    claims: Callable[[Mapping[str, Result]], Sequence[Claim]] = lambda found: ()
    tasks: Callable[[Setting], tuple[str, ...]] = every_task
    only: str | None = None
    jobs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    judges: Sequence[Callable[[Any], Claim]] = ()

    def available(self, setting: Setting) -> bool:
        """Whether one of its tasks is at hand, where it is about tasks."""
        return not self.jobs or bool(self.tasks(setting))

    def found(self, setting: Setting, finished: Finished) -> dict[str, Result]:
        """The results of its own stages."""
        return {name: finished[stage] for name, stage in self.stages(setting).items()}
