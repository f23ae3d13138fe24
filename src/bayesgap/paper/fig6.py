"""Figure 6: mean L2 of every classifier on every symmetric task."""

from bayesgap.paper import claims
from bayesgap.paper.exhibit import Exhibit
from bayesgap.paper.gallery import OWN_TASKS
from bayesgap.paper.jobs import KINDS, SYMMETRIC, WIDE

EXHIBIT = Exhibit(
    name="fig6",
    title="How large a change each classifier needs, on all symmetric tasks",
    needs=f"{OWN_TASKS}, and faces where they are fitted",
    jobs={SYMMETRIC: (*KINDS, WIDE)},
    judges=(
        claims.cnn_is_brittle,
        claims.cnn_changes_are_meaningless,
        claims.linear_svm_is_brittle,
        claims.rbf_svm_recovers,
        claims.wide_rbf_is_linear,
    ),
)
