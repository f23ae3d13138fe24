"""Figure 7: more tasks whose optima are robust or brittle as the data are."""

from bayesgap.paper.exhibit import Exhibit, Setting
from bayesgap.paper.gallery import BOTH_OPTIMA, OWN_TASKS, preferring


def others(setting: Setting) -> tuple[str, ...]:
    """Every task at hand but the one of figure 1."""
    shown = preferring("celeba-male", setting)
    return tuple(name for name in setting.tasks if name not in shown)


EXHIBIT = Exhibit(
    name="fig7",
    title="More optima, robust on symmetric data and brittle on asymmetric data",
    needs=f"{OWN_TASKS}, and faces where they are fitted",
    tasks=others,
    jobs=BOTH_OPTIMA,
)
