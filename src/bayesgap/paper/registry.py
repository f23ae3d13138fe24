"""All figures and tables: a new one takes its own module, and a line here."""

from collections.abc import Sequence

from bayesgap.errors import BayesgapError, did_you_mean
from bayesgap.paper import fig1, fig4, fig6, fig7, fig11, fig12, gamma, table1, variants
from bayesgap.paper.engine import Exhibit
from bayesgap.paper.fig2 import exhibit as fig2
from bayesgap.paper.fig3 import exhibit as fig3
from bayesgap.paper.fig5 import exhibit as fig5
from bayesgap.paper.fig8 import exhibit as fig8
from bayesgap.paper.fig9 import exhibit as fig9
from bayesgap.paper.fig10 import exhibit as fig10
from bayesgap.paper.fig13_to_18 import EXHIBITS as GALLERIES
from bayesgap.paper.observations import exhibit as observations
from bayesgap.paper.table2 import exhibit as table2

EXHIBITS: tuple[Exhibit, ...] = (
    fig1.EXHIBIT,
    fig2.EXHIBIT,
    fig3.EXHIBIT,
    fig4.EXHIBIT,
    fig5.EXHIBIT,
    fig6.EXHIBIT,
    fig7.EXHIBIT,
    fig8.EXHIBIT,
    fig9.EXHIBIT,
    fig10.EXHIBIT,
    fig11.EXHIBIT,
    fig12.EXHIBIT,
    *GALLERIES,
    table1.EXHIBIT,
    table2.EXHIBIT,
    observations.EXHIBIT,
    gamma.EXHIBIT,
    variants.EXHIBIT,
)
ALL = "all"
# What `reproduce` shows where nothing is asked for: every classifier on the digits.
MAIN = ("table1", "fig4", "fig6", "variants", "observations", "gamma", "fig17", "fig18")


def choose(names: Sequence[str], exhibits: Sequence[Exhibit] = EXHIBITS) -> list[Exhibit]:
    """The figures and tables of those names.

    Args:
        names: Names of exhibits; "all" means all of them, and none the main job's.
        exhibits: The exhibits to choose from.

    Raises:
        BayesgapError: there is no such figure or table.

    Example:
        >>> [exhibit.label for exhibit in choose(["fig2", "table1"])]
        ['Figure 2', 'Table 1']
    """
    by_name = {exhibit.name: exhibit for exhibit in exhibits}
    if ALL in names:
        return list(exhibits)
    for name in names:
        if name not in by_name:
            known = f"{ALL}, {', '.join(by_name)}"
            hint = did_you_mean(name, by_name)
            raise BayesgapError(f"There is no figure or table {name!r}.{hint} Known are {known}.")
    return [by_name[name] for name in names or MAIN]
