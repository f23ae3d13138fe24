"""All figures and tables of the paper, and what a run of some of them has to compute."""

from collections.abc import Sequence

from bayesgap.errors import BayesgapError
from bayesgap.paper import (
    fig1,
    fig2,
    fig3,
    fig4,
    fig5,
    fig6,
    fig7,
    fig8,
    fig9,
    fig10,
    fig11,
    fig12,
    fig13,
    fig14,
    fig15,
    fig16,
    fig17,
    fig18,
    table1,
    table2,
)
from bayesgap.paper.claim import Claim
from bayesgap.paper.exhibit import Exhibit, Setting
from bayesgap.paper.jobs import KINDS, TASKS, VARIANTS, TaskJob, build
from bayesgap.paper.results import Results
from bayesgap.runs.run import Finished

MODULES = (
    *(fig1, fig2, fig3, fig4, fig5, fig6, fig7, fig8, fig9, fig10),
    *(fig11, fig12, fig13, fig14, fig15, fig16, fig17, fig18, table1, table2),
)
EXHIBITS = {module.EXHIBIT.name: module.EXHIBIT for module in MODULES}
MAIN = ("fig4", "fig6", "table1")  # whose claims the main job judges


def choose(names: Sequence[str]) -> list[Exhibit]:
    """The figures and tables of those names; "all" are all.

    Raises:
        BayesgapError: no such figure or table.
    """
    if "all" in names:
        return list(EXHIBITS.values())
    for name in names:
        if name not in EXHIBITS:
            raise BayesgapError(
                f"There is no figure or table {name!r}. Known are all, {', '.join(EXHIBITS)}."
            )
    return [EXHIBITS[name] for name in names]


def jobs_of(setting: Setting, exhibits: Sequence[Exhibit], *, main: bool) -> list[TaskJob]:
    """The attacks on tasks' classifiers that some exhibits need, each once.

    Args:
        setting: What the run was asked for.
        exhibits: Which.
        main: Whether to add those of the main job.
    """
    wanted: dict[tuple[str, str], dict[str, None]] = {}
    if main:
        names = [name for name in TASKS if name in setting.tasks]
        wanted = {(name, v): dict.fromkeys(KINDS) for name in names for v in VARIANTS}
        exhibits = [*exhibits, *(EXHIBITS[name] for name in MAIN)]
    for exhibit in exhibits:
        for name in exhibit.tasks(setting):
            for variant, kinds in exhibit.jobs.items():
                wanted.setdefault((name, variant), {}).update(dict.fromkeys(kinds))
    return build(setting, {where: tuple(kinds) for where, kinds in wanted.items()})


def judge(
    exhibits: Sequence[Exhibit], setting: Setting, finished: Finished, results: Results
) -> dict[str, list[Claim]]:
    """The claims of each exhibit that is available."""
    return {
        exhibit.name: [
            *(judged(results) for judged in exhibit.judges),
            *exhibit.claims(exhibit.found(setting, finished)),
        ]
        for exhibit in exhibits
        if exhibit.available(setting)
    }
