"""Figure 11: CNNs of adversarial training (appendix D.3).

The paper trains by TRADES with beta = 10 and names neither the norm nor the radius of the ball in
which the inner ascent looks; both norms are tried here.
"""

from bayesgap.evaluation.measure import l2_table
from bayesgap.evaluation.statistics import paired_ratio_with_interval
from bayesgap.paper.claim import Claim, Number
from bayesgap.paper.claims import RECOVERED, guarded
from bayesgap.paper.exhibit import Exhibit
from bayesgap.paper.experiment import BAYES
from bayesgap.paper.gallery import OWN_TASKS
from bayesgap.paper.jobs import ROBUST, SYMMETRIC
from bayesgap.paper.results import Results


def robust_training_helps_little(results: Results) -> Claim:
    """Section 4 and appendix D.3."""
    numbers = []
    for task in results.tasks_with(SYMMETRIC, ROBUST[0]):
        y = results.points[task, SYMMETRIC]["y"]
        plain = l2_table(results.measured[task, SYMMETRIC, "cnn"].best, y)
        for kind in ROBUST:
            record = results.headline(task, SYMMETRIC, kind)
            success = min(
                one["success_rate"] or 0.0
                for one in (record, results.headline(task, SYMMETRIC, "cnn"))
            )
            own = l2_table(results.measured[task, SYMMETRIC, kind].best, y)
            ratios = {
                "L2 / optimum's": (
                    results.relative_l2(task, SYMMETRIC, kind),
                    {"at_most": RECOVERED},
                ),
                "L2 / plain CNN's": (paired_ratio_with_interval(own, plain), {"at_least": 1.0}),
            }
            numbers += [
                Number(
                    f"{task}, {kind}, {label}",
                    *guarded(ratio, success),
                    trainings=record["seeds"],
                    **range_,
                )
                for label, (ratio, range_) in ratios.items()
            ]
    return Claim(
        "adversarial training helps little",
        "A CNN trained by TRADES is more robust than a plain one, and still far from the optimum.",
        "slightly more robust, still far from the Bayes-optimal model (appendix D.3, figure 11)",
        "mean L2 at least that of plain CNNs and at most "
        f"{RECOVERED} of the optimum's certified lower bound, for every ball on each task",
        numbers,
        [
            "The paper names neither the norm nor the radius of the ball, and they decide the "
            "outcome; 0.3 is the L∞ radius that TRADES' authors use for MNIST."
        ],
    )


EXHIBIT = Exhibit(
    name="fig11",
    title="CNNs of adversarial training (TRADES, beta 10), beside the optimum",
    needs=f"{OWN_TASKS}, and faces where they are fitted",
    jobs={SYMMETRIC: (BAYES, "cnn", *ROBUST)},
    judges=(robust_training_helps_little,),
)
