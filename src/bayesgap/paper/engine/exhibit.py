"""What a figure or table is: what it wants computed, its claims, and its section of the report.

All three are functions in the exhibit's own module; `registry` lists the exhibits. What was
computed reaches claims and section as one view, `Findings`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from jaxtyping import Float
from torch import Tensor

from bayesgap.drawing import Section
from bayesgap.experiment import Case, CaseResults, Kind, Measured, Setting
from bayesgap.paper.engine.claim import Claim
from bayesgap.runs.stage import Stage
from bayesgap.runs.store import Result


class Key:
    """Names one of an exhibit's own stages: subclasses are frozen dataclasses."""

    def __str__(self) -> str:
        """All fields, as `results.json` names the stage."""
        return "|".join(str(getattr(self, each.name)) for each in fields(self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Named(Key):
    """A stage that a name tells from the exhibit's others.

    Attributes:
        name: For example "mole", or the name of a task.
    """

    name: str


@dataclass(frozen=True)
class Wants:
    """What an exhibit needs computed; nothing where its tasks are not at hand.

    Attributes:
        attacks: For each case, the kinds of classifiers that are attacked.
        stages: The exhibit's own stages.
    """

    attacks: Mapping[Case, tuple[Kind, ...]] = field(default_factory=dict)
    stages: Mapping[Key, Stage] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.attacks or self.stages)


def attacks(
    tasks: Iterable[str], kinds: Mapping[str, tuple[Kind, ...]]
) -> dict[Case, tuple[Kind, ...]]:
    """The same kinds of classifiers on each task, by the variant that they are attacked on."""
    return {Case(task, variant): each for task in tasks for variant, each in kinds.items()}


@dataclass(frozen=True)
class Findings:
    """What an exhibit is handed: all that it wanted, computed.

    Attributes:
        setting: What the run was asked for.
        cases: What came of each case that was studied, by whichever exhibit wanted it.
        wanted: What this exhibit wanted.
        results: The results of its own stages.
    """

    setting: Setting
    cases: Mapping[Case, CaseResults]
    wanted: Wants
    results: Mapping[Key, Result]

    def __getitem__(self, key: Key) -> Result:
        """The result of one of its own stages."""
        return self.results[key]

    def tasks(self, variant: str, kind: Kind | None = None) -> list[str]:
        """The names of its tasks in a variant, of those with a kind where one is given."""
        return [
            case.task
            for case, kinds in self.wanted.attacks.items()
            if case.variant == variant and (kind is None or kind in kinds)
        ]

    def case(self, task: str, variant: str) -> CaseResults:
        """What came of one case."""
        return self.cases[Case(task, variant)]

    def measured(self, task: str, variant: str, kind: Kind) -> Measured:
        """What came of the attacks on one kind of classifier."""
        return self.case(task, variant).measured[kind]

    def lower(self, task: str, variant: str) -> Float[Tensor, "1 points"]:
        """The optimum's certified distances as one row, NaN where it decides wrongly."""
        return self.case(task, variant).lower()[None]


@dataclass(frozen=True)
class Exhibit:
    """A figure or table of the paper, or something else that a report shows.

    Attributes:
        name: What the command line calls it, for example "fig2".
        label: What the report calls it, for example "Figure 2".
        title: What it shows, in one line.
        needs: What must be at hand, in a few plain words, for `bayesgap reproduce --list`.
        wants: What it needs computed.
        section: Its section of the report.
        claims: What the paper says of it, judged.
        only: The one task that it is about, where there is one.
    """

    name: str
    label: str
    title: str
    needs: str
    wants: Callable[[Setting], Wants]
    section: Callable[[Findings], Section]
    claims: Callable[[Findings], Sequence[Claim]] = lambda found: ()
    only: str | None = None
