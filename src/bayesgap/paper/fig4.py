"""Figure 4: samples, and attacks on the optimum of symmetric and asymmetric data."""

from bayesgap.paper import claims
from bayesgap.paper.exhibit import Exhibit
from bayesgap.paper.gallery import BOTH_OPTIMA, OWN_TASKS

EXHIBIT = Exhibit(
    name="fig4",
    title="The optimum is robust on symmetric data and brittle on asymmetric data",
    needs=f"{OWN_TASKS}, and faces where they are fitted",
    jobs=BOTH_OPTIMA,
    judges=(
        claims.optimum_is_accurate,
        claims.symmetric_optimum_is_robust,
        claims.asymmetric_optimum_is_brittle,
        claims.definitions_agree,
        claims.rules_agree,
        claims.ld_grad_agrees_with_cw,
    ),
)
