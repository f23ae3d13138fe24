"""A run of exhibits: what they want together, computed once, and each one's view of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bayesgap.errors import BayesgapError
from bayesgap.estimates import UNKNOWN
from bayesgap.experiment import (
    KINDS,
    VARIANTS,
    Case,
    CaseGraph,
    CaseResults,
    Kind,
    Setting,
    case_graph,
    collect,
)
from bayesgap.norms import L2
from bayesgap.paper.engine.claim import Claim
from bayesgap.paper.engine.exhibit import Exhibit, Findings, Wants
from bayesgap.runs.run import Finished, Resources, run
from bayesgap.runs.store import Store


@dataclass(frozen=True)
class Plan:
    """What a run will compute.

    Attributes:
        setting: What the run was asked for.
        exhibits: The figures and tables that the report shows, in order.
        wanted: What each exhibit wants, by its name.
        graphs: The stages of each case that is studied.
    """

    setting: Setting
    exhibits: Sequence[Exhibit]
    wanted: Mapping[str, Wants]
    graphs: Sequence[CaseGraph]


@dataclass(frozen=True)
class Reproduction:
    """What came of a run.

    Attributes:
        plan: What the run was to compute.
        finished: The results of all stages.
        cases: What came of each case.
    """

    plan: Plan
    finished: Finished
    cases: Mapping[Case, CaseResults]

    def findings(self, exhibit: Exhibit) -> Findings | None:
        """What an exhibit is handed; None where what it needs was not at hand."""
        wanted = self.plan.wanted[exhibit.name]
        if not wanted:
            return None
        results = {key: self.finished[stage] for key, stage in wanted.stages.items()}
        return Findings(self.plan.setting, self.cases, wanted, results)

    def claims(self) -> dict[str, list[Claim]]:
        """The claims of each exhibit whose needs were at hand, by its name.

        They are about L2, so that sizes by another norm decide none of them.
        """
        return {
            exhibit.name: [self._judged(claim) for claim in exhibit.claims(found)]
            for exhibit in self.plan.exhibits
            if (found := self.findings(exhibit)) is not None
        }

    def _judged(self, claim: Claim) -> Claim:
        norm = self.plan.setting.norm
        if norm == L2:
            return claim
        numbers = [replace(number, estimate=UNKNOWN) for number in claim.numbers]
        remark = f"Not judged: the claim is about L2, and sizes were measured by {norm.name}."
        return replace(claim, numbers=numbers, remarks=[*claim.remarks, remark])


def plan(setting: Setting, exhibits: Sequence[Exhibit]) -> Plan:
    """What some exhibits need together, each stage once."""
    wanted = {exhibit.name: exhibit.wants(setting) for exhibit in exhibits}
    if len(wanted) < len(exhibits):
        names = ", ".join(exhibit.name for exhibit in exhibits)
        raise BayesgapError(f"Figures and tables need different names; got {names}.")
    kinds: dict[Case, dict[Kind, None]] = {}
    for wants in wanted.values():
        for case, several in wants.attacks.items():
            kinds.setdefault(case, {}).update(dict.fromkeys(several))
    graphs = [
        case_graph(setting, case, _in_order(kinds[case])) for case in _cases(setting, list(kinds))
    ]
    return Plan(setting, exhibits, wanted, graphs)


def _cases(setting: Setting, cases: Sequence[Case]) -> list[Case]:
    """The paper's variants task by task, then each further variant."""
    variants = list(dict.fromkeys([*VARIANTS, *(case.variant for case in cases)]))
    tasks = list(setting.tasks)

    def place(case: Case) -> tuple[int, int, int]:
        variant = variants.index(case.variant)
        return max(0, variant - len(VARIANTS) + 1), tasks.index(case.task), variant

    return sorted(cases, key=place)


def _in_order(kinds: Mapping[Kind, None]) -> list[Kind]:
    """The package's kinds as they are declared, then others."""
    return [*(kind for kind in KINDS if kind in kinds), *(k for k in kinds if k not in KINDS)]


def compute(planned: Plan, store: Store, resources: Resources) -> Reproduction:
    """Compute what the store lacks of a plan, and read all results."""
    own = [stage for wants in planned.wanted.values() for stage in wants.stages.values()]
    targets = [stage for graph in planned.graphs for stage in graph.targets()]
    finished = run([*targets, *own], store, resources)
    norm = planned.setting.norm
    cases = {graph.case: collect(graph, finished, norm) for graph in planned.graphs}
    return Reproduction(planned, finished, cases)
