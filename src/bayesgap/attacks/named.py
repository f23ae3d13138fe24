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

WITHOUT_POOL: dict[str, Callable[[], Attack]] = {
    "ld-grad": LDGrad,
    "ld-grad-tight": TightLDGrad,
    "closed-form": LinearClosedForm,
    "ddn": ddn,
    "cw-l2": cw_l2,
}
BOUNDARY_WALK = "boundary-walk"
PRESETS = (*WITHOUT_POOL, BOUNDARY_WALK)


def named_attack(name: str, *, pool: Float[Tensor, "m C H W"] | None = None) -> Attack:
    """The attack of that name.

    Args:
        name: One of `PRESETS`.
        pool: Samples from which "boundary-walk" starts; the others need none.

    Raises:
        BayesgapError: no such name, or a boundary walk without a pool.
    """
    if name in WITHOUT_POOL:
        return WITHOUT_POOL[name]()
    if name != BOUNDARY_WALK:
        raise BayesgapError(f"There is no attack {name!r}. Known are {', '.join(PRESETS)}.")
    if pool is None:
        raise BayesgapError(f"A {name} starts from samples: give some of the task's as pool.")
    return BoundaryWalk(pool, attacks=[ddn()])
