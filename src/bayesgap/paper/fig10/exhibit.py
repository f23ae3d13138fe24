"""Figure 10: fifty times the noise (appendix D.2)."""

from functools import partial

from bayesgap.drawing import Section, percent
from bayesgap.evaluation.statistics import (
    ratio_with_interval,
    share_with_interval,
)
from bayesgap.experiment import (
    CNN,
    NOISE_MULTIPLE,
    NOISY,
    OPTIMUM,
    SYMMETRIC,
    Case,
    Setting,
    data_stage,
)
from bayesgap.paper import pictures
from bayesgap.paper.engine import Claim, Exhibit, Findings, Key, Named, Number, Wants, attacks
from bayesgap.paper.fig10.study import IMAGES, compare_optima
from bayesgap.paper.rules import (
    ACCURATE,
    ALIKE,
    RECOVERED,
    accuracy,
    guarded,
    lowest_success,
)
from bayesgap.runs.stage import Stage, seed_of

SAME = 0.99  # share of points on which the two optima decide alike
SIDES = ("plain", "noisy")  # whose samples both optima decide


def wants(setting: Setting, *, images: int) -> Wants:
    """Attacks on the optimum and CNNs with and without noise, and the two optima compared.

    Args:
        setting: What the run was asked for.
        images: How many samples both optima decide.
    """
    return Wants(
        attacks(setting.tasks, dict.fromkeys((SYMMETRIC, NOISY), (OPTIMUM, CNN))),
        {Named(task): _comparison(setting, task, images) for task in setting.tasks},
    )


def _comparison(setting: Setting, task: str, images: int) -> Stage:
    changed = {} if images == IMAGES else {"images": images}
    return Stage(
        "same-decisions",
        compare_optima,
        {"sample_seed": seed_of("noise", setting.seed), **changed},
        {
            "plain": data_stage(setting, Case(task, SYMMETRIC)),
            "noisy": data_stage(setting, Case(task, NOISY)),
        },
        f"optima of {task} with and without noise",
    )


def claims(findings: Findings) -> list[Claim]:
    """Appendix D.2."""
    return [optimum_stays_robust(findings), cnn_stays_brittle(findings), decisions_stay(findings)]


def optimum_stays_robust(findings: Findings) -> Claim:
    """The optimum remains robust."""
    return Claim(
        "noise leaves the optimum robust",
        "With fifty times the noise the optimum is as robust as before.",
        "remains robust; its dashed lines stay where they are (figure 10)",
        f"mean certified lower bound at points with the noise at least {RECOVERED} of that at the "
        "same points without, on each task",
        [
            Number(
                task,
                ratio_with_interval(findings.lower(task, NOISY), findings.lower(task, SYMMETRIC)),
                at_least=RECOVERED,
            )
            for task in findings.tasks(NOISY)
        ],
    )


def cnn_stays_brittle(findings: Findings) -> Claim:
    """The effect on CNNs is minor."""
    numbers = []
    for task in findings.tasks(NOISY, CNN):
        noisy, plain = (findings.measured(task, variant, CNN) for variant in (NOISY, SYMMETRIC))
        success = lowest_success(noisy, plain)
        relative = findings.case(task, NOISY).relative_size(CNN)
        change = ratio_with_interval(noisy.sizes, plain.sizes)
        number = partial(Number, trainings=min(len(noisy.sizes), len(plain.sizes)))
        numbers += [
            accuracy(noisy, at_least=ACCURATE),
            number(f"{task}, L2 / optimum's", guarded(relative, success), at_most=RECOVERED),
            number(
                f"{task}, L2 with over without noise",
                guarded(change, success),
                at_least=ALIKE[0],
                at_most=ALIKE[1],
            ),
        ]
    return Claim(
        "noise does not help CNNs",
        "A CNN trained on samples with fifty times the noise is about as brittle as before.",
        "only a small effect on CNNs trained on the noisy samples (figure 10)",
        f"accuracy on fresh samples at least {ACCURATE:.0%}, mean L2 at most {RECOVERED} of the "
        "certified lower bound of the optimum there, and "
        f"between {ALIKE[0]} and {ALIKE[1]} of that of CNNs trained without, on each task",
        numbers,
    )


def decisions_stay(findings: Findings) -> Claim:
    """The optimum keeps its decisions."""
    return Claim(
        "noise leaves the optimum's decisions alone",
        "With fifty times the noise the optimum decides the same points alike.",
        "it does not change its decision boundary (appendix D.2)",
        f"the optima of both noises decide at least {SAME:.0%} of samples of either alike",
        [
            Number(
                f"{task}, {name} samples",
                share_with_interval([result.values[name]], result.values["images"]),
                at_least=SAME,
            )
            for task, result in findings.results.items()
            for name in SIDES
        ],
    )


def section(findings: Findings) -> Section:
    """Samples with the noise, and the sizes with and without it."""
    tasks = findings.tasks(NOISY)
    least = min(_alike(findings, key) for key in findings.results)
    images = max(result.values["images"] for result in findings.results.values())
    chart = [
        pictures.on_tasks(findings, tasks, variant, kind)
        for kind in (OPTIMUM, CNN)
        for variant in (SYMMETRIC, NOISY)
    ]
    cases = [findings.case(task, variant) for task in tasks for variant in (SYMMETRIC, NOISY)]
    return Section(
        [
            f"The optima with and without {NOISE_MULTIPLE} times the noise decide "
            f"{percent(least, 2)} of {images:,} samples alike, on the task where it is least."
        ],
        [
            pictures.samples(findings, pictures.shown_of(tasks), (SYMMETRIC, NOISY)),
            pictures.bar_chart(
                {f"{NOISE_MULTIPLE} times the noise": chart},
                "the optimum and CNNs with and without noise",
            ),
        ],
        [pictures.numbers_table(cases, (OPTIMUM, CNN))],
    )


def _alike(findings: Findings, key: Key) -> float:
    values = findings[key].values
    alike: float = min(values[name] / values["images"] for name in SIDES)
    return alike


def exhibit(*, images: int = IMAGES) -> Exhibit:
    """The figure.

    Args:
        images: How many samples both optima decide.
    """
    return Exhibit(
        name="fig10",
        label="Figure 10",
        title=f"{NOISE_MULTIPLE} times the noise: the optimum and the CNN",
        needs=pictures.OWN_TASKS_AND_FACES,
        wants=partial(wants, images=images),
        section=section,
        claims=claims,
    )


EXHIBIT = exhibit()
