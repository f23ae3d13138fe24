"""What a figure or table of the paper is here: the stages that it needs, and its claims."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bayesgap.paper.claim import Claim
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
        tasks: The fitted tasks that are at hand.
    """

    scale: str
    seed: int
    tasks: tuple[Known, ...]


@dataclass(frozen=True)
class Exhibit:
    """A figure or table of the paper.

    Attributes:
        name: As the command line calls it, for example "fig2".
        title: What it shows.
        needs: In one plain line, for `bayesgap reproduce --list`.
        stages: Which it needs besides the attacks on tasks' classifiers, by name.
        claims: What the paper says of it, judged by the results of `stages`.
        jobs: The variants of each task whose classifiers it shows, and their kinds.
        tasks: The names of the tasks that it is about; all that are at hand by default.
    """

    name: str
    title: str
    needs: str
    stages: Callable[[Setting], Mapping[str, Stage]] = lambda setting: {}
    claims: Callable[[Mapping[str, Result]], Sequence[Claim]] = lambda found: ()
    jobs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tasks: tuple[str, ...] | None = None

    def found(self, setting: Setting, finished: Finished) -> dict[str, Result]:
        """The results of its own stages."""
        return {name: finished[stage] for name, stage in self.stages(setting).items()}
