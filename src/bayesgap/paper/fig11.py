"""Figure 11: CNNs of adversarial training (appendix D.3).

The paper trains by TRADES with beta = 10 and names neither the norm nor the radius of the ball in
which the inner ascent looks; both norms are tried here.
"""

from bayesgap.drawing import Section
from bayesgap.evaluation.statistics import paired_ratio_with_interval
from bayesgap.experiment import CNN, OPTIMUM, ROBUST, SYMMETRIC, Kind, Setting
from bayesgap.paper import pictures
from bayesgap.paper.engine import Claim, Exhibit, Findings, Number, Wants, attacks
from bayesgap.paper.rules import ACCURATE, RECOVERED, accuracy, guarded, lowest_success

KINDS = (OPTIMUM, CNN, *ROBUST)
BALLS = dict(zip(ROBUST, ("an L2 ball", "an L∞ ball", "a wide L∞ ball"), strict=True))


def wants(setting: Setting) -> Wants:
    """CNNs with and without adversarial training, beside the optimum."""
    return Wants(attacks(setting.tasks, {SYMMETRIC: KINDS}))


def claims(findings: Findings) -> list[Claim]:
    """Section 4 and appendix D.3, of each ball by itself."""
    return [robust_training_helps_little(findings, kind) for kind in ROBUST]


def robust_training_helps_little(findings: Findings, kind: Kind) -> Claim:
    """Adversarial training within one of the balls."""
    numbers, radii = [], {}
    for task in findings.tasks(SYMMETRIC, kind):
        radii[task] = findings.setting.scale_for(task).robust[kind.name]["ball"]["radius"]
        case = findings.case(task, SYMMETRIC)
        own, plain = case.measured[kind], case.measured[CNN]
        success, trainings = lowest_success(own, plain), min(len(own.sizes), len(plain.sizes))
        relative = guarded(case.relative_size(kind), success)
        gain = guarded(paired_ratio_with_interval(own.sizes, plain.sizes), success)
        numbers += [
            accuracy(own, at_least=ACCURATE),
            Number(f"{task}, L2 / optimum's", relative, at_most=RECOVERED, trainings=trainings),
            Number(f"{task}, L2 / plain CNN's", gain, at_least=1.0, trainings=trainings),
        ]
    return Claim(
        f"adversarial training helps little, within {BALLS[kind]}",
        f"A CNN trained by TRADES within {BALLS[kind]} is more robust than a plain one, and still "
        "far from the optimum.",
        "slightly more robust, still far from the Bayes-optimal model (appendix D.3, figure 11)",
        f"accuracy on fresh samples at least {ACCURATE:.0%}, and mean L2 at least that of plain "
        f"CNNs and at most {RECOVERED} of the optimum's certified lower bound, on each task",
        numbers,
        [
            "The paper names neither the norm nor the radius of its ball, and they decide the "
            "outcome: each of ours is judged by itself. (0.3 is the L∞ radius that TRADES' "
            "authors use for MNIST.)",
            *(f"The ball's radius is {radius:.3g} on {task}." for task, radius in radii.items()),
        ],
    )


def section(findings: Findings) -> Section:
    """The radii, and the sizes with and without adversarial training."""
    tasks = findings.tasks(SYMMETRIC)
    scales = {
        findings.setting.source(task).what: findings.setting.scale_for(task) for task in tasks
    }
    balls = [
        f"{kind.label} radius {scale.robust[kind.name]['ball']['radius']:g} on {what}"
        for what, scale in scales.items()
        for kind in ROBUST
    ]
    chart = [pictures.on_tasks(findings, tasks, SYMMETRIC, kind) for kind in KINDS]
    cases = [findings.case(task, SYMMETRIC) for task in tasks]
    return Section(
        ["The radii are ours: " + ", ".join(balls) + ". Beta is the paper's 10."],
        [
            pictures.bar_chart(
                {"symmetric tasks": chart}, "CNNs with and without adversarial training"
            )
        ],
        [pictures.numbers_table(cases, KINDS)],
    )


EXHIBIT = Exhibit(
    name="fig11",
    label="Figure 11",
    title="CNNs of adversarial training (TRADES, beta 10), beside the optimum",
    needs=pictures.OWN_TASKS_AND_FACES,
    wants=wants,
    section=section,
    claims=claims,
)
