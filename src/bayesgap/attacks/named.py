"""Attacks by name, at the settings that results are reported with."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from bayesgap.attacks.base import Attack
from bayesgap.attacks.boundary import BoundaryWalk
from bayesgap.attacks.ld_grad import LDGrad, TightLDGrad
from bayesgap.attacks.library import cw_l2, ddn
from bayesgap.attacks.linear import LinearClosedForm
from bayesgap.errors import BayesgapError

PRESETS: dict[str, Callable[[Float[Tensor, "m C H W"]], Attack]] = {
    "ld-grad": lambda pool: LDGrad(),
    "ld-grad-tight": lambda pool: TightLDGrad(),
    "closed-form": lambda pool: LinearClosedForm(),
    "ddn": lambda pool: ddn(),
    "cw-l2": lambda pool: cw_l2(),
    "boundary-walk": lambda pool: BoundaryWalk(pool, attacks=[ddn()]),
}


def named_attack(name: str, *, pool: Float[Tensor, "m C H W"]) -> Attack:
    """The attack of that name.

    Args:
        name: One of `PRESETS`.
        pool: Samples from which a boundary walk starts.

    Raises:
        BayesgapError: no such name.
    """
    if name not in PRESETS:
        raise BayesgapError(f"There is no attack {name!r}. Known are {', '.join(PRESETS)}.")
    return PRESETS[name](pool)
